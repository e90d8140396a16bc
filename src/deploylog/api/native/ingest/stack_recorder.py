"""Notices of CloudFormation's: each event that somebody sends finds its stack and deployment."""

import asyncio

from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import InvalidEvent, StackExists
from deploylog.events.access import Principal
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import AnyOf, Filter, any_of
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.events.times import LATEST, SECOND
from deploylog.ingest.cloudformation.mapping import StackContext, StackMapper
from deploylog.ingest.cloudformation.operations import (
    TELLING,
    Operation,
    note_recorded,
    operations_of,
)
from deploylog.ingest.cloudformation.parsing import Recorded, time_of
from deploylog.ingest.cloudformation.stack_event import SOURCE, StackEvent

#: How far from an event's time others are looked for that tell of the same, in ns.
_NEARBY = 10 * SECOND

#: The lifecycle events from which the last operations are known again.
_LAST = 200

#: The most events that tell of failures; the first of an operation are enough.
_FAILURES = 1_000

#: The most events about one thing within that time.
_ALIKE = 200


class StackNotices:
    """Records what is told of stacks, each event once, whoever told it before."""

    def __init__(self, service: EventService) -> None:
        """Ask ``service`` what is known, and record with it."""
        self._service = service
        # Two notices of one operation would both begin it.
        self._turn = asyncio.Lock()

    async def record(
        self, principal: Principal, frame: StackContext, event: StackEvent
    ) -> list[Event]:
        """The events as recorded, now or when a collector or another notice told of the same."""
        principal.require("write", frame.stack_scope)
        async with self._turn:
            if known := await self._told(principal, frame, event):
                return [known]
            operations = operations_of(await self._lifecycle(principal, frame))
            if event.is_stack_itself:
                await self._note_failures(principal, frame, operations)
            record = StackMapper(frame, operations)
            return await self._append(principal, record, time_of(event), record.record([event]))

    async def _told(
        self, principal: Principal, frame: StackContext, event: StackEvent
    ) -> Event | None:
        time = time_of(event)
        # No pattern: an id may end as one does.
        subject = AnyOf(field="subject", values=(event.logical_resource_id,))
        about = (any_of("source", (SOURCE,)), subject)
        near = Filter(all_of=about, since=max(time - _NEARBY, 0), until=min(time + _NEARBY, LATEST))
        query = Query(scope=frame.stack_scope, filter=near, limit=_ALIKE)
        known = Recorded(await self._service.read_written(principal, query)).find(event)
        return known if isinstance(known, Event) else None

    async def _note_failures(
        self, principal: Principal, frame: StackContext, operations: list[Operation]
    ) -> None:
        """Let those that go on know what failed in them, for the event that ends them."""
        going_on = [each for each in operations if each.ended is None]
        if going_on:
            about = (any_of("source", (SOURCE,)), any_of("type", TELLING))
            since = min(each.started for each in going_on)
            query = Query(
                scope=frame.stack_scope,
                filter=Filter(all_of=about, since=since),
                order="oldest",
                limit=_FAILURES,
            )
            note_recorded(going_on, await self._service.read_written(principal, query))

    async def _lifecycle(self, principal: Principal, frame: StackContext) -> list[Event]:
        about = Filter(all_of=(any_of("type", DEPLOYMENT_LIFECYCLE),))
        query = Query(scope=frame.stack_scope, filter=about, limit=_LAST)
        return await self._service.read_written(principal, query)

    async def _append(
        self, principal: Principal, record: StackMapper, time: int, events: list[NewEvent]
    ) -> list[Event]:
        """Record ``events``, and before them that there is the stack."""
        # Its name may be another's. If neither is free, the stack itself is there, and the event
        # that began it is no longer retained.
        for created in (record.created(time), record.created(time, long=True)):
            try:
                return (await self._service.append(principal, [created, *events]))[1:]
            except StackExists:
                continue
            except InvalidEvent as error:
                raise InvalidEvent(error.message, field=error.field) from error
        return await self._service.append(principal, events)
