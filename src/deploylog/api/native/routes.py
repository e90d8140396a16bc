"""The native API's endpoints: parse, ask the service, render."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.body import DOCUMENT_BYTES, BodyLimits, read_body
from deploylog.api.http.event_stream import EventStream, Frames
from deploylog.api.native import wire
from deploylog.api.native.appends import Appends
from deploylog.api.native.ingest import routes as ingest_routes
from deploylog.api.native.subscriptions.routes import routes as subscription_routes
from deploylog.deployments.service import NewDeployment
from deploylog.deployments.staging import NewChangeset
from deploylog.errors import InvalidInput, MethodNotAllowed
from deploylog.events.access import ANONYMOUS, Principal
from deploylog.events.scope import ROOT
from deploylog.events.service import Start
from deploylog.events.store import Query
from deploylog.events.times import parse_time_or_ago
from deploylog.ingest.terraform.plan import parse_plan


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each operation."""
    native = Native(parts)
    return [
        ("POST", "/log/v1/events", native.append),
        ("OPTIONS", "/log/v1/events", native.agree),
        ("GET", "/log/v1/events", native.events),
        ("GET", "/log/v1/events/stream", native.stream),
        ("GET", "/log/v1/events/{id}", native.event),
        ("GET", "/log/v1/projects", native.projects),
        ("GET", "/log/v1/stacks", native.stacks),
        ("DELETE", "/log/v1/stacks", native.delete_stack),
        ("POST", "/log/v1/deployments", native.open_deployment),
        ("GET", "/log/v1/deployments", native.deployments),
        ("GET", "/log/v1/deployments/{id}", native.deployment),
        ("GET", "/log/v1/deployments/{id}/wait", native.wait),
        ("POST", "/log/v1/changesets", native.stage),
        ("GET", "/log/v1/changesets", native.changesets),
        ("GET", "/log/v1/changesets/{id}", native.changeset),
        ("GET", "/log/v1/changesets/{id}/changes", native.changes),
        *subscription_routes(parts),
        *ingest_routes.routes(parts),
    ]


class Native:
    """The endpoints, and what they need."""

    def __init__(self, parts: ApiContext) -> None:
        """Take what the composition root gives."""
        self._service = parts.service
        self._deployments = parts.deployments
        self._staging = parts.staging
        self._clock: Callable[[], int] = parts.clock
        self._sent = parts.sent
        self._appends = Appends(parts)
        self._limits: BodyLimits = parts.limits
        self._max_requests = parts.max_requests_per_second
        self._frames = Frames(event=wire.render_frame, gap=wire.render_gap)

    async def append(self, request: Request) -> Response:
        """Record events."""
        principal, query = request.state.principal, _query(request)
        principal.require_some("write")
        defaults = await self._appends.defaults(principal, query)
        body = await read_body(request, self._limits)
        receipts = await self._appends.record(principal, request.headers, query, body, defaults)
        return _json(receipts, status=201)

    async def agree(self, request: Request) -> Response:
        """Agree to deliveries: the handshake of CloudEvents' web hooks."""
        asked = wire.parse_handshake(request.headers)
        if asked is None:
            raise MethodNotAllowed(f"{wire.REQUEST_ORIGIN} is missing")
        principal = request.state.principal
        defaults = await self._appends.defaults(principal, _query(request))
        principal.require_write(defaults.scopes)
        headers = wire.render_handshake(asked, max_requests_per_second=self._max_requests)
        return Response(headers=headers)

    async def events(self, request: Request) -> Response:
        """List events."""
        parameters = wire.Parameters(_query(request))
        query = Query(
            filter=wire.parse_filter(parameters, now=self._clock()),
            order="oldest" if parameters.choice("order", _ORDERS) == "oldest" else "newest",
            after=self._cursor(parameters, "after"),
            before=self._cursor(parameters, "before"),
            limit=_limit(parameters),
        )
        parameters.done()
        page = await self._service.page(request.state.principal, query)
        return _json(wire.render_page(page))

    async def event(self, request: Request) -> Response:
        """Get one event."""
        event = await self._service.event(request.state.principal, request.path_params["id"])
        return _json(wire.render_one(event))

    async def stream(self, request: Request) -> EventStream:
        """Follow events."""
        parameters = wire.Parameters(_query(request))
        filter = wire.parse_filter(parameters, now=self._clock())
        start = await self._start(request, parameters)
        parameters.done()
        return EventStream(
            self._service.follow(request.state.principal, scope=ROOT, filter=filter, start=start),
            self._frames,
            gap=start.gap,
            sent=self._sent,
        )

    async def projects(self, request: Request) -> Response:
        """List projects."""
        wire.Parameters(_query(request)).done()
        projects = await self._deployments.projects(request.state.principal)
        return _json(wire.ProjectList(projects))

    async def stacks(self, request: Request) -> Response:
        """List stacks."""
        parameters = wire.Parameters(_query(request))
        project = parameters.one("project")
        deleted = parameters.choice("deleted", ("false", "true")) == "true"
        parameters.done()
        stacks = await self._deployments.stacks(
            request.state.principal, project=project, deleted=deleted
        )
        return _json(wire.StackList([wire.render_stack(stack) for stack in stacks]))

    async def delete_stack(self, request: Request) -> Response:
        """Free a stack's name."""
        parameters = wire.Parameters(_query(request))
        project, name = parameters.required("project"), parameters.required("name")
        parameters.done()
        await self._deployments.delete_stack(request.state.principal, project, name)
        return Response(status_code=204)

    async def open_deployment(self, request: Request) -> Response:
        """Open a deployment."""
        request.state.principal.require_some("write")
        body = await read_body(request, self._limits.at_most(DOCUMENT_BYTES))
        try:
            new = msgspec.json.decode(body, type=NewDeployment)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidInput(f"not a deployment: {error}") from error
        deployment = await self._deployments.open_deployment(request.state.principal, new)
        return _json(wire.render_deployment(deployment), status=201)

    async def deployments(self, request: Request) -> Response:
        """List deployments."""
        parameters = wire.Parameters(_query(request))
        project, stack = parameters.one("project"), parameters.one("stack")
        before, limit = parameters.one("before"), _limit(parameters)
        parameters.done()
        deployments = await self._deployments.deployments(
            request.state.principal, project=project, stack=stack, before=before, limit=limit
        )
        return _json(wire.render_deployments(deployments, limit=limit))

    async def deployment(self, request: Request) -> Response:
        """Get one deployment."""
        principal, id = request.state.principal, request.path_params["id"]
        return _json(wire.render_deployment(await self._deployments.deployment(principal, id)))

    async def wait(self, request: Request) -> Response:
        """Wait for a deployment's end."""
        parameters = wire.Parameters(_query(request))
        timeout = parameters.integer("timeout", default=60, low=0, high=wire.MAX_WAIT_SECONDS)
        parameters.done()
        deployment = await self._deployments.wait(
            request.state.principal, request.path_params["id"], timeout=timeout
        )
        return _json(wire.render_deployment(deployment))

    async def stage(self, request: Request) -> Response:
        """Stage a plan."""
        principal = request.state.principal
        principal.require_some("write")
        new = _new_changeset(wire.Parameters(_query(request)), principal)
        await self._staging.check(principal, new)
        body = await read_body(request, self._limits)
        key = wire.parse_request_key(request.headers, principal, _query(request), body)
        # A large plan takes seconds, and others are waiting.
        changes = await asyncio.to_thread(parse_plan, body)
        changeset = await self._staging.stage(principal, new, changes, request=key)
        base = request.scope.get("base_path", "")
        headers = {"location": f"{base}/log/v1/changesets/{changeset.id}"}
        return _json(wire.render_changeset(changeset), status=202, headers=headers)

    async def changesets(self, request: Request) -> Response:
        """List change sets."""
        parameters = wire.Parameters(_query(request))
        project, stack = parameters.one("project"), parameters.one("stack")
        before, limit = parameters.one("before"), _limit(parameters)
        parameters.done()
        changesets = await self._staging.changesets(
            request.state.principal, project=project, stack=stack, before=before, limit=limit
        )
        return _json(wire.render_changesets(changesets, limit=limit))

    async def changeset(self, request: Request) -> Response:
        """Get one change set."""
        changeset = await self._staging.changeset(
            request.state.principal, request.path_params["id"]
        )
        return _json(wire.render_changeset(changeset))

    async def changes(self, request: Request) -> Response:
        """Get what a change set would change."""
        return _json(
            await self._staging.changes(request.state.principal, request.path_params["id"])
        )

    def _cursor(self, parameters: wire.Parameters, name: str) -> int | None:
        id = parameters.one(name)
        if id is None:
            return None
        return self._service.position(id)

    async def _start(self, request: Request, parameters: wire.Parameters) -> Start:
        after = parameters.one("after")
        begin = parameters.one("from") or "now"
        after = request.headers.get("last-event-id") or after
        if after is not None:
            return await self._service.start_after(request.state.principal, after)
        if begin == "start":
            return await self._service.start_at_beginning()
        if begin == "now":
            return await self._service.start_now()
        return await self._service.start_at(parse_time_or_ago(begin, now=self._clock()))


_ORDERS = ("newest", "oldest")


def _query(request: Request) -> str:
    query: bytes = request.scope["query_string"]
    return query.decode("latin-1")


def _limit(parameters: wire.Parameters) -> int:
    return parameters.integer("limit", default=wire.DEFAULT_LIMIT, low=1, high=wire.MAX_LIMIT)


def _new_changeset(parameters: wire.Parameters, principal: Principal) -> NewChangeset:
    new = NewChangeset(
        project=parameters.required("project"),
        stack=parameters.one("stack"),
        id=parameters.one("id"),
        location=parameters.one("location") or "",
        destroy=parameters.choice("destroy", ("false", "true")) == "true",
        actor=parameters.one("actor") or (None if principal == ANONYMOUS else principal.name),
        groups=parameters.all("group"),
    )
    parameters.done()
    return new


def _json(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(content, status_code=status, headers=headers, media_type="application/json")
