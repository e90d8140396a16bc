"""The collector: reads the events of a stack and of those nested in it, and records each once."""

from collections.abc import Sequence

import msgspec

from deploylog.client import Say, Sleep
from deploylog.collect.logbook import Logbook
from deploylog.collect.source import CloudFormation, Missing
from deploylog.errors import InvalidEvent
from deploylog.events import NewEvent
from deploylog.ingest.cloudformation import OPEN_FAILURES, StackFrame, StackRecord
from deploylog.ingest.stack_events import nested_arns, time_of
from deploylog.ingest.stack_operations import Operation
from deploylog.stackstatus import StackEvent
from deploylog.times import SECOND

#: How far behind the newest event others are looked for that appear late, in ns.
OVERLAP = 60 * SECOND

#: How much earlier an event may have happened that tells of the same, in ns.
_NEARBY = 10 * SECOND


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a stack is followed."""

    #: Seconds between two looks.
    interval: float
    #: Whether to go on when nothing is going on.
    follow: bool
    sleep: Sleep


class StackReader:
    """Reads a stack's events with those of the stacks nested in it, however deep."""

    def __init__(self, cloudformation: CloudFormation, arn: str) -> None:
        """Read the stack that has this ARN."""
        self._cloudformation = cloudformation
        self._arn = arn
        #: The nested ones that are known, and how far back each was read, in ns.
        self._nested: dict[str, int | None] = {}

    def expect(self, arns: set[str]) -> None:
        """Read these, too, from now on."""
        for arn in arns:
            self._nested.setdefault(arn, None)

    async def is_busy(self) -> bool:
        """Whether something is going on, though no event may tell yet."""
        found = await self._cloudformation.find(self._arn)
        return found is not None and found.is_busy

    async def read(self, since: int, *, began: int) -> list[StackEvent]:
        """The events from ``since`` on, oldest first; of a stack that was not read before, those
        from when the operation ``began``. Both are in ns.
        """
        events = await self._read(self._arn, since)
        self.expect(nested_arns(events))
        waiting = set(self._nested)
        while waiting:
            arn = waiting.pop()
            start = since if self._nested[arn] is not None else min(since, began)
            found = await self._read_nested(arn, start)
            self._nested[arn] = start
            more = nested_arns(found) - self._nested.keys() - {self._arn}
            self.expect(more)
            waiting |= more
            events += found
        # Each list is in its order already, which decides within a millisecond.
        return sorted(events, key=time_of)

    async def _read_nested(self, arn: str, since: int) -> list[StackEvent]:
        try:
            return await self._read(arn, since)
        except Missing:
            # Deleted so long ago that CloudFormation has forgotten it, with an earlier operation.
            return []

    async def _read(self, arn: str, since: int) -> list[StackEvent]:
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


class Collector:
    """One stack, from where the log ends to where the stack does."""

    def __init__(
        self, frame: StackFrame, reader: StackReader, logbook: Logbook, *, pace: Pace, say: Say
    ) -> None:
        """Record in ``logbook`` what ``reader`` reads."""
        self._frame = frame
        self._reader = reader
        self._logbook = logbook
        self._pace = pace
        self._say = say
        self._record = StackRecord(frame)
        #: What was read and needs no second look, by id: when it happened.
        self._done: dict[str, int] = {}
        self._held: set[str] = set()
        self._since = 0

    async def run(self) -> Operation | None:
        """Collect until the stack is deleted or, unless it is followed, until nothing is going
        on; the last operation.
        """
        await self._resume()
        while True:
            is_news = await self._look()
            # Not at once after the end: what happened before it may appear a little later.
            if not is_news and self._is_over() and not await self._reader.is_busy():
                return self._record.last
            await self._pace.sleep(self._pace.interval)

    async def _resume(self) -> None:
        """Go on where the log ends."""
        self._record = StackRecord(self._frame, await self._logbook.operations())
        newest = await self._logbook.newest_collected()
        if newest is not None:
            self._since = max(newest - OVERLAP, 0)
            began = min(self._began(), self._since)
            self._reader.expect(await self._logbook.nested_since(began))
        elif self._record.last is None:
            self._since = await self._logbook.forgotten_until(self._frame)

    def _began(self) -> int:
        last = self._record.last
        return last.started if last is not None else 0

    def _is_over(self) -> bool:
        last = self._record.last
        if self._held or (last is not None and last.ended is None):
            return False
        is_deleted = last is not None and (last.verb, last.status) == ("delete", "completed")
        return is_deleted or not self._pace.follow

    async def _look(self) -> bool:
        """Record what is new; whether there was anything."""
        events = await self._reader.read(self._since, began=self._began())
        fresh = self._settled([event for event in events if event.event_id not in self._done])
        if not fresh:
            return False
        await self._take(fresh)
        self._done |= {event.event_id: time_of(event) for event in fresh}
        self._since = max(self._since, max(self._done.values()) - OVERLAP)
        self._done = {id: time for id, time in self._done.items() if time >= self._since}
        return True

    def _settled(self, fresh: list[StackEvent]) -> list[StackEvent]:
        """Without a failure that is the last word so far: a rollback may follow, and then it is
        not the end. At the second look it is.
        """
        own = [e for e in fresh if e.is_own and e.stack_id == self._frame.arn]
        if not own or own[-1].resource_status not in OPEN_FAILURES:
            self._held.clear()
            return fresh
        if own[-1].event_id in self._held:
            self._held.clear()
            return fresh
        self._held = {own[-1].event_id}
        return fresh[: fresh.index(own[-1])]

    async def _take(self, fresh: Sequence[StackEvent]) -> None:
        recorded = await self._logbook.recorded_since(time_of(fresh[0]) - _NEARBY)
        # Others may have begun operations meanwhile.
        record = StackRecord(self._frame, await self._logbook.operations())
        told = self._tell(record, [event for event in fresh if recorded.find(event) is None])
        if told:
            await self._logbook.append(record, told)
        self._record = record
        for event in told:
            self._announce(event)

    def _tell(self, record: StackRecord, events: Sequence[StackEvent]) -> list[NewEvent]:
        try:
            return record.record(events)
        except InvalidEvent as error:
            raise InvalidEvent(
                f"CloudFormation tells what the log cannot hold: {error.message}", field=error.field
            ) from error

    def _announce(self, event: NewEvent) -> None:
        if event.type in ("deployment.started", "deployment.completed", "deployment.failed"):
            deployment = event.scopes[0].rpartition("/")[2]
            self._say(f"{self._frame.name}: {event.type} ({deployment}): {event.message}")
