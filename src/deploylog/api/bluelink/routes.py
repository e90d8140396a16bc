"""Bluelink's routes: parse, ask, render."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.bluelink import instances, wire
from deploylog.api.bluelink.resume import (
    Beginning,
    CompletionFinder,
    InstanceFrames,
    ResumePoints,
    following,
)
from deploylog.api.bluelink.truncation import Json, render_json
from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.http.event_stream import EndingFrames, EventStream, FrameCache
from deploylog.deployments.catalog import Stack
from deploylog.deployments.changeset import Changeset, decode_changes
from deploylog.deployments.staging import NewChangeset
from deploylog.errors import ChangesetNotFound, CleanupNotFound, StackNotFound
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.scope import stack_scope
from deploylog.events.store import Query
from deploylog.ingest.terraform.plan import parse_plan

#: The paths below which the engine answers what nobody knows.
PREFIXES = ("/v1/deployments", "/v1/health", "/v1/events", "/v1/validations")

#: Frames of change sets that are kept for the next reader.
REMEMBERED_BYTES = 16 << 20

#: Change sets of which that is done by what the log tells of their resources.
_REMEMBERED_CHANGESETS = 16

HEALTH = "/v1/health"
CHANGES = "/v1/deployments/changes"
INSTANCES = "/v1/deployments/instances"

#: What can be cleaned up, and where.
CLEANUPS: dict[str, str] = {
    CHANGES: "changesets",
    "/v1/events": "events",
    "/v1/validations": "validations",
    "/v1/deployments/reconciliation-results": "reconciliation_results",
}

#: Deployments, or events, of one read.
_PAGE = 1000

#: The newest events of a stack that say in which state its resources are when they are staged.
#: Older ones are not read: a stream of a change set is opened often, and must be cheap.
_RECENT_EVENTS = 500


def is_open(request: Request) -> bool:
    """Whether the request needs no credentials: only the bare question for health."""
    scope = request.scope
    return (scope["method"], scope["path"], scope["query_string"]) == ("GET", HEALTH, b"")


def routes(parts: ApiContext) -> list[tuple[str, str, Handler]]:
    """Method, path and endpoint of each route."""
    staged, deployed = ChangesetEndpoints(parts), InstanceEndpoints(parts)
    return [
        ("GET", HEALTH, _health(parts)),
        ("POST", CHANGES, staged.stage),
        *(route for base, kind in CLEANUPS.items() for route in _cleanup_routes(parts, base, kind)),
        # Matched before the change sets are, although "cleanup" is one's id here.
        ("GET", f"{CHANGES}/cleanup", staged.changeset),
        ("GET", f"{CHANGES}/{{id}}", staged.changeset),
        ("GET", f"{CHANGES}/{{id}}/stream", staged.stream),
        ("GET", INSTANCES, deployed.all_instances),
        ("GET", f"{INSTANCES}/{{id}}", deployed.instance),
        ("GET", f"{INSTANCES}/{{id}}/exports", deployed.exports),
        ("GET", f"{INSTANCES}/{{id}}/stream", deployed.stream),
    ]


def _health(parts: ApiContext) -> Handler:
    async def health(request: Request) -> Response:
        return _json(wire.render_health(parts.clock()))

    return health


def _cleanup_routes(parts: ApiContext, base: str, kind: str) -> Iterator[tuple[str, str, Handler]]:
    async def start(request: Request) -> Response:
        cleanup = await parts.cleaning.start(request.state.principal, kind)
        return _json(render_json({"data": wire.render_cleanup(cleanup)}), status=202)

    async def get(request: Request) -> Response:
        id = request.path_params["id"]
        try:
            cleanup = await parts.cleaning.get(request.state.principal, kind, id)
        except CleanupNotFound as error:
            raise CleanupNotFound(f"cleanup operation with ID {id} not found") from error
        return _json(render_json(wire.render_cleanup(cleanup)))

    yield "POST", f"{base}/cleanup", start
    yield "GET", f"{base}/cleanup/{{id}}", get


class ChangesetEndpoints:
    """The endpoints of change sets."""

    def __init__(self, parts: ApiContext) -> None:
        """Take what the composition root gives."""
        self._parts = parts
        self._staging = parts.staging
        self._beginnings = ResumePoints(parts)
        self._remembered = FrameCache(wire.render_staging_event, most_bytes=REMEMBERED_BYTES)
        #: Those of change sets whose resources the log knows, by what it tells the reader of them.
        self._told: BoundedMap[tuple[object, ...], FrameCache] = BoundedMap(_REMEMBERED_CHANGESETS)

    async def stage(self, request: Request) -> Response:
        """Stage a plan file."""
        principal = request.state.principal
        principal.require_some("write")
        limits = self._parts.limits.at_most(DOCUMENT_BYTES)
        asked = wire.parse_create_changeset(await read_body(request, limits))
        stack = await self._stack(principal, asked)
        new = self._new(principal, asked, stack)
        await self._staging.check(principal, new)
        document = await asyncio.to_thread(self._parts.plan_files.read, asked.directory, asked.file)
        changes = await asyncio.to_thread(parse_plan, document)
        wire.require_instance(stack, asked)
        changeset = await self._staging.stage(principal, new, changes)
        return _json(wire.render_accepted(changeset), status=202)

    async def changeset(self, request: Request) -> Response:
        """One change set, with all its changes."""
        principal, id = request.state.principal, _changeset_id(request)
        with _naming(id):
            changeset = await self._staging.changeset(principal, id)
            changes = await self._staging.changes(principal, id)
        records = await self._records(principal, changeset)
        return _json(await asyncio.to_thread(_render_whole, changeset, changes, records))

    async def stream(self, request: Request) -> EventStream:
        """Follow a change set to its end."""
        principal, id = request.state.principal, _changeset_id(request)
        cursor = await self._beginnings.cursor(principal, _last_id(request))
        with _naming(id):
            changeset = await self._staging.changeset(principal, id)
            start = await self._beginnings.of_changeset(principal, changeset, cursor)
        follow = self._parts.service.follow(
            principal, scope=changeset.scopes[0], filter=wire.STAGING, start=start
        )
        frames = EndingFrames(
            event=self._frames(changeset, await self._records(principal, changeset)),
            gap=wire.render_gap,
            is_end=wire.ends_staging,
            heartbeat=wire.HEARTBEAT,
            headers=wire.STREAM_HEADERS,
        )
        return EventStream(follow, frames, gap=start.gap, sent=self._parts.sent)

    def _frames(self, changeset: Changeset, records: instances.Records) -> FrameCache:
        """The frames of all readers who are told the same."""
        if not records:
            return self._remembered
        key = (changeset.id, *records.values())
        frames = self._told.get(key) or FrameCache(
            partial(wire.render_staging_event, records=records),
            most_bytes=REMEMBERED_BYTES // _REMEMBERED_CHANGESETS,
        )
        self._told.put(key, frames)
        return frames

    async def _records(self, principal: Principal, changeset: Changeset) -> instances.Records:
        """What the newest events before the change set tell the principal of its resources."""
        if changeset.stack_id is None:
            return instances.NO_RECORDS
        service = self._parts.service
        begin = Query(scope=changeset.scopes[0], order="oldest", limit=1)
        first = await service.read(principal, begin)
        before = Query(
            scope=stack_scope(changeset.project, changeset.stack_id),
            filter=instances.RESOURCES,
            before=first[0].position if first else None,
            limit=_RECENT_EVENTS,
        )
        return instances.fold({}, reversed(await service.read(principal, before)))

    async def _stack(self, principal: Principal, asked: wire.CreateChangeset) -> Stack | None:
        """The stack that the change set is for, if there is one."""
        stacks = await self._parts.deployments.stacks(principal)
        return wire.find_instance(stacks, asked, self._parts.bluelink_project)

    def _new(
        self, principal: Principal, asked: wire.CreateChangeset, stack: Stack | None
    ) -> NewChangeset:
        checks = self._parts.bluelink_drift_check and not asked.skip_drift_check
        return NewChangeset(
            project=stack.project if stack else self._parts.bluelink_project,
            stack=stack.name if stack else asked.instance_name or None,
            location=asked.location,
            destroy=asked.destroy,
            check_drift=checks and stack is not None,
            actor=principal.name,
        )


class InstanceEndpoints:
    """The endpoints of instances, which are stacks."""

    def __init__(self, parts: ApiContext) -> None:
        """Take what the composition root gives."""
        self._parts = parts
        self._service = parts.service
        self._deployments = parts.deployments
        self._beginnings = ResumePoints(parts)

    async def all_instances(self, request: Request) -> Response:
        """List instances."""
        principal, window = request.state.principal, wire.parse_window(request.query_params)
        stacks = await self._deployments.stacks(principal)
        shown, total = window.of(stacks, lambda stack: stack.name)
        summaries = [
            instances.render_summary(stack, await self._history(principal, stack))
            for stack in shown
        ]
        return _json(render_json({"instances": summaries, "totalCount": total}))

    async def instance(self, request: Request) -> Response:
        """One instance, with its resources and exports."""
        principal, stack = request.state.principal, await self._instance(request)
        history = await self._history(principal, stack)
        resources = await self._resources(principal, stack)
        exports = await self._exports(principal, stack, history)
        state = instances.render_instance(stack, history, resources.values(), exports)
        return _json(render_json(state))

    async def exports(self, request: Request) -> Response:
        """One instance's exports."""
        principal, stack = request.state.principal, await self._instance(request)
        history = await self._history(principal, stack)
        return _json(render_json(await self._exports(principal, stack, history)))

    async def stream(self, request: Request) -> EventStream:
        """Follow an instance's deployment to its end."""
        principal, stack = request.state.principal, await self._instance(request)
        cursor = await self._beginnings.cursor(principal, _last_id(request))
        now = await self._service.start_now()
        history = await self._history(principal, stack)
        begin = await self._beginnings.of_instance(
            principal, stack, history, cursor=cursor, now=now
        )
        resources = await self._resources(principal, stack, before=begin.start.after + 1)
        return self._follow(principal, begin, instances.Channel(stack.id, history, resources))

    def _follow(
        self, principal: Principal, begin: Beginning, channel: instances.Channel
    ) -> EventStream:
        endings = CompletionFinder(self._service, self._deployments, principal, begin.scope)
        follow = self._service.follow(
            principal, scope=begin.scope, filter=instances.CHANNEL, start=begin.start
        )
        return EventStream(
            following(follow, begin.end, partial(endings.look, channel)),
            InstanceFrames(channel),
            gap=begin.start.gap,
            sent=self._parts.sent,
        )

    async def _instance(self, request: Request) -> Stack:
        """The stack that the path names."""
        named = request.path_params["id"]
        stacks = await self._deployments.stacks(request.state.principal)
        by_id = wire.find_by_id(stacks, named)
        found = by_id or wire.find_by_name(stacks, named, self._parts.bluelink_project)
        if found is None:
            raise StackNotFound(f'blueprint instance "{named}" not found')
        return found

    async def _history(self, principal: Principal, stack: Stack) -> instances.History:
        deployments, before, more = [], None, True
        while more:
            page = await self._deployments.deployments_of(
                principal, stack, before=before, limit=_PAGE
            )
            deployments += page
            more = len(page) == _PAGE
            before = page[-1].id if page else None
        return instances.History(deployments)

    async def _resources(
        self, principal: Principal, stack: Stack, *, before: int | None = None
    ) -> dict[str, instances.ResourceRecord]:
        """What the events before that position left."""
        records: dict[str, instances.ResourceRecord] = {}
        query = Query(
            scope=stack_scope(stack.project, stack.id),
            filter=instances.RESOURCES,
            before=before,
            order="oldest",
            limit=sys.maxsize,
        )
        async for events in self._service.pages(principal, query):
            records = instances.fold(records, events)
        return records

    async def _exports(
        self, principal: Principal, stack: Stack, history: instances.History
    ) -> Json:
        """Nothing when there is nothing deployed."""
        if not history.deployed:
            return {}
        scope = stack_scope(stack.project, stack.id)
        query = Query(scope=scope, filter=instances.OUTPUTS, limit=1)
        told = await self._service.read(principal, query)
        return instances.render_exports(told[0] if told else None)


@contextmanager
def _naming(id: str) -> Iterator[None]:
    """Let a change set that there is not be named as the engine names it."""
    try:
        yield
    except ChangesetNotFound as error:
        raise ChangesetNotFound(f'change set "{id}" not found') from error


def _changeset_id(request: Request) -> str:
    id: str = request.path_params.get("id", "cleanup")
    return id


def _last_id(request: Request) -> str:
    return request.headers.get("last-event-id", "")


def _render_whole(changeset: Changeset, changes: bytes, records: instances.Records) -> bytes:
    return wire.render_changeset(changeset, decode_changes(changes), records)


def _json(content: bytes, *, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type="application/json")
