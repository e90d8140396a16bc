"""The live index: what one process knows of the newest events, beside the sealed segments.

Every process feeds its own growing segments: with what it commits itself, and with the rows that
others committed. A query waits until the growing segments hold everything that its snapshot of the
store holds, so no answer lacks an event that was acknowledged before it was asked for.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

import msgspec

from deploylog.events.index.bitmap_cache import BitmapCache
from deploylog.events.index.blobs import verified
from deploylog.events.index.growth import Growth, last_position
from deploylog.events.index.listed import ListedTerms
from deploylog.events.index.sealed import SegmentRows, unpack_times
from deploylog.events.index.search import Moment
from deploylog.events.index.segments import (
    SEGMENT_SIZE,
    GrowingSegment,
    Times,
    segment_of,
)

#: Events whose rows are read at once to feed the growing segments.
FEED_SIZE = 1_000

#: Events that are committed before they are fed, unless a query asks for them.
FEED_EVERY = 4_096

#: Events that wait to be fed; of more, the rows are read when they are needed.
MAX_WAITING = 20_000

#: A committed event: position, time (ns) and terms.
Fed = tuple[int, int, Sequence[str]]

ConnectionT = TypeVar("ConnectionT")

_Connection = TypeVar("_Connection", contravariant=True)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The log as a transaction knows it."""

    head: int
    floor: int
    #: The numbers of the sealed segments.
    sealed: Sequence[int]

    @property
    def unsealed(self) -> range:
        """The numbers of the full segments that are not sealed."""
        first = max(max(self.sealed, default=-1) + 1, segment_of(self.floor + 1))
        return range(first, segment_of(self.head + 1))

    @property
    def start(self) -> int:
        """The position behind which events are not sealed."""
        return max(self.floor, last_position(max(self.sealed, default=-1)))


class IndexTables(Protocol[_Connection]):
    """What a backend reads for the index; each connection is in a transaction."""

    def snapshot(self, connection: _Connection) -> Snapshot:
        """The log. Nothing else of the transaction is read before."""
        ...

    def times(self, connection: _Connection, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """The numbers and the times of sealed segments."""
        ...

    def fed(self, connection: _Connection, low: int, high: int) -> Sequence[Fed]:
        """What the rows from behind ``low`` up to ``high`` are found by, in order.

        No checksum is verified: whoever reads an event by its terms verifies it then.
        """
        ...

    def segment_rows(self, connection: _Connection) -> SegmentRows:
        """The rows of sealed segments."""
        ...


class LiveIndex(Generic[ConnectionT]):
    """What a process knows of the index. Any thread may ask it, with a connection of its own."""

    def __init__(self, tables: IndexTables[ConnectionT]) -> None:
        self._tables = tables
        #: Held while segments grow, and while the queue changes.
        self._lock, self._queue_lock = Lock(), Lock()
        self._growth: Growth | None = None
        self._waiting: deque[Sequence[Fed]] = deque()
        self._number_waiting = 0
        self._times: dict[int, Times] = {}
        self._listed, self._bitmaps = ListedTerms(), BitmapCache()

    def add(self, committed: Sequence[Fed]) -> None:
        """Take in what this process has committed."""
        with self._queue_lock:
            self._waiting.append(committed)
            self._number_waiting += len(committed)
            if self._number_waiting > MAX_WAITING:
                self._waiting.clear()
                self._number_waiting = 0

    def moment(self, connection: ConnectionT) -> Moment:
        """The index as a read transaction knows the log."""
        # Taken before the transaction sees the log: what is dropped from here is sealed by then.
        growing = self._growth.segments if self._growth is not None else ()
        snapshot = self._tables.snapshot(connection)
        sealed = self._sealed(connection, snapshot.sealed)
        with self._lock:
            growth = self._caught_up(connection, snapshot)
            # Another process may have sealed what this transaction does not see as sealed.
            missed = self._missed(connection, snapshot.start, min(growth.after, snapshot.head))
            together = {each.number: each for each in (*growing, *missed, *growth.segments)}
            growth.drop_through(max(sealed, default=-1))
        return Moment(
            head=snapshot.head,
            floor=snapshot.floor,
            sealed=sealed,
            growing=tuple(together.values()),
            rows=self._tables.segment_rows(connection),
            listed=self._listed,
            bitmaps=self._bitmaps,
        )

    def is_due(self, head: int) -> bool:
        """Whether there is much to feed up to ``head``, or there will be a segment to seal."""
        fed = self._growth.fed if self._growth is not None else 0
        return head - fed >= FEED_EVERY or segment_of(head + 1) > segment_of(fed + 1)

    def full(self) -> list[GrowingSegment]:
        """The segments that can be sealed, in order."""
        return self._growth.full() if self._growth is not None else []

    def _sealed(self, connection: ConnectionT, numbers: Sequence[int]) -> dict[int, Times]:
        known = self._times
        unknown = [number for number in numbers if number not in known]
        read = dict(self._tables.times(connection, unknown)) if unknown else {}
        sealed = {n: unpack_times(verified(read[n], n)) if n in read else known[n] for n in numbers}
        # Of those that are pruned nothing is remembered.
        self._times = sealed
        return sealed

    def _caught_up(self, connection: ConnectionT, snapshot: Snapshot) -> Growth:
        growth = self._growth
        if growth is None or growth.fed < snapshot.start:
            # What others have sealed or pruned meanwhile need not be fed.
            growth = self._growth = Growth(snapshot.start)
        while growth.fed < snapshot.head:
            batch = self._next_committed(growth.fed)
            if batch is None:
                self._feed_rows(connection, growth, min(snapshot.head, growth.fed + FEED_SIZE))
                continue
            for position, time, terms in batch:
                if position > growth.fed:
                    growth.add(position, time, terms)
        return growth

    def _missed(self, connection: ConnectionT, start: int, end: int) -> tuple[GrowingSegment, ...]:
        """The segments between ``start`` and where the growing ones begin, for one answer."""
        missed = Growth(start)
        while missed.fed < end:
            self._feed_rows(connection, missed, min(end, missed.fed + FEED_SIZE))
        return missed.segments

    def _next_committed(self, fed: int) -> Sequence[Fed] | None:
        """The batch that goes on from ``fed``; ``None`` when others committed what comes next."""
        with self._queue_lock:
            if not self._waiting or self._waiting[0][0][0] > fed + 1:
                return None
            batch = self._waiting.popleft()
            self._number_waiting -= len(batch)
            return batch

    def _feed_rows(self, connection: ConnectionT, growth: Growth, end: int) -> None:
        for position, time, terms in self._tables.fed(connection, growth.fed, end):
            growth.add(position, time, terms)
        growth.fed = end


def grown_from_rows(
    tables: IndexTables[ConnectionT], connection: ConnectionT, number: int
) -> GrowingSegment:
    """A full segment, made from its rows."""
    segment = GrowingSegment(number)
    low, end = number * SEGMENT_SIZE - 1, last_position(number)
    while low < end:
        high = min(low + FEED_SIZE, end)
        for position, time, terms in tables.fed(connection, low, high):
            segment.add_terms(position % SEGMENT_SIZE, time, terms)
        low = high
    return segment
