"""The collector: reads the events of a stack and of those nested in it, and records each once."""

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress

import msgspec

from deploylog.client import Say, Sleep
from deploylog.client.collect.cloudformation import CloudFormation, FoundStack, StackNotFound
from deploylog.client.collect.recorded import Logbook
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import InvalidEvent, OperatorError
from deploylog.events.event import NewEvent
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.mapping import OPEN_FAILURES, StackContext, StackMapper
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import nested_arns, time_of
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: How far behind the newest event others are looked for that appear late, in ns.
OVERLAP = 60 * SECOND

#: How much earlier an event may have happened that tells of the same, in ns.
_NEARBY = 10 * SECOND


class PollOptions(msgspec.Struct, frozen=True, kw_only=True):
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
        #: From when on each stack is read, in ns. Each has its own: that something has happened
        #: in one does not say that everything was read that happened in another before.
        self._since: dict[str, int] = {arn: 0}

    @property
    def since(self) -> int:
        """What happened before this is not read any more; in ns."""
        return min(self._since.values())

    def start(self, since: int) -> None:
        """Read the stack itself from ``since`` (ns) on."""
        self._since[self._arn] = since

    def expect(self, nested: Iterable[str], since: int) -> None:
        """Read these, too, from ``since`` (ns) on."""
        for arn in nested:
            self._since.setdefault(arn, since)

    def advance(self, events: Iterable[StackEvent]) -> None:
        """Read on from where ``events`` are, with a look back."""
        for event in events:
            known = self._since.get(event.stack_id, 0)
            self._since[event.stack_id] = max(known, time_of(event) - OVERLAP)

    def forget_nested(self) -> None:
        """Read them no more until something happens to them."""
        self._since = {self._arn: self._since[self._arn]}

    async def find(self) -> FoundStack | None:
        """The stack as it is now, though no event may tell yet."""
        return await self._cloudformation.find(self._arn)

    async def tags(self) -> dict[str, str] | None:
        """The stack's tags, as they are now; ``None`` when CloudFormation has forgotten it."""
        found = await self._cloudformation.find(self._arn)
        return found.tags if found is not None else None

    async def read(self, done: Container[str], *, began: int) -> list[StackEvent]:
        """The events, oldest first, also some of those that are ``done``; of a nested stack that
        was not read before, those from when the operation ``began`` (ns).
        """
        while True:
            # What happens in a nested stack, the outermost has begun, and told, before: read
            # after it, it would tell of operations that nobody has heard of yet.
            nested = await self._read_nested()
            own = await self._read(self._arn)
            if nested and any(event.event_id not in done for event in own):
                nested = _until(max(map(time_of, own)), await self._read_nested(), nested)
            events = [*own, *nested]
            found = nested_arns(events) - self._since.keys()
            if not found:
                # Each list is in its order already, which decides within a millisecond.
                return sorted(events, key=time_of)
            self.expect(found, min(self._since[self._arn], began))

    async def _read_nested(self) -> list[StackEvent]:
        events: list[StackEvent] = []
        for arn in [arn for arn in self._since if arn != self._arn]:
            # One that was deleted so long ago that CloudFormation has forgotten it was nested in
            # an earlier operation.
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


def _until(time: int, now: Sequence[StackEvent], before: Sequence[StackEvent]) -> list[StackEvent]:
    """Those that are there ``now`` and happened until ``time``, or were there ``before``."""
    ids = {event.event_id for event in before}
    return [event for event in now if event.event_id in ids or time_of(event) <= time]


class Collector:
    """One stack, from where the log ends to where the stack does."""

    def __init__(
        self,
        frame: StackContext,
        reader: StackReader,
        logbook: Logbook,
        *,
        pace: PollOptions,
        say: Say,
    ) -> None:
        """Record in ``logbook`` what ``reader`` reads."""
        self._frame = frame
        self._reader = reader
        self._logbook = logbook
        self._pace = pace
        self._say = say
        self._record = StackMapper(frame)
        #: What was read and needs no second look, by id: when it happened.
        self._done: dict[str, int] = {}
        self._held: set[str] = set()
        self._is_read_back = False

    async def run(self) -> Operation | None:
        """Collect until the stack is deleted or, unless it is followed, until nothing is going
        on; the last operation.
        """
        await self._resume()
        while True:
            is_news = await self._look()
            # Not at once after the end: what happened before it may appear a little later.
            if not is_news and not self._is_going_on():
                found = await self._reader.find()
                if found is None or not found.is_busy:
                    self._reader.forget_nested()
                    if not self._pace.follow or self._is_deleted(found):
                        return self._record.last
            await self._pace.sleep(self._pace.interval)

    async def _resume(self) -> None:
        """Go on where the log ends."""
        self._record = StackMapper(self._frame, await self._logbook.operations())
        newest = await self._logbook.newest_collected(self._frame.arn)
        if newest is not None:
            since = max(newest - OVERLAP, 0)
            self._reader.start(since)
            began = min(self._began(), since)
            self._reader.expect(await self._logbook.nested_since(began), began)
        elif self._record.last is None:
            self._reader.start(await self._logbook.forgotten_until(self._frame))

    def _began(self) -> int:
        last = self._record.last
        return last.started if last is not None else 0

    def _is_going_on(self) -> bool:
        last = self._record.last
        return bool(self._held) or (last is not None and last.ended is None)

    def _is_deleted(self, found: FoundStack | None) -> bool:
        last = self._record.last
        if last is None:
            return False
        # A creation that failed may end with the stack's deletion, too.
        is_gone = found is not None and found.is_deleted
        return is_gone or (last.verb, last.status) == ("delete", "completed")

    async def _look(self) -> bool:
        """Record what is new; whether there was anything."""
        events = await self._reader.read(self._done, began=self._began())
        fresh = self._settled([event for event in events if event.event_id not in self._done])
        if not fresh:
            return False
        await self._take(fresh)
        self._reader.advance(fresh)
        self._done |= {event.event_id: time_of(event) for event in fresh}
        since = self._reader.since
        self._done = {id: time for id, time in self._done.items() if time >= since}
        return True

    def _settled(self, fresh: list[StackEvent]) -> list[StackEvent]:
        """Without a failure that is the last word so far: a rollback may follow, and then it is
        not the end. At the second look it is.
        """
        own = [event for event in fresh if self._is_own(event)]
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
        # An update may have changed them. At the first look they have just been read.
        if self._done and any(self._is_own(event) for event in fresh):
            self._frame = msgspec.structs.replace(self._frame, tags=await self._reader.tags())
        # Others may have begun operations meanwhile.
        record = StackMapper(self._frame, await self._logbook.operations())
        told = self._tell(record, [event for event in fresh if recorded.find(event) is None])
        if told:
            await self._logbook.append(record, told)
            await self._require_read_back(record)
        self._record = record
        for event in told:
            self._announce(event)

    def _is_own(self, event: StackEvent) -> bool:
        return event.is_stack_itself and event.stack_id == self._frame.arn

    async def _require_read_back(self, record: StackMapper) -> None:
        """Raise OperatorError unless the key sees what it records: to whoever does not, each look
        would be the first, and what happens would belong to no operation.
        """
        if self._is_read_back or record.last is None:
            return
        if not await self._logbook.operations():
            raise OperatorError(
                f"the key cannot read what it has recorded of {self._frame.name}: it needs to read"
                " the project, and to be in one of the groups that --group names"
            )
        self._is_read_back = True

    def _tell(self, record: StackMapper, events: Sequence[StackEvent]) -> list[NewEvent]:
        try:
            return record.record(events)
        except InvalidEvent as error:
            raise InvalidEvent(
                f"CloudFormation tells what the log cannot hold: {error.message}", field=error.field
            ) from error

    def _announce(self, event: NewEvent) -> None:
        if event.type in DEPLOYMENT_LIFECYCLE:
            deployment = event.scopes[0].rpartition("/")[2]
            self._say(f"{self._frame.name}: {event.type} ({deployment}): {event.message}")
