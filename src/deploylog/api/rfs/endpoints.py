"""The endpoint of the RFS API: the events of a stack."""

import sys

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.rfs.errors import json_response
from deploylog.api.rfs.settings import RfsSettings
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
from deploylog.events.service import RESPONSE_BYTES, EventService
from deploylog.events.store import Query

#: What a client that cannot page asks for.
_EVERYTHING = sys.maxsize


class StackEvents:
    """Answers for the events of a stack."""

    def __init__(self, context: ApiContext, settings: RfsSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._limits = context.limits.at_most(DOCUMENT_BYTES)
        self._strict = settings.rfs_strict

    async def list(self, request: Request) -> Response:
        """List the events of a stack."""
        asked = await self._parse(request)
        return json_response(request, await self._page(request.state.principal, asked))

    async def _parse(self, request: Request) -> StackEventsRequest:
        asked = parse_request(
            project_id=request.path_params["project_id"],
            stack_name=request.path_params["stack_name"],
            query_string=request.scope["query_string"],
            headers=request.headers,
            body=await read_body(request, self._limits),
            strict=self._strict,
        )
        return msgspec.structs.replace(asked, epoch=self._events.epoch)

    async def _page(self, principal: Principal, asked: StackEventsRequest) -> bytes:
        stack = await _stack(self._deployments, principal, asked)
        scope = await _scope(self._deployments, principal, asked, stack)
        bound = parse_marker(asked, stack.id)
        found = await _read(self._events, principal, _query(scope, asked, bound), bound)
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
    # One more than the page holds shows whether another page follows.
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
        # The page does not show these, and they may be large; the whole list is held in memory.
        events += [msgspec.structs.replace(e, data=None, extensions=None) for e in page]
        size += sum(len(event.message or "") for event in page)
        if size > RESPONSE_BYTES:
            raise AnswerTooLarge
    return TimePage(events=events, more=False)
