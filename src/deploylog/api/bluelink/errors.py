"""Error responses of the Bluelink API: one table from our errors to the engine's responses."""

import math
import re
from collections.abc import Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.bluelink.paths import CHANGES_STREAM
from deploylog.api.bluelink.truncation import render_json
from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    Forbidden,
    InvalidInput,
    InvalidPlan,
    MethodNotAllowed,
    NotFound,
    PlanNotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

PARSE_FAILED = "failed to parse the request body"
INVALID_FIELDS = "request body input validation failed"
UNRESOLVED = "the provided blueprint could not be resolved"
NOT_LOADED = "failed to load the blueprint document specified in the request"
UNEXPECTED = "an unexpected error occurred"


#: Messages that Bluelink documents for the stream of a change set, by status.
STREAM_WORDS = {404: "Not found", 500: "An unexpected error occurred"}

_STREAM = re.compile(CHANGES_STREAM.replace("{id}", "[^/]+"))


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one field of a request."""

    #: Starts with a dot.
    location: str
    message: str
    type: str


class InvalidFields(InvalidInput):
    """Some fields of the request are invalid."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        """``problems`` has an entry for each invalid field."""
        super().__init__(INVALID_FIELDS)
        self.problems = tuple(problems)


def _plain(error: DeploylogError) -> object:
    return {"message": error.message}


def _unexpected(error: DeploylogError) -> object:
    return {"message": UNEXPECTED}


def _unauthorized(error: DeploylogError) -> object:
    return {"message": "Unauthorized"}


def _unresolved(error: DeploylogError) -> object:
    return {"message": UNRESOLVED}


def _not_loaded(error: DeploylogError) -> object:
    return {
        "message": NOT_LOADED,
        "validationDiagnostics": [{"level": 1, "message": error.message}],
    }


def _fields(error: DeploylogError) -> object:
    problems = error.problems if isinstance(error, InvalidFields) else ()
    return {"message": error.message, "errors": problems}


#: Status and body by error class; the nearest base class applies.
ANSWERS: dict[type[BaseException], tuple[int, Callable[[DeploylogError], object]]] = {
    DeploylogError: (500, _unexpected),
    InvalidInput: (400, _plain),
    InvalidFields: (422, _fields),
    InvalidPlan: (422, _not_loaded),
    PlanNotFound: (400, _unresolved),
    TooLarge: (413, _plain),
    UnsupportedMedia: (415, _plain),
    Unauthenticated: (401, _unauthorized),
    Forbidden: (403, _plain),
    NotFound: (404, _plain),
    MethodNotAllowed: (405, _plain),
    Conflict: (409, _plain),
    CursorExpired: (410, _plain),
    TooMany: (429, _plain),
    Unavailable: (503, _plain),
}


async def respond(request: Request, error: DeploylogError) -> Response:
    """Return the response to a request that failed with ``error``."""
    if isinstance(error, MethodNotAllowed):
        return Response(status_code=405)
    if type(error) is NotFound:
        return _unrouted()
    status, render = next(ANSWERS[base] for base in type(error).__mro__ if base in ANSWERS)
    body = render_json(_published(request, status) or render(error))
    if isinstance(error, InvalidFields):
        body += b"\n"
    return Response(body, status, _headers(error), media_type="application/json")


def _published(request: Request, status: int) -> object:
    """The body that Bluelink documents for this response, if any."""
    if status in STREAM_WORDS and _STREAM.fullmatch(request.scope["path"]):
        return {"message": STREAM_WORDS[status]}
    return None


def _unrouted() -> Response:
    """Return what Go's router responds with on an unknown path."""
    headers = {"x-content-type-options": "nosniff"}
    return Response(b"404 page not found\n", 404, headers, media_type="text/plain")


def _headers(error: DeploylogError) -> dict[str, str]:
    if isinstance(error, TooMany | Unavailable):
        return {"retry-after": str(math.ceil(error.retry_after))}
    return {}
