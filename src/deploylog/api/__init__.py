"""The published APIs: each a thin view of the log."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploylog.api import bluelink, escape, rfs
from deploylog.api.api import Api, DeliveryFormat, NoSettings, no_authenticators, no_warnings
from deploylog.api.aws import cloudformation, parallelcluster
from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.endpoint import Endpoint, Respond
from deploylog.api.native import errors as native_errors
from deploylog.api.native import operations as native_operations
from deploylog.api.native import routes as native_routes
from deploylog.api.native.ingest import routes as native_ingest
from deploylog.api.native.wire import render_one
from deploylog.api.operation import Body, IsOpen, Operation, always, never
from deploylog.auth.authentication import Authentication
from deploylog.errors import NotFound


class _Routed(msgspec.Struct, frozen=True, kw_only=True):
    """An API whose routes and operations are apart."""

    title: str
    routes: Callable[[ApiContext], list[tuple[str, str, Handler]]]
    respond: Respond
    prefixes: tuple[str, ...]
    operations: tuple[Operation[Any], ...]
    is_open: IsOpen = never
    answers_head: bool = True
    either_slash: bool = False
    settings: type[msgspec.Struct] = NoSettings
    security: Mapping[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    error: Body | None = None
    authenticators: Any = no_authenticators
    delivery: DeliveryFormat | None = None
    warnings: Any = no_warnings

    def handlers(
        self, context: ApiContext, settings: msgspec.Struct
    ) -> Iterator[tuple[Operation[Any], Handler]]:
        described = {(each.method, each.path): each for each in self.operations}
        for method, path, handler in self.routes(context):
            operation = described[method, path]
            yield msgspec.structs.replace(operation, is_open=self.is_open), handler


#: Every published API. Add one here.
APIS: tuple[Api[Any] | _Routed, ...] = (
    _Routed(
        title="Native API",
        routes=native_routes.routes,
        respond=native_errors.respond,
        prefixes=("/",),
        operations=native_operations.OPERATIONS,
        is_open=native_ingest.is_open,
        delivery=DeliveryFormat(
            name="cloudevents",
            render=lambda event: ("application/cloudevents+json", render_one(event)),
        ),
    ),
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
                gate=gate,
                is_open={each.method: each.is_open for each, _ in served},
                answers_head=api.answers_head,
                body_limit=context.limits.sent,
                failed=failed,
            ),
        )
        for api in APIS
        for path, served in _by_path(api.handlers(context, settings[api.settings])).items()
        for spelling in _spellings(path, either_slash=api.either_slash)
    ]


def mount_open(
    endpoints: Mapping[str, Handler], *, gate: Authentication, failed: Callable[[str], None]
) -> list[Route]:
    """Paths that anyone may get, with the errors of the native API."""
    return [
        Route(
            path,
            Endpoint(
                {"GET": endpoint},
                respond=native_errors.respond,
                gate=gate,
                is_open={"GET": always},
                answers_head=True,
                body_limit=0,
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
