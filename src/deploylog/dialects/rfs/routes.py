"""RFS's one route: the events of a stack."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.bodies import DOCUMENT_BYTES, read_body
from deploylog.catalogue import Stack
from deploylog.dialects.parts import Endpoint, Parts
from deploylog.dialects.rfs.errors import answer
from deploylog.dialects.rfs.wire import (
    Bound,
    StackEventsRequest,
    parse_marker,
    parse_request,
    render_page,
)
from deploylog.errors import CursorExpired, DeploymentNotFound, StackMismatch
from deploylog.events import Event
from deploylog.principals import Principal
from deploylog.scope import Scope, deployment_scope, stack_scope
from deploylog.service import EventService
from deploylog.store.base import Query

#: Events in one read, where a client that cannot page asks for everything.
CHUNK = 1000


def routes(parts: Parts) -> list[tuple[str, str, Endpoint]]:
    """Method, path and endpoint of each route."""

    async def list_stack_events(request: Request) -> Response:
        asked = await _parse(request, parts)
        body = await _list(parts.service, request.state.principal, asked)
        return answer(request, body)

    return [("GET", "/v1/{project_id}/stacks/{stack_name}/events", list_stack_events)]


async def _parse(request: Request, parts: Parts) -> StackEventsRequest:
    return parse_request(
        project_id=request.path_params["project_id"],
        stack_name=request.path_params["stack_name"],
        query_string=request.scope["query_string"],
        headers=request.headers,
        body=await read_body(request, parts.limits.at_most(DOCUMENT_BYTES)),
        strict=parts.rfs_strict,
    )


async def _list(service: EventService, principal: Principal, asked: StackEventsRequest) -> bytes:
    stack = await _stack(service, principal, asked)
    scope = await _scope(service, principal, asked, stack)
    bound = parse_marker(asked, stack.id)
    events = await _read(service, principal, _query(scope, asked, bound), asked.limit)
    if bound is not None and bound.position < await service.floor():
        raise CursorExpired
    return render_page(events, asked, stack.id, bound)


async def _stack(service: EventService, principal: Principal, asked: StackEventsRequest) -> Stack:
    stack = await service.stack(principal, asked.project_id, asked.stack_name)
    if asked.stack_id is not None and asked.stack_id.lower() != stack.id.lower():
        raise StackMismatch
    return stack


async def _scope(
    service: EventService, principal: Principal, asked: StackEventsRequest, stack: Stack
) -> Scope:
    if asked.deployment_id is None:
        return stack_scope(stack.project, stack.id)
    deployment = await service.deployment(principal, asked.deployment_id)
    if deployment.stack_id != stack.id:
        raise DeploymentNotFound
    return deployment_scope(stack.project, stack.id, deployment.id)


def _query(scope: Scope, asked: StackEventsRequest, bound: Bound | None) -> Query:
    # One more than is shown tells whether there is another page.
    limit = CHUNK if asked.limit is None else asked.limit + 1
    if bound is not None and bound.side == "newer":
        return Query(
            scope=scope, filter=asked.filter, after=bound.position, order="oldest", limit=limit
        )
    before = bound.position if bound is not None else None
    return Query(scope=scope, filter=asked.filter, before=before, limit=limit)


async def _read(
    service: EventService, principal: Principal, query: Query, limit: int | None
) -> list[Event]:
    events = await service.read(principal, query)
    if limit is not None:
        return events
    chunk = events
    while len(chunk) == CHUNK:
        older = msgspec.structs.replace(query, before=chunk[-1].position)
        chunk = await service.read(principal, older)
        events += chunk
    return events
