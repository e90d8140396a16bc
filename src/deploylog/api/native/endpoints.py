"""The endpoints of the native API: parse, call the service, render."""

import asyncio
from contextlib import suppress

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext
from deploylog.api.http.body import read_body
from deploylog.api.http.event_stream import EventStream, Frames
from deploylog.api.http.exchange import json_response, query_of
from deploylog.api.native import query_string, wire
from deploylog.api.native.appends import Appends
from deploylog.api.native.settings import NativeSettings
from deploylog.errors import InvalidFilter, InvalidInput, MethodNotAllowed
from deploylog.events.access import Principal
from deploylog.events.filters import Filter
from deploylog.events.scope import ROOT
from deploylog.events.service import Start
from deploylog.events.store import Page, Query
from deploylog.events.times import parse_time_or_ago


class Events:
    """Answers for events."""

    def __init__(self, context: ApiContext, settings: NativeSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._clock = context.clock
        self._sent = context.sent
        self._limits = context.limits
        self._appends = Appends(context, settings)
        self._max_requests = context.max_requests_per_second
        self._frames = Frames(event=wire.render_frame, gap=wire.render_gap)

    async def append(self, request: Request) -> Response:
        """Record events."""
        principal, query = request.state.principal, query_of(request)
        principal.require_anywhere("write")
        defaults = await self._appends.defaults(principal, query)
        body = await read_body(request, self._limits)
        receipts = await self._appends.record(principal, request.headers, query, body, defaults)
        return json_response(receipts, status=201)

    async def agree(self, request: Request) -> Response:
        """Answer the handshake of a CloudEvents webhook."""
        asked = wire.parse_handshake(request.headers)
        if asked is None:
            raise MethodNotAllowed(f"{wire.REQUEST_ORIGIN} is missing")
        principal = request.state.principal
        defaults = await self._appends.defaults(principal, query_of(request))
        principal.require_write(defaults.scopes)
        headers = wire.render_handshake(asked, max_requests_per_second=self._max_requests)
        return Response(headers=headers)

    async def list(self, request: Request) -> Response:
        """List events."""
        parameters, filter = await self._filter(request)
        is_explained = parameters.choice("explain", ("false", "true")) == "true"
        query = Query(
            filter=filter,
            order="oldest" if parameters.choice("order", _ORDERS) == "oldest" else "newest",
            after=self._cursor(parameters, "after"),
            before=self._cursor(parameters, "before"),
            limit=query_string.parse_limit(parameters),
        )
        wait = parameters.integer("wait", default=0, low=0, high=query_string.MAX_WAIT_SECONDS)
        parameters.done()
        if wait and query.order != "oldest":
            raise InvalidInput("wait needs order=oldest: newer events come last", field="wait")
        principal = request.state.principal
        trace = await self._events.explain(principal, query) if is_explained else None
        page = await self._page(principal, query, wait=wait)
        return json_response(wire.render_page(page, trace))

    async def _page(self, principal: Principal, query: Query, *, wait: int) -> Page:
        """A page; an empty one only after waiting so many seconds for an event."""
        if not wait:
            return await self._events.page(principal, query)
        now = await self._events.start_now()
        start = now if query.after is None else Start(after=query.after)
        page = await self._events.page(principal, query)
        if page:
            return page
        follow = self._events.follow(principal, scope=ROOT, filter=query.filter, start=start)
        with follow as reader, suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while not page and await reader.next() is not None:
                    page = await self._events.page(principal, query)
        return page

    async def count(self, request: Request) -> Response:
        """Count events."""
        parameters, filter = await self._filter(request)
        parameters.done()
        return json_response(
            wire.EventCount(await self._events.count(request.state.principal, Query(filter=filter)))
        )

    async def facets(self, request: Request) -> Response:
        """Count events by the values of a field."""
        parameters, filter = await self._filter(request)
        name = parameters.choice("field", tuple(query_string.FILTERS))
        top = parameters.integer(
            "top", default=query_string.DEFAULT_TOP, low=1, high=query_string.MAX_LIMIT
        )
        parameters.done()
        facets = await self._events.facets(
            request.state.principal, Query(filter=filter), query_string.FILTERS[name], top
        )
        return json_response(wire.render_facets(name, facets))

    async def histogram(self, request: Request) -> Response:
        """Count events over time."""
        now = self._clock()
        parameters, filter = await self._filter(request)
        buckets = parameters.integer(
            "buckets", default=query_string.DEFAULT_BUCKETS, low=1, high=query_string.MAX_BUCKETS
        )
        parameters.done()
        edges = query_string.parse_edges(filter, buckets=buckets, now=now)
        filter = msgspec.structs.replace(filter, since=edges[0], until=edges[-1])
        counts = await self._events.histogram(request.state.principal, Query(filter=filter), edges)
        return json_response(wire.render_histogram(edges, counts))

    async def get(self, request: Request) -> Response:
        """Get an event."""
        event = await self._events.event(request.state.principal, request.path_params["id"])
        return json_response(wire.render_one(event))

    async def stream(self, request: Request) -> EventStream:
        """Stream events."""
        parameters, filter = await self._filter(request)
        start = await self._start(request, parameters)
        parameters.done()
        return EventStream(
            self._events.follow(request.state.principal, scope=ROOT, filter=filter, start=start),
            self._frames,
            gap=start.gap,
            sent=self._sent,
        )

    async def _filter(self, request: Request) -> tuple[query_string.Parameters, Filter]:
        """The filter that a query string begins with, and what else is in it."""
        parameters = query_string.Parameters(query_of(request))
        filter = query_string.parse_filter(parameters, now=self._clock())
        names = query_string.parse_names(parameters)
        if not names:
            return parameters, filter
        if filter.scopes:
            raise InvalidFilter("use scope, or names such as project and stack", field="scope")
        scopes = await self._deployments.names.scopes(request.state.principal, names)
        return parameters, msgspec.structs.replace(filter, scopes=scopes)

    def _cursor(self, parameters: query_string.Parameters, name: str) -> int | None:
        id = parameters.one(name)
        if id is None:
            return None
        return self._events.position(id)

    async def _start(self, request: Request, parameters: query_string.Parameters) -> Start:
        after = parameters.one("after")
        start = parameters.one("from") or "now"
        after = request.headers.get("last-event-id") or after
        if after is not None:
            return await self._events.start_after(request.state.principal, after)
        if start == "start":
            return await self._events.start_at_oldest()
        if start == "now":
            return await self._events.start_now()
        return await self._events.start_at(parse_time_or_ago(start, now=self._clock()))


_ORDERS = ("newest", "oldest")
