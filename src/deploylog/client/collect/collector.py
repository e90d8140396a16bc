"""The collector: reads the events of a stack and of its nested stacks, and records each once."""

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress

import msgspec

from deploylog.client import Log, Timing
from deploylog.client.collect.cloudformation import CloudFormation, FoundStack, StackNotFound
from deploylog.client.collect.recorded import RecordedStack
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import InvalidEvent, OperatorError
from deploylog.events.event import NewEvent
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.mapping import OPEN_FAILURES, StackMapper
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import nested_arns, time_of
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: How far before the newest event to look for events that appear late, in ns.
OVERLAP = 60 * SECOND

#: How far apart two events that report the same thing may be, in ns.
_NEARBY = 10 * SECOND


class PollOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to poll a stack."""

    #: Seconds between two polls.
    interval: float
    #: Whether to continue while no operation is running.
    follow: bool


class StackReader:
    """Reads the events of the stack with this ARN and of its nested stacks, at any depth."""

    def __init__(self, cloudformation: CloudFormation, arn: str) -> None:
        self._cloudformation = cloudformation
        self._arn = arn
        #: The time from which each stack is read, in ns. Each stack has its own, because an event
        #: of one stack does not mean that all earlier events of another were read.
        self._since: dict[str, int] = {arn: 0}

    @property
    def since(self) -> int:
        """The time before which no event is read again, in ns."""
        return min(self._since.values())

    def start(self, since: int) -> None:
        """Read the stack itself from ``since`` (ns)."""
        self._since[self._arn] = since

    def add_nested(self, arns: Iterable[str], since: int) -> None:
        """Read nested stacks too, from ``since`` (ns)."""
        for arn in arns:
            self._since.setdefault(arn, since)

    def advance(self, events: Iterable[StackEvent]) -> None:
        """Move to the times of ``events``, less the overlap."""
        for event in events:
            known = self._since.get(event.stack_id, 0)
            self._since[event.stack_id] = max(known, time_of(event) - OVERLAP)

    def drop_nested(self) -> None:
        """Stop reading nested stacks until something happens to them."""
        self._since = {self._arn: self._since[self._arn]}

    async def find(self) -> FoundStack | None:
        """Return the stack's current state, which may be ahead of its events."""
        return await self._cloudformation.find(self._arn)

    async def tags(self) -> dict[str, str] | None:
        """Return the stack's current tags; ``None`` if CloudFormation no longer has the stack."""
        found = await self._cloudformation.find(self._arn)
        return found.tags if found is not None else None

    async def read(self, done: Container[str], *, operation_start: int) -> list[StackEvent]:
        """Return the events, oldest first, including some that are ``done``.

        A nested stack that was not read before is read from ``operation_start`` (ns).
        """
        while True:
            # The outermost stack reports an operation before its nested stacks do. If they were
            # read after it, they could report an operation that is not known yet.
            nested = await self._read_nested()
            own = await self._read(self._arn)
            if nested and any(event.event_id not in done for event in own):
                latest = max(map(time_of, own))
                nested = _up_to(latest, await self._read_nested(), known=nested)
            events = [*own, *nested]
            found = nested_arns(events) - self._since.keys()
            if not found:
                # Each list is already in order, which decides within one millisecond.
                return sorted(events, key=time_of)
            self.add_nested(found, min(self._since[self._arn], operation_start))

    async def _read_nested(self) -> list[StackEvent]:
        events: list[StackEvent] = []
        for arn in [arn for arn in self._since if arn != self._arn]:
            # A stack deleted so long ago that CloudFormation no longer has it was nested in an
            # earlier operation.
            with suppress(StackNotFound):
                events += await self._read(arn)
        return events

    async def _read(self, arn: str) -> list[StackEvent]:
        since = self._since[arn]
        events: list[StackEvent] = []
        token: str | None = None
        while True:
            page = await self._cloudformation.page(arn, token)
            events += page.events
            is_old = bool(page.events) and time_of(page.events[-1]) < since
            if page.next is None or page.next == token or is_old:
                break
            token = page.next
        return [event for event in reversed(events) if time_of(event) >= since]


def _up_to(
    time: int, events: Sequence[StackEvent], *, known: Sequence[StackEvent]
) -> list[StackEvent]:
    """Return the events that happened up to ``time`` or are ``known``."""
    ids = {event.event_id for event in known}
    return [event for event in events if event.event_id in ids or time_of(event) <= time]


class Collector:
    """Collects one stack, from where the log ends to where the stack's events end."""

    def __init__(
        self,
        context: StackContext,
        reader: StackReader,
        recorded: RecordedStack,
        *,
        poll: PollOptions,
        timing: Timing,
        log: Log,
    ) -> None:
        self._context = context
        self._reader = reader
        self._recorded = recorded
        self._poll_options = poll
        self._timing = timing
        self._log = log
        self._mapper = StackMapper(context)
        #: The time of each event that needs no second poll, by id.
        self._done: dict[str, int] = {}
        #: The failure that may not be the end of its operation, by id.
        self._open_failure: str | None = None
        self._is_read_back = False

    async def run(self) -> Operation | None:
        """Collect until the stack is deleted or, unless it is followed, until no operation is
        running; return the last operation.
        """
        await self._resume()
        while True:
            has_new = await self._poll()
            # Not at once after the end: an event from before it may appear a little later.
            if not has_new and not self._is_running():
                found = await self._reader.find()
                if found is None or not found.is_busy:
                    self._reader.drop_nested()
                    if not self._poll_options.follow or self._is_deleted(found):
                        return self._mapper.last
            await self._timing.sleep(self._poll_options.interval)

    async def _resume(self) -> None:
        """Continue where the log ends."""
        self._mapper = StackMapper(self._context, await self._recorded.operations())
        newest = await self._recorded.newest_collected(self._context.arn)
        if newest is not None:
            since = max(newest - OVERLAP, 0)
            self._reader.start(since)
            start = min(self._operation_start(), since)
            self._reader.add_nested(await self._recorded.nested_since(start), start)
        elif self._mapper.last is None:
            self._reader.start(await self._recorded.pruned_until(self._context))

    def _operation_start(self) -> int:
        last = self._mapper.last
        return last.started if last is not None else 0

    def _is_running(self) -> bool:
        last = self._mapper.last
        return self._open_failure is not None or (last is not None and last.ended is None)

    def _is_deleted(self, found: FoundStack | None) -> bool:
        last = self._mapper.last
        if last is None:
            return False
        # A creation that failed may also end with the deletion of the stack.
        is_gone = found is not None and found.is_deleted
        return is_gone or (last.verb, last.status) == ("delete", "completed")

    async def _poll(self) -> bool:
        """Record new events; return whether there were any."""
        events = await self._reader.read(self._done, operation_start=self._operation_start())
        new = [event for event in events if event.event_id not in self._done]
        new = self._without_open_failure(new)
        if not new:
            return False
        await self._record(new)
        self._reader.advance(new)
        self._done |= {event.event_id: time_of(event) for event in new}
        since = self._reader.since
        self._done = {id: time for id, time in self._done.items() if time >= since}
        return True

    def _without_open_failure(self, new: list[StackEvent]) -> list[StackEvent]:
        """Cut ``new`` before a failure that comes last: a rollback may follow, in which case the
        failure does not end the operation. The next poll decides.
        """
        own = [event for event in new if self._is_own(event)]
        is_open = bool(own) and own[-1].resource_status in OPEN_FAILURES
        if not is_open or own[-1].event_id == self._open_failure:
            self._open_failure = None
            return new
        self._open_failure = own[-1].event_id
        return new[: new.index(own[-1])]

    async def _record(self, new: Sequence[StackEvent]) -> None:
        recorded = await self._recorded.recorded_since(time_of(new[0]) - _NEARBY)
        # An update may have changed the tags. Before the first poll they have just been read.
        if self._done and any(self._is_own(event) for event in new):
            tags = await self._reader.tags()
            self._context = msgspec.structs.replace(self._context, tags=tags)
        # Another producer may have recorded operations in the meantime.
        mapper = StackMapper(self._context, await self._recorded.operations())
        events = _map(mapper, [event for event in new if recorded.find(event) is None])
        if events:
            await self._recorded.append(mapper, events)
            await self._require_readable(mapper)
        self._mapper = mapper
        for event in events:
            self._announce(event)

    def _is_own(self, event: StackEvent) -> bool:
        return event.is_stack_itself and event.stack_id == self._context.arn

    async def _require_readable(self, mapper: StackMapper) -> None:
        """Raise OperatorError unless the key can read what it records.

        Otherwise every poll would be like the first, and no event would belong to an operation.
        """
        if self._is_read_back or mapper.last is None:
            return
        if not await self._recorded.operations():
            raise OperatorError(
                f"the key cannot read the events it records for {self._context.name}: it needs read"
                " access to the project, and membership in one of the groups given with --group"
            )
        self._is_read_back = True

    def _announce(self, event: NewEvent) -> None:
        if event.type in DEPLOYMENT_LIFECYCLE:
            deployment = event.scopes[0].rpartition("/")[2]
            self._log(f"{self._context.name}: {event.type} ({deployment}): {event.message}")


def _map(mapper: StackMapper, events: Sequence[StackEvent]) -> list[NewEvent]:
    try:
        return mapper.map_events(events)
    except InvalidEvent as error:
        raise InvalidEvent(
            f"CloudFormation returned an event that cannot be recorded: {error.message}",
            field=error.field,
        ) from error
