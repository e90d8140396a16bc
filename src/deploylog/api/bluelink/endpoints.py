"""The endpoints of the Bluelink API: parse, call the service, render."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from deploylog.api.bluelink import instances, wire
from deploylog.api.bluelink.channel import CHANNEL, Channel
from deploylog.api.bluelink.plan_files import PlanFiles
from deploylog.api.bluelink.resources import (
    NO_RECORDS,
    RESOURCES,
    Records,
    ResourceRecord,
    fold,
)
from deploylog.api.bluelink.resume import (
    CompletionFinder,
    InstanceFrames,
    ResumePoint,
    ResumePoints,
    completing,
)
from deploylog.api.bluelink.settings import BluelinkSettings
from deploylog.api.bluelink.truncation import Json, render_json
from deploylog.api.context import ApiContext
from deploylog.api.http.body import DOCUMENT_BYTES, read_body
from deploylog.api.http.event_stream import EventStream, FrameCache, TerminatedFrames
from deploylog.api.http.exchange import json_response
from deploylog.api.settings import paths_of
from deploylog.deployments.catalog import Stack
from deploylog.deployments.changeset import Changeset, decode_changes
from deploylog.deployments.staging import NewChangeset
from deploylog.errors import ChangesetNotFound, CleanupNotFound, StackNotFound
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.scope import stack_scope
from deploylog.events.store import Query
from deploylog.ingest.terraform.plan import parse_plan

#: Bytes of rendered frames that are cached for the next reader.
REMEMBERED_BYTES = 16 << 20

#: Change sets whose frames are cached apart, because the log knows their resources.
_REMEMBERED_CHANGESETS = 16

#: Deployments or events in one read.
_PAGE = 1000

#: The newest events of a stack that say in which state its resources are when they are staged.
#: Older ones are not read: a stream of a change set is opened often, and must be cheap.
_RECENT_EVENTS = 500


def has_no_query(request: Request) -> bool:
    """Whether the request only asks for health, which needs no credentials."""
    return not request.scope["query_string"]


class Health:
    """Answers whether the service is up."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings) -> None:
        self._clock = context.clock

    async def get(self, request: Request) -> Response:
        """Get the time of the service."""
        return json_response(wire.render_health(self._clock()))


class Cleanups:
    """Cleanups of one kind."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings, *, kind: str) -> None:
        """``kind`` is one that ``events.retention`` knows."""
        self._retention = context.retention
        self._kind = kind

    async def start(self, request: Request) -> Response:
        """Start a cleanup."""
        cleanup = await self._retention.start(request.state.principal, self._kind)
        return json_response(render_json({"data": wire.render_cleanup(cleanup)}), status=202)

    async def get(self, request: Request) -> Response:
        """Get a cleanup."""
        id = request.path_params["id"]
        try:
            cleanup = await self._retention.get(request.state.principal, self._kind, id)
        except CleanupNotFound as error:
            raise CleanupNotFound(f"cleanup operation with ID {id} not found") from error
        return json_response(render_json(wire.render_cleanup(cleanup)))


class Changesets:
    """Answers for change sets."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._staging = context.staging
        self._sent = context.sent
        self._body_limits = context.limits.at_most(DOCUMENT_BYTES)
        self._plan_files = PlanFiles(
            paths_of(settings.plan_folders),
            limit=context.limits.decompressed,
            reserved=context.reserved,
        )
        self._project = settings.bluelink_project
        self._drift_check = settings.bluelink_drift_check
        self._resume_points = ResumePoints(context, settings)
        self._frames = FrameCache(wire.render_staging_event, max_bytes=REMEMBERED_BYTES)
        #: For change sets whose resources the log knows, by what the reader may see of them.
        self._frames_with_records: BoundedMap[tuple[object, ...], FrameCache] = BoundedMap(
            _REMEMBERED_CHANGESETS
        )

    async def stage(self, request: Request) -> Response:
        """Stage a plan file."""
        principal = request.state.principal
        principal.require_anywhere("write")
        asked = wire.parse_create_changeset(await read_body(request, self._body_limits))
        stack = await self._stack(principal, asked)
        new = self._new(principal, asked, stack)
        await self._staging.check(principal, new)
        document = await asyncio.to_thread(self._plan_files.read, asked.directory, asked.file)
        changes = await asyncio.to_thread(parse_plan, document)
        wire.require_instance(stack, asked)
        changeset = await self._staging.stage(principal, new, changes)
        return json_response(wire.render_accepted(changeset), status=202)

    async def get(self, request: Request) -> Response:
        """Get a change set with all its changes."""
        principal, id = request.state.principal, _changeset_id(request)
        with _naming(id):
            changeset = await self._staging.changeset(principal, id)
            changes = await self._staging.changes(principal, id)
        records = await self._records(principal, changeset)
        return json_response(await asyncio.to_thread(_render_whole, changeset, changes, records))

    async def stream(self, request: Request) -> EventStream:
        """Stream a change set until it is staged."""
        principal, id = request.state.principal, _changeset_id(request)
        cursor = await self._resume_points.cursor(principal, _last_id(request))
        with _naming(id):
            changeset = await self._staging.changeset(principal, id)
            start = await self._resume_points.of_changeset(principal, changeset, cursor)
        follow = self._events.follow(
            principal, scope=changeset.scopes[0], filter=wire.STAGING, start=start
        )
        frames = TerminatedFrames(
            event=self._frames_of(changeset, await self._records(principal, changeset)),
            gap=wire.render_gap,
            is_end=wire.ends_staging,
            heartbeat=wire.HEARTBEAT,
            headers=wire.STREAM_HEADERS,
        )
        return EventStream(follow, frames, gap=start.gap, sent=self._sent)

    def _frames_of(self, changeset: Changeset, records: Records) -> FrameCache:
        """The frames for all readers that see the same."""
        if not records:
            return self._frames
        key = (changeset.id, *records.values())
        frames = self._frames_with_records.get(key) or FrameCache(
            partial(wire.render_staging_event, records=records),
            max_bytes=REMEMBERED_BYTES // _REMEMBERED_CHANGESETS,
        )
        self._frames_with_records.put(key, frames)
        return frames

    async def _records(self, principal: Principal, changeset: Changeset) -> Records:
        """What the principal sees of its resources in the newest events before the change set."""
        if changeset.stack_id is None:
            return NO_RECORDS
        begin = Query(scope=changeset.scopes[0], order="oldest", limit=1)
        first = await self._events.read(principal, begin)
        before = Query(
            scope=stack_scope(changeset.project, changeset.stack_id),
            filter=RESOURCES,
            before=first[0].position if first else None,
            limit=_RECENT_EVENTS,
        )
        return fold({}, reversed(await self._events.read(principal, before)))

    async def _stack(self, principal: Principal, asked: wire.CreateChangeset) -> Stack | None:
        """The stack that the change set is for, if it exists."""
        stacks = await self._deployments.stacks(principal)
        return wire.find_instance(stacks, asked, self._project)

    def _new(
        self, principal: Principal, asked: wire.CreateChangeset, stack: Stack | None
    ) -> NewChangeset:
        checks = self._drift_check and not asked.skip_drift_check
        return NewChangeset(
            project=stack.project if stack else self._project,
            stack=stack.name if stack else asked.instance_name or None,
            location=asked.location,
            destroy=asked.destroy,
            check_drift=checks and stack is not None,
            actor=principal.name,
        )


class Instances:
    """Answers for instances, which are stacks."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings) -> None:
        self._events = context.events
        self._deployments = context.deployments
        self._sent = context.sent
        self._project = settings.bluelink_project
        self._resume_points = ResumePoints(context, settings)

    async def list(self, request: Request) -> Response:
        """List instances."""
        principal, window = request.state.principal, wire.parse_window(request.query_params)
        stacks = await self._deployments.stacks(principal)
        shown, total = window.of(stacks, lambda stack: stack.name)
        summaries = [
            instances.render_summary(stack, await self._history(principal, stack))
            for stack in shown
        ]
        return json_response(render_json({"instances": summaries, "totalCount": total}))

    async def get(self, request: Request) -> Response:
        """Get an instance with its resources and exports."""
        principal, stack = request.state.principal, await self._instance(request)
        history = await self._history(principal, stack)
        resources = await self._resources(principal, stack)
        exports = await self._exports(principal, stack, history)
        state = instances.render_instance(stack, history, resources.values(), exports)
        return json_response(render_json(state))

    async def exports(self, request: Request) -> Response:
        """Get an instance's exports."""
        principal, stack = request.state.principal, await self._instance(request)
        history = await self._history(principal, stack)
        return json_response(render_json(await self._exports(principal, stack, history)))

    async def stream(self, request: Request) -> EventStream:
        """Stream an instance's deployment until it finishes."""
        principal, stack = request.state.principal, await self._instance(request)
        cursor = await self._resume_points.cursor(principal, _last_id(request))
        now = await self._events.start_now()
        history = await self._history(principal, stack)
        begin = await self._resume_points.of_instance(
            principal, stack, history, cursor=cursor, now=now
        )
        resources = await self._resources(principal, stack, before=begin.start.after + 1)
        return self._follow(principal, begin, Channel(stack.id, history, resources))

    def _follow(self, principal: Principal, begin: ResumePoint, channel: Channel) -> EventStream:
        endings = CompletionFinder(self._events, self._deployments, principal, begin.scope)
        follow = self._events.follow(
            principal, scope=begin.scope, filter=CHANNEL, start=begin.start
        )
        return EventStream(
            completing(follow, begin.end, partial(endings.poll, channel)),
            InstanceFrames(channel),
            gap=begin.start.gap,
            sent=self._sent,
        )

    async def _instance(self, request: Request) -> Stack:
        """The stack that the path names."""
        named = request.path_params["id"]
        stacks = await self._deployments.stacks(request.state.principal)
        by_id = wire.find_by_id(stacks, named)
        found = by_id or wire.find_by_name(stacks, named, self._project)
        if found is None:
            raise StackNotFound(f'blueprint instance "{named}" not found')
        return found

    async def _history(self, principal: Principal, stack: Stack) -> instances.History:
        deployments, before, more = [], None, True
        while more:
            page = await self._deployments.deployments_of(
                principal, stack.id, before=before, limit=_PAGE
            )
            deployments += page
            more = len(page) == _PAGE
            before = page[-1].id if page else None
        return instances.History(deployments)

    async def _resources(
        self, principal: Principal, stack: Stack, *, before: int | None = None
    ) -> dict[str, ResourceRecord]:
        """The resources after the events before that position."""
        records: dict[str, ResourceRecord] = {}
        query = Query(
            scope=stack_scope(stack.project, stack.id),
            filter=RESOURCES,
            before=before,
            order="oldest",
            limit=sys.maxsize,
        )
        async for events in self._events.pages(principal, query):
            records = fold(records, events)
        return records

    async def _exports(
        self, principal: Principal, stack: Stack, history: instances.History
    ) -> Json:
        """The exports; empty when nothing is deployed."""
        if not history.deployed:
            return {}
        scope = stack_scope(stack.project, stack.id)
        query = Query(scope=scope, filter=instances.OUTPUTS, limit=1)
        found = await self._events.read(principal, query)
        return instances.render_exports(found[0] if found else None)


@contextmanager
def _naming(id: str) -> Iterator[None]:
    """Name a missing change set in the words of the engine."""
    try:
        yield
    except ChangesetNotFound as error:
        raise ChangesetNotFound(f'change set "{id}" not found') from error


def _changeset_id(request: Request) -> str:
    id: str = request.path_params.get("id", "cleanup")
    return id


def _last_id(request: Request) -> str:
    return request.headers.get("last-event-id", "")


def _render_whole(changeset: Changeset, changes: bytes, records: Records) -> bytes:
    return wire.render_changeset(changeset, decode_changes(changes), records)
