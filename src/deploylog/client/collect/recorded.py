"""What the server's log holds of one stack: it alone tells how far a collector has come."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from deploylog.client import Client, ClientError, Params
from deploylog.client.retry import RetryPolicy, retry
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope
from deploylog.events.times import MILLISECOND, parse_time, render_time
from deploylog.ingest.cloudformation.mapping import StackContext, StackMapper
from deploylog.ingest.cloudformation.operations import (
    TELLING,
    Operation,
    note_recorded,
    operations_of,
)
from deploylog.ingest.cloudformation.parsing import Recorded, nested_arns, time_of
from deploylog.ingest.cloudformation.stack_event import (
    SOURCE,
    STACK_TYPE,
    StackEvent,
    catalogue_id,
    stack_event_of,
)

_T = TypeVar("_T")

#: The most events of one request.
MAX_EVENTS = 500

#: The most bytes of one, unless a single event has more; the service takes more of both.
MAX_BYTES = 1024 * 1024

_PAGE = 1000


class _RecordedEvent(msgspec.Struct):
    """An event of the server's, as far as a collector needs it."""

    type: str
    source: str
    time: str
    scopes: str = ""
    producerid: str | None = None
    message: str | None = None
    via: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Logbook:
    """Reads what is recorded of a stack, and records more; asks again when nobody answers."""

    def __init__(self, client: Client, scope: Scope, persistence: RetryPolicy) -> None:
        """Ask ``client`` of the stack whose scope this is."""
        self._client = client
        self._scope = scope
        self._persistence = persistence
        self._is_created = False

    async def newest_collected(self, arn: str) -> int | None:
        """When the newest event happened that a collector has recorded of the stack itself, not
        of one nested in it; ``None`` before any.

        What SNS and EventBridge told does not count: there may be gaps before it.
        """
        async for page in self._pages(source=(SOURCE,)):
            collected = [told for told in page if told.via is None]
            said = [event for told in collected if (event := _stack_event(told))]
            times = [time_of(event) for event in said if event.stack_id == arn]
            if times:
                return max(times)
        return None

    async def forgotten_until(self, frame: StackContext) -> int:
        """When the last deployment of a stack ended, or began, of which the catalogue knows while
        its events are no longer retained; in ns, 0 without any.
        """
        for name in (frame.name, frame.long_name):
            about = [("project", frame.project), ("stack", name), ("limit", "1")]
            try:
                page = await self._persist(partial(self._client.deployments, about))
            except ClientError as error:
                if error.problem != "stack-not-found":
                    raise
                continue
            for deployment in page.deployments:
                if deployment.stack_id == frame.stack_id:
                    last = deployment.ended or deployment.started
                    return int(last.timestamp() * 1000) * MILLISECOND + MILLISECOND
        return 0

    async def operations(self) -> list[Operation]:
        """The last operations of the stack that are recorded, oldest first."""
        async for page in self._pages(type=DEPLOYMENT_LIFECYCLE):
            operations = operations_of(map(_event, page))
            await self._note_failures([each for each in operations if each.ended is None])
            return operations
        return []

    async def _note_failures(self, operations: Sequence[Operation]) -> None:
        """Let those that go on know what failed in them, for the event that ends them."""
        if operations:
            since = (render_time(min(each.started for each in operations)),)
            pages = self._pages(source=(SOURCE,), type=TELLING, since=since)
            note_recorded(operations, [_event(told) async for page in pages for told in page])

    async def recorded_since(self, time: int) -> Recorded:
        """The events of the stack that happened at ``time`` (ns) or later."""
        since = (render_time(max(time, 0)),)
        pages = self._pages(source=(SOURCE,), since=since)
        return Recorded([_event(told) async for page in pages for told in page])

    async def nested_since(self, time: int) -> set[str]:
        """The ARNs of nested stacks to which something happened at ``time`` (ns) or later."""
        since = (render_time(max(time, 0)),)
        pages = self._pages(source=(SOURCE,), resourcetype=(STACK_TYPE,), since=since)
        told = [event async for page in pages for each in page if (event := _stack_event(each))]
        return nested_arns(told)

    async def arn(self, project: str, stack_id: str) -> str | None:
        """The ARN that ``stack_id``, the catalogue's id of the stack, was made of."""
        async for page in self._pages(source=(SOURCE,)):
            said = [event for told in page if (event := _stack_event(told))]
            for event in said:
                if catalogue_id(project, event.stack_id) == stack_id:
                    return event.stack_id
        return None

    async def append(self, record: StackMapper, events: Sequence[NewEvent]) -> None:
        """Record ``events`` in order, and before them that there is the stack."""
        for batch in _batches(events):
            if self._is_created:
                await self._post(batch)
            else:
                await self._create(record, batch)
                self._is_created = True

    async def _create(self, record: StackMapper, batch: Sequence[NewEvent]) -> None:
        time = batch[0].time
        # Its name may be another's: that of another region's, or of one that was not collected
        # to its end. If neither name is free, the stack itself is there, its beginning forgotten.
        names = [record.created(time), record.created(time, long=True)]
        for created in names:
            try:
                await self._post([created, *batch])
            except ClientError as error:
                if error.problem != "stack-exists":
                    raise
            else:
                return
        await self._post(batch)

    async def _post(self, events: Sequence[NewEvent]) -> None:
        body = b"\n".join(map(render_new_event, events))
        await self._persist(lambda: self._client.append(body))

    async def _pages(self, **params: Sequence[str]) -> AsyncIterator[list[_RecordedEvent]]:
        """The stack's events that ``params`` select, newest first, a page at a time."""
        asked: Params = [
            ("scope", self._scope),
            ("limit", str(_PAGE)),
            *((name, value) for name, values in params.items() for value in values),
        ]
        before: Params = []
        while True:
            page = await self._persist(partial(self._client.events, [*asked, *before]))
            yield [msgspec.json.decode(event, type=_RecordedEvent) for event in page.events]
            if page.next is None:
                return
            before = [("before", page.next)]

    async def _persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return await retry(call, self._persistence)


def _stack_event(told: _RecordedEvent) -> StackEvent | None:
    return stack_event_of(_event(told))


def _event(told: _RecordedEvent) -> NewEvent:
    return NewEvent(
        type=told.type,
        source=told.source,
        scopes=tuple(map(Scope, told.scopes.split())),
        time=parse_time(told.time),
        producer_id=told.producerid,
        message=told.message,
        data=told.data if told.data is not msgspec.UNSET else None,
    )


def _batches(events: Sequence[NewEvent]) -> list[list[NewEvent]]:
    batches: list[list[NewEvent]] = []
    size = 0
    for event in events:
        bytes_ = len(render_new_event(event))
        if not batches or len(batches[-1]) >= MAX_EVENTS or size + bytes_ > MAX_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(event)
        size += bytes_
    return batches
