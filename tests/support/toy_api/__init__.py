"""A toy API of one folder: one operation, one setting, one error."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deploylog.api.api import Api, Resource
from deploylog.api.context import ApiContext
from deploylog.api.operation import Body, Operation, path_parameter
from deploylog.api.settings import setting
from deploylog.errors import DeploylogError, NotFound, Unauthenticated


class ToySettings(msgspec.Struct, frozen=True, kw_only=True):
    toy_copies: Annotated[int, setting("Copies of each greeting.", 1, 3)] = 1


class ToyNotFound(NotFound):
    """Nobody has that name."""


class Greetings:
    def __init__(self, context: ApiContext, settings: ToySettings) -> None:
        self._copies = settings.toy_copies

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "nobody":
            raise ToyNotFound
        return JSONResponse([f"Hello, {name}"] * self._copies)


STATUSES = {Unauthenticated: 401, ToyNotFound: 404, NotFound: 410, DeploylogError: 500}


async def respond(request: Request, error: DeploylogError) -> Response:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return JSONResponse({"toy": type(error).__name__}, status)


API = Api(
    title="Toy: greetings",
    prefixes=("/toy/",),
    settings=ToySettings,
    resources=(
        Resource(
            endpoints=Greetings,
            operations=(
                Operation(
                    id="toyGreet",
                    method="GET",
                    path="/toy/greetings/{name}",
                    endpoint=Greetings.get,
                    summary="Greet someone",
                    tag="toy",
                    parameters=(path_parameter("name", "Whom to greet."),),
                    answers=(Body(help="The greetings.", type=list[str]),),
                ),
            ),
        ),
    ),
    respond=respond,
    error=Body(help="toy.", type=dict[str, str]),
    security={"toyTicket": {"type": "apiKey", "in": "header", "name": "X-Toy-Ticket"}},
)
