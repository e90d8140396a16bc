"""RFS's one route: the events of a stack."""

import sys

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.rfs.errors import json_response
from deploylog.api.rfs.wire import (
    Bound,
    StackEventsRequest,
    parse_marker,
    parse_request,
    render_page,
)
from deploylog.deployments.catalog import Stack
from deploylog.deployments.service import DeploymentService
from deploylog.errors import AnswerTooLarge, DeploymentNotFound, StackMismatch
from deploylog.events.access import Principal
from deploylog.events.chronology import TimePage
from deploylog.events.event import Event
from deploylog.events.scope import Scope, deployment_scope, stack_scope
from deploylog.events.service import ANSWER_BYTES, EventService
from deploylog.events.store import Query

#: What a client that cannot page asks for.
_EVERYTHING = sys.maxsize


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each route."""

    async def list_stack_events(request: Request) -> Response:
        asked = await _parse(request, parts)
        body = await _list(parts, request.state.principal, asked)
        return json_response(request, body)

    return [("GET", "/v1/{project_id}/stacks/{stack_name}/events", list_stack_events)]


async def _parse(request: Request, parts: ApiContext) -> StackEventsRequest:
    asked = parse_request(
        project_id=request.path_params["project_id"],
        stack_name=request.path_params["stack_name"],
        query_string=request.scope["query_string"],
        headers=request.headers,
        body=await read_body(request, parts.limits.at_most(DOCUMENT_BYTES)),
        strict=parts.rfs_strict,
    )
    return msgspec.structs.replace(asked, epoch=parts.service.epoch)


async def _list(parts: ApiContext, principal: Principal, asked: StackEventsRequest) -> bytes:
    service = parts.service
    stack = await _stack(parts.deployments, principal, asked)
    scope = await _scope(parts.deployments, principal, asked, stack)
    bound = parse_marker(asked, stack.id)
    found = await _read(service, principal, _query(scope, asked, bound), bound)
    more = found.more and len(found.events) <= (asked.limit or 0)
    return render_page(found.events, asked, stack.id, bound, more=more)


async def _stack(
    deployments: DeploymentService, principal: Principal, asked: StackEventsRequest
) -> Stack:
    stack = await deployments.stack(principal, asked.project_id, asked.stack_name)
    if asked.stack_id is not None and asked.stack_id.lower() != stack.id.lower():
        raise StackMismatch
    return stack


async def _scope(
    deployments: DeploymentService, principal: Principal, asked: StackEventsRequest, stack: Stack
) -> Scope:
    if asked.deployment_id is None:
        return stack_scope(stack.project, stack.id)
    deployment = await deployments.deployment(principal, asked.deployment_id)
    if deployment.stack_id != stack.id:
        raise DeploymentNotFound
    return deployment_scope(stack.project, stack.id, deployment.id)


def _query(scope: Scope, asked: StackEventsRequest, bound: Bound | None) -> Query:
    # One more than is shown tells whether there is another page.
    limit = _EVERYTHING if asked.limit is None else asked.limit + 1
    newer = bound is not None and bound.side == "newer"
    return Query(
        scope=scope, filter=asked.filter, order="oldest" if newer else "newest", limit=limit
    )


async def _read(
    service: EventService, principal: Principal, query: Query, bound: Bound | None
) -> TimePage:
    """The page of ``query`` at ``bound``; without a limit, everything as one page."""
    beyond = bound.moment if bound is not None else None
    if query.limit < _EVERYTHING:
        return await service.page_by_time(principal, query, beyond=beyond)
    page = await _read_everything(service, principal, query)
    await service.require_retained(beyond.position if beyond is not None else None)
    return page


async def _read_everything(service: EventService, principal: Principal, query: Query) -> TimePage:
    events: list[Event] = []
    size = 0
    async for page in service.pages(principal, query):
        # What is not shown may be large, and everything has to be in memory.
        events += [msgspec.structs.replace(e, data=None, extensions=None) for e in page]
        size += sum(len(event.message or "") for event in page)
        if size > ANSWER_BYTES:
            raise AnswerTooLarge
    return TimePage(events=events, more=False)
