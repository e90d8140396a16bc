"""The published APIs: each a thin view of the log."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploylog.api.aws.cloudformation import errors as cloudformation_errors
from deploylog.api.aws.cloudformation import operations as cloudformation_operations
from deploylog.api.aws.cloudformation import routes as cloudformation_routes
from deploylog.api.aws.parallelcluster import errors as parallelcluster_errors
from deploylog.api.aws.parallelcluster import operations as parallelcluster_operations
from deploylog.api.aws.parallelcluster import routes as parallelcluster_routes
from deploylog.api.bluelink import errors as bluelink_errors
from deploylog.api.bluelink import operations as bluelink_operations
from deploylog.api.bluelink import routes as bluelink_routes
from deploylog.api.context import ApiContext, Handler
from deploylog.api.escape import errors as escape_errors
from deploylog.api.escape import operations as escape_operations
from deploylog.api.escape import routes as escape_routes
from deploylog.api.http.endpoint import Endpoint, IsOpen, Respond, always, never
from deploylog.api.native import errors as native_errors
from deploylog.api.native import operations as native_operations
from deploylog.api.native import routes as native_routes
from deploylog.api.native.ingest import routes as native_ingest
from deploylog.api.operation import Operation
from deploylog.api.rfs import errors as rfs_errors
from deploylog.api.rfs import operations as rfs_operations
from deploylog.api.rfs import routes as rfs_routes
from deploylog.auth.authentication import Authentication
from deploylog.errors import NotFound


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """A published API: its routes, its errors, and the paths that are its own."""

    title: str
    routes: Callable[[ApiContext], list[tuple[str, str, Handler]]]
    respond: Respond
    #: The paths below which it answers what nobody knows; the longest that fits counts.
    prefixes: tuple[str, ...]
    operations: tuple[Operation, ...]
    is_open: IsOpen = never
    answers_head: bool = True
    #: Whether each path is the same with a slash at its end and without.
    either_slash: bool = False


APIS = (
    Api(
        title="Native API",
        routes=native_routes.routes,
        respond=native_errors.respond,
        prefixes=("/",),
        operations=native_operations.OPERATIONS,
        is_open=native_ingest.is_open,
    ),
    Api(
        title="RFS: Huawei Cloud's ListStackEvents",
        routes=rfs_routes.routes,
        respond=rfs_errors.respond,
        prefixes=("/v1/",),
        operations=rfs_operations.OPERATIONS,
    ),
    Api(
        title="Bluelink: the Deploy Engine's API",
        routes=bluelink_routes.routes,
        respond=bluelink_errors.respond,
        prefixes=bluelink_routes.PREFIXES,
        operations=bluelink_operations.OPERATIONS,
        is_open=bluelink_routes.is_open,
        answers_head=False,
    ),
    Api(
        title="Escape: EscapeKit's event service",
        routes=escape_routes.routes,
        respond=escape_errors.respond,
        prefixes=escape_routes.PREFIXES,
        operations=escape_operations.OPERATIONS,
        either_slash=True,
    ),
    Api(
        title="ParallelCluster: stack events of AWS ParallelCluster",
        routes=parallelcluster_routes.routes,
        respond=parallelcluster_errors.respond,
        prefixes=parallelcluster_routes.PREFIXES,
        operations=parallelcluster_operations.OPERATIONS,
    ),
    Api(
        title="CloudFormation: what reads stacks of AWS CloudFormation",
        routes=cloudformation_routes.routes,
        respond=cloudformation_errors.respond,
        # The root alone; what is below it is the native API's.
        prefixes=(),
        operations=cloudformation_operations.OPERATIONS,
        is_open=cloudformation_routes.is_open,
    ),
)


def mount(parts: ApiContext, *, gate: Authentication, failed: Callable[[str], None]) -> list[Route]:
    """Every dialect's paths in one flat list: two of them share a root."""
    return [
        Route(
            spelling,
            Endpoint(
                endpoints,
                respond=dialect.respond,
                authentication=gate,
                is_open=dialect.is_open,
                answers_head=dialect.answers_head,
                body_limit=parts.limits.sent,
                failed=failed,
            ),
        )
        for dialect in APIS
        for path, endpoints in _by_path(dialect.routes(parts)).items()
        for spelling in _spellings(path, dialect)
    ]


def mount_open(
    endpoints: dict[str, Handler], *, gate: Authentication, failed: Callable[[str], None]
) -> list[Route]:
    """Paths that anybody may get, with the native API's errors."""
    return [
        Route(
            path,
            Endpoint(
                {"GET": endpoint},
                respond=native_errors.respond,
                authentication=gate,
                is_open=always,
                answers_head=True,
                body_limit=0,
                failed=failed,
            ),
        )
        for path, endpoint in endpoints.items()
    ]


def _spellings(path: str, dialect: Api) -> tuple[str, ...]:
    if not dialect.either_slash:
        return (path,)
    return (path, path[:-1] if path.endswith("/") else f"{path}/")


def _by_path(routes: list[tuple[str, str, Handler]]) -> dict[str, dict[str, Handler]]:
    paths: dict[str, dict[str, Handler]] = {}
    for method, path, endpoint in routes:
        paths.setdefault(path, {})[method] = endpoint
    return paths


async def respond_unrouted(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that no dialect has, as the one whose it would be."""
    request = Request(scope, receive)
    path = request.url.path
    _, dialect = max(
        (
            (len(prefix), dialect)
            for dialect in APIS
            for prefix in dialect.prefixes
            if path.startswith(prefix)
        ),
        key=lambda found: found[0],
    )
    error = NotFound(f"there is no {request.method} {path[:256]}")
    response = await dialect.respond(request, error)
    await response(scope, receive, send)
