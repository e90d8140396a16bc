"""Records CloudFormation events from EventBridge and SNS under their stacks and deployments."""

import asyncio
from collections.abc import Sequence

from deploylog.deployments.endings import DeploymentEndings
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import InvalidEvent, StackExists
from deploylog.events.access import Principal
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import AnyOf, Filter, any_of
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.events.times import LATEST, SECOND
from deploylog.ingest.cloudformation.mapping import StackMapper
from deploylog.ingest.cloudformation.operations import (
    FAILURE_TYPES,
    Operation,
    apply_recorded,
    operations_of,
)
from deploylog.ingest.cloudformation.parsing import RecordedEvents, time_of
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import SOURCE, StackEvent

#: Duplicates of an event lie within this time of it, in ns.
_DUPLICATE_WINDOW = 10 * SECOND

#: Lifecycle events read to reconstruct the last operations.
_MAX_LIFECYCLE_EVENTS = 200

#: Failure events read; the first ones of an operation are enough.
_MAX_FAILURES = 1_000

#: Events of one resource read within the duplicate window.
_MAX_DUPLICATES = 200


class StackRecorder:
    """Records each stack event once, whichever source sends it first."""

    def __init__(self, service: EventService, endings: DeploymentEndings) -> None:
        self._service = service
        self._endings = endings
        # Without it, two concurrent notifications would both start their operation.
        self._lock = asyncio.Lock()

    async def record(
        self, principal: Principal, frame: StackContext, event: StackEvent
    ) -> list[Event]:
        """Record ``event``; return the events recorded now, or the earlier one it duplicates."""
        principal.require("write", frame.stack_scope)
        async with self._lock:
            if duplicate := await self._duplicate(principal, frame, event):
                return [duplicate]
            operations = operations_of(await self._lifecycle(principal, frame))
            if event.is_stack_itself:
                await self._note_failures(principal, frame, operations)
            mapper = StackMapper(frame, operations)
            whole = await self._endings.complete(principal, mapper.map_events([event]))
            return await self._append(principal, mapper, time_of(event), whole)

    async def _duplicate(
        self, principal: Principal, frame: StackContext, event: StackEvent
    ) -> Event | None:
        time = time_of(event)
        # Not ``any_of``, which would read an id that ends in ``.*`` as a pattern.
        subject = AnyOf(field="subject", values=(event.logical_resource_id,))
        about = (any_of("source", (SOURCE,)), subject)
        since, until = max(time - _DUPLICATE_WINDOW, 0), min(time + _DUPLICATE_WINDOW, LATEST)
        nearby = Filter(all_of=about, since=since, until=until)
        query = Query(scope=frame.stack_scope, filter=nearby, limit=_MAX_DUPLICATES)
        found = RecordedEvents(await self._service.read_for_writer(principal, query)).find(event)
        return found if isinstance(found, Event) else None

    async def _note_failures(
        self, principal: Principal, frame: StackContext, operations: list[Operation]
    ) -> None:
        """Add recorded failures to the running operations, for the event that ends them."""
        running = [each for each in operations if each.ended is None]
        if running:
            about = (any_of("source", (SOURCE,)), any_of("type", FAILURE_TYPES))
            since = min(each.started for each in running)
            query = Query(
                scope=frame.stack_scope,
                filter=Filter(all_of=about, since=since),
                order="oldest",
                limit=_MAX_FAILURES,
            )
            apply_recorded(running, await self._service.read_for_writer(principal, query))

    async def _lifecycle(self, principal: Principal, frame: StackContext) -> list[Event]:
        about = Filter(all_of=(any_of("type", DEPLOYMENT_LIFECYCLE),))
        query = Query(scope=frame.stack_scope, filter=about, limit=_MAX_LIFECYCLE_EVENTS)
        return await self._service.read_for_writer(principal, query)

    async def _append(
        self, principal: Principal, mapper: StackMapper, time: int, events: Sequence[NewEvent]
    ) -> list[Event]:
        """Record ``events``, preceded by the stack's creation if it is new."""
        # Another stack may have its name. If the long name is taken too, the stack itself has it,
        # and its creation event is no longer retained.
        for created in (mapper.stack_created(time), mapper.stack_created(time, long=True)):
            try:
                return (await self._service.append(principal, [created, *events]))[1:]
            except StackExists:
                continue
            except InvalidEvent as error:
                raise InvalidEvent(error.message, field=error.field) from error
        return await self._service.append(principal, events)
