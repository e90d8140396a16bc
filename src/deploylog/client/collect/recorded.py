"""What the server has recorded of a stack, which is the only checkpoint of a collector."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from deploylog.client import Client, ClientError, Params
from deploylog.client.retry import RetryPolicy, retry
from deploylog.client.uploader import MAX_BYTES, MAX_EVENTS
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope
from deploylog.events.times import MILLISECOND, parse_time, render_time
from deploylog.ingest.cloudformation.mapping import StackMapper
from deploylog.ingest.cloudformation.operations import (
    FAILURE_TYPES,
    Operation,
    apply_recorded,
    operations_of,
)
from deploylog.ingest.cloudformation.parsing import RecordedEvents, nested_arns, time_of
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import (
    SOURCE,
    STACK_TYPE,
    StackEvent,
    catalogue_id,
    stack_event_of,
)

_T = TypeVar("_T")

_PAGE = 1000


class _RecordedEvent(msgspec.Struct):
    """The attributes of a recorded event that a collector reads."""

    type: str
    source: str
    time: str
    scopes: str = ""
    producerid: str | None = None
    message: str | None = None
    via: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RecordedStack:
    """Reads the recorded events below a stack's scope, and appends to them; retries requests."""

    def __init__(self, client: Client, scope: Scope, policy: RetryPolicy) -> None:
        self._client = client
        self._scope = scope
        self._policy = policy
        self._is_created = False

    async def newest_collected(self, arn: str) -> int | None:
        """Return the time of the newest event of the stack itself, not of a nested one, that a
        collector has recorded; ``None`` if there is none.

        Events that SNS or EventBridge delivered do not count: there may be gaps before them.
        """
        async for page in self._pages(source=(SOURCE,)):
            collected = _stack_events([event for event in page if event.via is None])
            times = [time_of(event) for event in collected if event.stack_id == arn]
            if times:
                return max(times)
        return None

    async def pruned_until(self, context: StackContext) -> int:
        """Return when the last deployment that the catalog has of the stack ended, or started, in
        ns; 0 without one. Its events are no longer retained.
        """
        for name in (context.name, context.long_name):
            params = [("project", context.project), ("stack", name), ("limit", "1")]
            try:
                page = await self._retry(partial(self._client.deployments, params))
            except ClientError as error:
                if error.problem != "stack-not-found":
                    raise
                continue
            for deployment in page.deployments:
                if deployment.stack_id == context.stack_id:
                    last = deployment.ended or deployment.started
                    return int(last.timestamp() * 1000) * MILLISECOND + MILLISECOND
        return 0

    async def operations(self) -> list[Operation]:
        """Return the last recorded operations of the stack, oldest first."""
        async for page in self._pages(type=DEPLOYMENT_LIFECYCLE):
            operations = operations_of(map(_new_event, page))
            await self._note_failures([each for each in operations if each.ended is None])
            return operations
        return []

    async def _note_failures(self, running: Sequence[Operation]) -> None:
        """Note what has failed in running operations, for the events that will end them."""
        if running:
            since = (render_time(min(each.started for each in running)),)
            pages = self._pages(source=(SOURCE,), type=FAILURE_TYPES, since=since)
            apply_recorded(running, [_new_event(event) async for page in pages for event in page])

    async def recorded_since(self, time: int) -> RecordedEvents:
        """Return the stack's events that happened at ``time`` (ns) or later."""
        since = (render_time(max(time, 0)),)
        pages = self._pages(source=(SOURCE,), since=since)
        return RecordedEvents([_new_event(event) async for page in pages for event in page])

    async def nested_since(self, time: int) -> set[str]:
        """Return the ARNs of nested stacks with an event at ``time`` (ns) or later."""
        since = (render_time(max(time, 0)),)
        pages = self._pages(source=(SOURCE,), resourcetype=(STACK_TYPE,), since=since)
        return nested_arns([event async for page in pages for event in _stack_events(page)])

    async def arn(self, project: str, stack_id: str) -> str | None:
        """Return the ARN from which the catalog id ``stack_id`` was derived."""
        async for page in self._pages(source=(SOURCE,)):
            for event in _stack_events(page):
                if catalogue_id(project, event.stack_id) == stack_id:
                    return event.stack_id
        return None

    async def append(self, mapper: StackMapper, events: Sequence[NewEvent]) -> None:
        """Record ``events`` in order, and before them the creation of the stack."""
        for batch in _batches(events):
            if self._is_created:
                await self._post(batch)
            else:
                await self._create(mapper, batch)
                self._is_created = True

    async def _create(self, mapper: StackMapper, batch: Sequence[NewEvent]) -> None:
        time = batch[0].time
        # Another stack may have the name: one of another region, or one that was not collected to
        # its end. If neither name is free, the stack itself exists and its creation was pruned.
        names = [mapper.stack_created(time), mapper.stack_created(time, long=True)]
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
        await self._retry(lambda: self._client.append(body))

    async def _pages(self, **filters: Sequence[str]) -> AsyncIterator[list[_RecordedEvent]]:
        """Yield the stack's events that ``filters`` select, newest first, a page at a time."""
        params: Params = [
            ("scope", self._scope),
            ("limit", str(_PAGE)),
            *((name, value) for name, values in filters.items() for value in values),
        ]
        cursor: Params = []
        while True:
            page = await self._retry(partial(self._client.events, [*params, *cursor]))
            yield [msgspec.json.decode(event, type=_RecordedEvent) for event in page.events]
            if page.next is None:
                return
            cursor = [("before", page.next)]

    async def _retry(self, call: Callable[[], Awaitable[_T]]) -> _T:
        return await retry(call, self._policy)


def _stack_events(events: Sequence[_RecordedEvent]) -> list[StackEvent]:
    found = (stack_event_of(_new_event(event)) for event in events)
    return [event for event in found if event is not None]


def _new_event(event: _RecordedEvent) -> NewEvent:
    return NewEvent(
        type=event.type,
        source=event.source,
        scopes=tuple(map(Scope, event.scopes.split())),
        time=parse_time(event.time),
        producer_id=event.producerid,
        message=event.message,
        data=event.data if event.data is not msgspec.UNSET else None,
    )


def _batches(events: Sequence[NewEvent]) -> list[list[NewEvent]]:
    """Cut ``events`` into requests of at most MAX_EVENTS, and MAX_BYTES unless one is larger."""
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
