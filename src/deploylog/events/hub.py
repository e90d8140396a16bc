"""The live tail: the hub follows the log once, and any number of readers follow the hub.

A reader holds a position, not a queue. Readers with the same filter share a *ring* of the newest
events that match; a reader behind the ring reads the log, however far behind it is. So a slow
reader is never disconnected, no event is skipped, and history and live events are one loop.

Readers that are up to date and have an outlet form an *audience*, to which the hub writes each
batch in one loop. All others are woken, and read at their own pace.

The rings, and the events being sent, are limited in bytes. A reader that exceeds the limit reads
the log, or waits and holds nothing but its position.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from deploylog.errors import LogReset, StoreUnavailable
from deploylog.events.audience import Audience
from deploylog.events.batch import Batch, Gap
from deploylog.events.event import size_of
from deploylog.events.fair_semaphore import FairSemaphore
from deploylog.events.history import Found, History
from deploylog.events.outlet import Outlet, View
from deploylog.events.ring import (
    BATCH_BYTES,
    RING_SIZE,
    BatchCache,
    Ring,
    RingBudget,
    StreamFilter,
)
from deploylog.events.store import EventLog, Page, Query

#: Seconds before the hub follows the log again after the store failed.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)

#: A shorter rest is skipped.
MIN_REST_SECONDS = 0.001

#: Events of one read from the log.
PAGE = 500

#: Bytes that all streams take by default, and how eighths of it are allotted: to the rings, to the
#: batches that readers share, and to the large events that are being sent. Half of the batches are
#: of the rings, and half of the log.
MEMORY_BYTES = 128 * 1024 * 1024
_RING_EIGHTHS, _BATCH_EIGHTHS, _SENDING_EIGHTHS = 3, 1, 4

#: Positions that one read from the log covers, at least. A filter that is slow to check covers few
#: in a read, so that other readers get their turn.
_MIN_WINDOW = 4_096

#: Seconds that a read should take, at least and at most.
_QUICK_SECONDS, _SLOW_SECONDS = 0.05, 0.2


class Reader:
    """One reader's place in the log."""

    def __init__(self, hub: "Hub", ring: Ring, position: int, caller: str) -> None:
        """Start after ``position``; ``caller`` as in ``Query``."""
        self._hub = hub
        self._ring = ring
        self._position = position
        self._caller = caller
        self._wakeup: asyncio.Future[None] | None = None
        self._closed = False
        self._on_close: Callable[[], None] = _nothing
        self._audience: Audience | None = None
        #: Bytes of ``hub.sending`` that the last batch took.
        self._reserved = 0

    @property
    def position(self) -> int:
        """Everything up to here was returned by ``next``, or written to its outlet."""
        return self._position if self._audience is None else self._audience.position

    async def next(self, outlet: Outlet | None = None) -> Batch | None:
        """Return the next events, or an empty batch as a heartbeat.

        Returns ``None`` once the reader or the hub is closed. Call it only after the last batch
        has been sent: until then its bytes count as being sent. While the reader is at the head,
        batches may be written to ``outlet`` and are not returned.
        """
        self.release()
        heartbeats = self._hub.heartbeats
        while not (self._closed or self._hub.closed):
            start = self._position
            if start < self._ring.floor:
                batch = await self._from_log()
            elif start < self._hub.head:
                batch, end = self._hub.batches.get(self._ring, start)
                self._position = self._hub.head if end is None else end
            elif await self._wait(outlet):
                return Batch()
            else:
                continue
            if not self._has_room(batch.size):
                # The batch is dropped while the reader waits, and read again.
                self._position, size = start, batch.size
                del batch
                self._reserved = await self._hub.sending.acquire(self._caller, size)
            elif batch.events or batch.gap or self._hub.heartbeats > heartbeats:
                return batch
        return None

    def _has_room(self, size: int) -> bool:
        """Whether a batch of this size may be sent now; a small one always may."""
        if size <= BATCH_BYTES or self._reserved:
            return True
        self._reserved = self._hub.sending.try_acquire(self._caller, size)
        return bool(self._reserved)

    def release(self) -> None:
        """Give back what the last batch took of ``hub.sending``."""
        if self._reserved:
            self._hub.sending.release(self._caller, self._reserved)
            self._reserved = 0

    def close(self) -> None:
        """Make ``next`` return ``None``, at once if it is waiting."""
        self._closed = True
        self.wake()
        self._on_close()

    def on_close(self, call: Callable[[], None]) -> None:
        """Set the one callback that is called when the reader is closed."""
        self._on_close = call

    def wake(self) -> None:
        """Make ``next`` check for events again; nothing more is written to its outlet."""
        self._leave()
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _leave(self) -> None:
        """Leave the audience, or the readers that wait to be woken."""
        if self._audience is not None:
            self._position = self._audience.position
            self._hub.leave(self._audience, self)
            self._audience = None
        self._hub.waiting.discard(self)

    async def _from_log(self) -> Batch:
        """Read a page of the events before the ring."""
        if self._ring.readers < 2:
            batch, self._position = await self._read(self._position)
        else:
            history = self._hub.history
            batch, self._position = await history.get(self._ring, self._position, self._read)
        return batch

    async def _read(self, start: int) -> Found:
        ring = self._ring
        end = min(ring.floor, start + ring.window)
        began = asyncio.get_running_loop().time()
        page = await self._hub.log.read(
            Query(
                scope=ring.stream_filter.scope,
                filter=ring.stream_filter.filter,
                visibility=ring.stream_filter.visibility,
                after=start,
                before=end + 1,
                order="oldest",
                limit=PAGE,
                bytes=BATCH_BYTES,
                purpose="background",
                caller=self._caller,
            )
        )
        self._adapt(asyncio.get_running_loop().time() - began)
        # Checked after the read: events that are deleted from now on were in it.
        retained = await self._hub.log.floor()
        if start < retained:
            return Batch(gap=Gap(after=start, floor=retained, reason="expired")), retained
        end = page.next if page.next is not None else end
        return _before_damage(page, end)

    def _adapt(self, seconds: float) -> None:
        """Cover more positions in the next read, or fewer, by how long this one took."""
        if seconds < _QUICK_SECONDS:
            self._ring.window *= 4
        elif seconds > _SLOW_SECONDS:
            self._ring.window = max(self._ring.window // 2, _MIN_WINDOW)

    async def _wait(self, outlet: Outlet | None) -> bool:
        """Wait to be woken, and return whether it was for a heartbeat only."""
        heartbeats = self._hub.heartbeats
        self._wakeup = asyncio.get_running_loop().create_future()
        self._audience = self._hub.join(self, self._ring, outlet)
        try:
            await self._wakeup
        finally:
            self._leave()
            self._wakeup = None
        if outlet is not None and outlet.writer.is_full:
            # What comes next is read when there is room for it.
            await outlet.writer.drain()
        return (
            self._hub.heartbeats > heartbeats
            and self._position >= self._hub.head
            and not self._closed
        )


def _before_damage(page: Page, end: int) -> tuple[Batch, int]:
    """The part of the page before its first damaged events, or else their gap; and its end."""
    if not page.damaged:
        return Batch(page, size=page.size), end
    first = page.damaged[0].position
    before = [event for event in page if event.position < first]
    if before:
        return Batch(before, size=sum(map(size_of, before))), first - 1
    good = page[0].position if page else end + 1
    last = max(each.position for each in page.damaged if each.position < good)
    return Batch(gap=Gap(after=first - 1, floor=last, reason="damaged")), last


def _nothing() -> None:
    pass


class Hub:
    """Follows the log, and wakes the readers."""

    def __init__(
        self,
        log: EventLog,
        *,
        memory: int = MEMORY_BYTES,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Store about ``memory`` bytes at most."""
        self.log = log
        self._retry_seconds = retry_seconds
        eighth = memory // 8
        self._ring_budget = RingBudget(_RING_EIGHTHS * eighth)
        self.batches = BatchCache(_BATCH_EIGHTHS * eighth // 2)
        self.history = History(_BATCH_EIGHTHS * eighth // 2)
        #: The large events that are being sent.
        sending = _SENDING_EIGHTHS * eighth
        self.sending = FairSemaphore(sending, share=sending // 2)
        self.head = 0
        #: The heartbeats so far.
        self.heartbeats = 0
        self.closed = False
        #: Why the log was reset, once it was, and whom to tell.
        self.reset: LogReset | None = None
        self.when_reset: Callable[[], None] = _nothing
        self._rings: dict[StreamFilter, Ring] = {}
        self._readers: set[Reader] = set()
        #: The readers that wait to be woken.
        self.waiting: set[Reader] = set()
        self._audiences: dict[tuple[Ring, View], Audience] = {}

    @property
    def readers(self) -> int:
        """The number of open readers."""
        return len(self._readers)

    @asynccontextmanager
    async def following(self, *, heartbeat: float) -> AsyncIterator[None]:
        """Follow the log while in the block, with a heartbeat every ``heartbeat`` seconds."""
        self.head = await self.log.head()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._follow()), tasks.create_task(self._beat(heartbeat))]
            try:
                yield
            finally:
                self.close()
                for task in running:
                    task.cancel()

    @contextmanager
    def reader(
        self, stream_filter: StreamFilter, *, after: int, caller: str = ""
    ) -> Iterator[Reader]:
        """Open a reader that starts after position ``after``; ``caller`` as in ``Query``."""
        ring = self._rings.setdefault(stream_filter, Ring(stream_filter, self.head))
        ring.readers += 1
        reader = Reader(self, ring, after, caller)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            reader.release()
            self._readers.discard(reader)
            ring.readers -= 1
            if not ring.readers:
                del self._rings[stream_filter]
                self.batches.discard(ring)
                self.history.discard(ring)

    def close(self) -> None:
        """Close every reader."""
        self.closed = True
        for reader in self._readers:
            reader.wake()

    def join(self, reader: Reader, ring: Ring, outlet: Outlet | None) -> Audience | None:
        """Let a reader wait: in the audience for its outlet if both are at the head.

        Returns ``None`` if it waits to be woken.
        """
        if outlet is not None and reader.position == self.head:
            key = (ring, outlet.view)
            audience = self._audiences.get(key)
            if audience is None:
                audience = self._audiences[key] = Audience(ring, outlet.view, self.head)
            if audience.position == self.head:
                audience.add(reader, outlet)
                return audience
        self.waiting.add(reader)
        return None

    def leave(self, audience: Audience, reader: Reader) -> None:
        """Remove a reader from its audience."""
        audience.discard(reader)
        if not audience:
            self._audiences.pop((audience.ring, audience.view), None)

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async for head in self.log.heads():
                    while self.head < head:
                        before = self.head
                        await self._advance(head)
                        began = clock()
                        await self._deliver()
                        if self.head - before > 1:
                            await self._rest(clock() - began)
            except LogReset as reset:
                self.reset = reset
                self.close()
                self.when_reset()
                return
            except StoreUnavailable:
                _LOGGER.exception("cannot follow the log; trying again")
                await asyncio.sleep(self._retry_seconds)

    async def _advance(self, head: int) -> None:
        if not self._rings or head - self.head > RING_SIZE:
            self._skip(head)
            self._move(head)
            return
        page = await self.log.read(
            Query(after=self.head, before=head + 1, order="oldest", limit=PAGE, purpose="lookup")
        )
        end = page.next if page.next is not None else head
        if page.damaged:
            # Only the store knows which readers could see the damaged events.
            self._skip(end)
        else:
            self._extend(page)
        self._move(end)

    def _move(self, head: int) -> None:
        # Both at once: a batch cached in between would end at the old head, and pass for one that
        # ends at the new.
        self.batches.advance()
        self.head = head

    def _skip(self, head: int) -> None:
        """Leave the events up to ``head`` out of the rings: readers take them from the log."""
        self._ring_budget.clear()
        for ring in self._rings.values():
            ring.skip(head)

    def _extend(self, page: Page) -> None:
        """Add the page to the rings, within the bytes that they may take."""
        matching = {
            event.position: event for ring in self._rings.values() for event in ring.extend(page)
        }
        dropped = self._ring_budget.add(matching[position] for position in sorted(matching))
        if dropped is not None:
            for ring in self._rings.values():
                ring.drop(dropped)

    async def _deliver(self) -> None:
        """Bring all that are at the old head to the new one."""
        self._wake()
        while late := [each for each in self._audiences.values() if each.position < self.head]:
            for audience in late:
                self._write_next(audience)
            # The transports, and the readers that were woken, send before this returns.
            await asyncio.sleep(0)

    async def _rest(self, seconds: float) -> None:
        """Rest after a round of several events, which come faster than rounds.

        One send of two events costs half as much as two sends, and appends need their turn.
        """
        if seconds > MIN_REST_SECONDS:
            await asyncio.sleep(seconds)

    def _write_next(self, audience: Audience) -> None:
        """Write the next batch to an audience, or dismiss it."""
        if audience.position < audience.ring.floor:
            audience.dismiss()
            return
        batch, end = self.batches.get(audience.ring, audience.position)
        if batch.size > BATCH_BYTES:
            # Each of its readers has to wait for its share of ``sending``.
            audience.dismiss()
        elif batch.events:
            audience.write(batch, self.head if end is None else end)
        else:
            audience.position = self.head

    async def _beat(self, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(heartbeat)
            self.heartbeats += 1
            self.history.expire()
            self._wake()
            for audience in list(self._audiences.values()):
                if audience.position == self.head:
                    audience.write(Batch(), self.head)

    def _wake(self) -> None:
        """Wake the readers that wait for it."""
        for reader in list(self.waiting):
            reader.wake()
