"""The published APIs: each a thin view of the log."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploylog.api import bluelink, escape, native, rfs
from deploylog.api.api import Api
from deploylog.api.aws import cloudformation, parallelcluster
from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.http.endpoint import Endpoint
from deploylog.api.operation import Operation, always
from deploylog.auth.authentication import Authentication
from deploylog.errors import NotFound

#: Every published API. To add one, import its folder and list its value here.
APIS: tuple[Api[Any], ...] = (
    native.API,
    rfs.API,
    bluelink.API,
    escape.API,
    parallelcluster.API,
    cloudformation.API,
)


def mount(
    context: ApiContext,
    settings: Mapping[type[msgspec.Struct], msgspec.Struct],
    *,
    gate: Authentication,
    failed: Callable[[str], None],
) -> list[Route]:
    """The paths of every API in one flat list: two APIs share a root.

    ``settings`` has the section of each API; ``failed`` is called with the class of each error.
    """
    return [
        Route(
            spelling,
            Endpoint(
                {each.method: handler for each, handler in served},
                respond=api.respond,
                authentication=gate,
                is_open={each.method: each.is_open for each, _ in served},
                answers_head=api.answers_head,
                body_limit=context.limits.sent,
                bodies=context.bodies,
                failed=failed,
            ),
        )
        for api in APIS
        for path, served in _by_path(api.handlers(context, settings[api.settings])).items()
        for spelling in _spellings(path, either_slash=api.either_slash)
    ]


def mount_open(
    endpoints: Mapping[str, Handler],
    *,
    gate: Authentication,
    bodies: BodyBudget,
    failed: Callable[[str], None],
) -> list[Route]:
    """Paths that anyone may get, with the errors of the native API."""
    return [
        Route(
            path,
            Endpoint(
                {"GET": endpoint},
                respond=native.API.respond,
                authentication=gate,
                is_open={"GET": always},
                answers_head=True,
                body_limit=0,
                bodies=bodies,
                failed=failed,
            ),
        )
        for path, endpoint in endpoints.items()
    ]


def _by_path(
    served: Iterable[tuple[Operation[Any], Handler]],
) -> dict[str, list[tuple[Operation[Any], Handler]]]:
    """The operations of each path. As OpenAPI says, a literal segment wins over a parameter."""
    paths: dict[str, list[tuple[Operation[Any], Handler]]] = {}
    for operation, handler in served:
        paths.setdefault(operation.path, []).append((operation, handler))
    return {path: paths[path] for path in sorted(paths, key=_parameters)}


def _parameters(path: str) -> list[bool]:
    """Which segments of the path are parameters."""
    return ["{" in segment for segment in path.split("/")]


def _spellings(path: str, *, either_slash: bool) -> tuple[str, ...]:
    if not either_slash:
        return (path,)
    return (path, path[:-1] if path.endswith("/") else f"{path}/")


async def respond_unrouted(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that no API has, in the words of the API with the longest prefix of it."""
    request = Request(scope, receive)
    path = request.url.path
    _, api = max(
        ((len(prefix), api) for api in APIS for prefix in api.prefixes if path.startswith(prefix)),
        key=lambda found: found[0],
    )
    error = NotFound(f"there is no {request.method} {path[:256]}")
    response = await api.respond(request, error)
    await response(scope, receive, send)
