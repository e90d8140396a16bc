"""The live tail: the hub follows the log once, and any number of readers follow the hub.

A reader holds a position, not a queue. Readers with the same filter share a *ring* of the newest
events that match; a reader behind the ring reads the log, however far behind it is. So a slow
reader is never disconnected, no event is skipped, and history and live events are one loop.

The rings, and the events being sent, are limited in bytes. A reader that exceeds the limit reads
the log, or waits and holds nothing but its position.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from deploylog.errors import StoreUnavailable
from deploylog.events.batch import Batch, Gap
from deploylog.events.event import size_of
from deploylog.events.fair_semaphore import FairSemaphore
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

#: Seconds, for each reader, that the hub rests between two rounds: slightly more than a send takes.
REST_SECONDS = 0.00003

#: A shorter rest is skipped.
MIN_REST_SECONDS = 0.001

#: Events of one read from the log.
PAGE = 500

#: Bytes that all streams take by default, and how eighths of it are allotted: to the rings, to the
#: batches that readers share, and to the large events that are being sent.
MEMORY_BYTES = 128 * 1024 * 1024
_RING_EIGHTHS, _BATCH_EIGHTHS, _SENDING_EIGHTHS = 3, 1, 4

#: Positions that one read from the log covers: at first, and at least. A filter that is slow to
#: check covers few in a read, so that other readers get their turn.
_INITIAL_WINDOW, _MIN_WINDOW = 20_000, 4_096

#: Seconds that a read should take, at least and at most.
_QUICK_SECONDS, _SLOW_SECONDS = 0.05, 0.2


class Reader:
    """One reader's place in the log."""

    def __init__(self, hub: "Hub", ring: Ring, position: int, caller: str) -> None:
        """Start after ``position``; ``caller`` as in ``Query``."""
        self._hub = hub
        self._ring = ring
        self.position = position
        self._caller = caller
        self._wakeup: asyncio.Future[None] | None = None
        self._closed = False
        self._on_close: Callable[[], None] = _nothing
        self._window = _INITIAL_WINDOW
        #: Bytes of ``hub.sending`` that the last batch took.
        self._reserved = 0

    async def next(self) -> Batch | None:
        """Return the next events, or an empty batch as a heartbeat.

        Returns ``None`` once the reader or the hub is closed. Call it only after the last batch
        has been sent: until then its bytes count as being sent.
        """
        self.release()
        heartbeats = self._hub.heartbeats
        while not (self._closed or self._hub.closed):
            start = self.position
            if start < self._ring.floor:
                batch = await self._from_log()
            elif start < self._hub.head:
                batch, end = self._hub.batches.get(self._ring, start)
                self.position = self._hub.head if end is None else end
            elif await self._wait():
                return Batch()
            else:
                continue
            if not self._has_room(batch.size):
                # The batch is dropped while the reader waits, and read again.
                self.position, size = start, batch.size
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
        """Make ``next`` check for events again."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def _from_log(self) -> Batch:
        """Read a page of the events before the ring."""
        start, end = self.position, min(self._ring.floor, self.position + self._window)
        stream_filter = self._ring.stream_filter
        began = asyncio.get_running_loop().time()
        page = await self._hub.log.read(
            Query(
                scope=stream_filter.scope,
                filter=stream_filter.filter,
                visibility=stream_filter.visibility,
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
            self.position = retained
            return Batch(gap=Gap(after=start, floor=retained, reason="expired"))
        end = page.next if page.next is not None else end
        batch, self.position = _before_damage(page, end)
        return batch

    def _adapt(self, seconds: float) -> None:
        """Cover more positions in the next read, or fewer, by how long this one took."""
        if seconds < _QUICK_SECONDS:
            self._window *= 4
        elif seconds > _SLOW_SECONDS:
            self._window = max(self._window // 2, _MIN_WINDOW)

    async def _wait(self) -> bool:
        """Wait to be woken, and return whether it was for a heartbeat only."""
        heartbeats = self._hub.heartbeats
        self._wakeup = asyncio.get_running_loop().create_future()
        try:
            await self._wakeup
        finally:
            self._wakeup = None
        return (
            self._hub.heartbeats > heartbeats
            and self.position >= self._hub.head
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
        self.batches = BatchCache(_BATCH_EIGHTHS * eighth)
        #: The large events that are being sent.
        sending = _SENDING_EIGHTHS * eighth
        self.sending = FairSemaphore(sending, share=sending // 2)
        self.head = 0
        #: The heartbeats so far.
        self.heartbeats = 0
        self.closed = False
        self._rings: dict[StreamFilter, Ring] = {}
        self._readers: set[Reader] = set()

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

    def close(self) -> None:
        """Close every reader."""
        self.closed = True
        self._wake()

    async def _follow(self) -> None:
        while True:
            try:
                async for head in self.log.heads():
                    while self.head < head:
                        await self._advance(head)
                        self._wake()
                        await self._rest()
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
        self.batches.clear()
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

    async def _rest(self) -> None:
        """Let the readers send before they are woken again.

        One send of two events costs half as much as two sends, and appends need their turn.
        """
        seconds = len(self._readers) * REST_SECONDS
        if seconds > MIN_REST_SECONDS:
            await asyncio.sleep(seconds)

    async def _beat(self, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(heartbeat)
            self.heartbeats += 1
            self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()
