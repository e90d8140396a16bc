"""The index in PostgreSQL: the rows of sealed segments, and what this process holds of the newest.

Every process feeds its own growing segments: with what it commits itself, and with the rows that
others committed. A query waits until the growing segments hold everything that its snapshot of the
database holds, so no answer lacks an event that was acknowledged before it was asked for.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock

from deploylog.events.filters import Filter
from deploylog.events.index.growth import Growth, last_position
from deploylog.events.index.sealed import unpack_times
from deploylog.events.index.search import Moment
from deploylog.events.index.segments import GrowingSegment, Times, segment_of
from deploylog.events.index.terms import after_all
from deploylog.store.postgres.connection import Connection, all_rows, change
from deploylog.store.postgres.pages import read_rows
from deploylog.store.postgres.salvage import TERM_COLUMNS, terms_of_row

#: Events whose rows are read at once to feed the growing segments.
FEED_SIZE = 1_000

#: Events that wait to be fed; of more, the rows are read when they are needed.
MAX_WAITING = 20_000

#: A committed event: position, time (ns) and terms.
Fed = tuple[int, int, Sequence[str]]


class PostgresSegmentRows:
    """The ``SegmentRows`` of one read transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def narrowed(self, term: str, numbers: Sequence[int]) -> Sequence[int]:
        return numbers

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BITMAPS, (list(numbers), term))

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BUCKETS, (list(numbers), bucket))

    def listed(self, prefix: str, number: int) -> Iterable[tuple[str, bytes]]:
        return all_rows(self._connection, _LISTED, (number, prefix, after_all(prefix)))

    def pages(self, prefix: str, number: int) -> Iterator[bytes]:
        values = {"number": number, "prefix": prefix, "last": after_all(prefix)}
        for (terms,) in all_rows(self._connection, _PAGES, values):
            yield terms


_BITMAPS = """
SELECT segment, positions FROM segment_terms WHERE segment = ANY(%s::bigint[]) AND term = %s
"""

_BUCKETS = """
SELECT segment, entries FROM segment_buckets WHERE segment = ANY(%s::bigint[]) AND bucket = %s
"""

_LISTED = """
SELECT term, positions FROM segment_terms WHERE segment = %s AND term >= %s AND term < %s
"""

_PAGES = """
SELECT terms FROM segment_pages
WHERE segment = %(number)s AND first < %(last)s AND first >= coalesce(
    (SELECT max(first) FROM segment_pages WHERE segment = %(number)s AND first <= %(prefix)s), ''
)
ORDER BY first
"""


class PostgresEventRows:
    """The ``EventRows`` of one read transaction."""

    def __init__(self, connection: Connection, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch

    def times(self, positions: Sequence[int]) -> Iterable[tuple[int, int]]:
        return all_rows(self._connection, _TIMES, (list(positions),))

    def matching(self, positions: Sequence[int], filter: Filter) -> Iterator[int]:
        if not filter.phrases:
            values = (list(positions), *time_bounds(filter))
            for (position,) in all_rows(self._connection, _IN_TIME, values):
                yield position
            return
        remaining = iter(positions)
        while part := list(islice(remaining, FEED_SIZE)):
            events, damaged = read_rows(self._connection, part, self._epoch)
            yield from (event.position for event in events if filter.matches(event))
            yield from (each.position for each in damaged)


def time_bounds(filter: Filter) -> tuple[int, int]:
    """The first and the last time (ns) that an event of the filter may have."""
    since = filter.since if filter.since is not None else 0
    until = filter.until if filter.until is not None else 1 << 63
    return since, until - 1


_TIMES = "SELECT position, time FROM events WHERE position = ANY(%s::bigint[])"

_IN_TIME = """
SELECT position FROM events WHERE position = ANY(%s::bigint[]) AND time BETWEEN %s AND %s
"""


class PostgresIndex:
    """What a process knows of the index. Any thread may ask it, with a connection of its own."""

    def __init__(self) -> None:
        #: Held while segments grow, and while the queue changes.
        self._lock, self._queue_lock = Lock(), Lock()
        self._growth: Growth | None = None
        self._waiting: deque[Sequence[Fed]] = deque()
        self._number_waiting = 0
        self._times: dict[int, Times] = {}

    @property
    def fed(self) -> int:
        """The newest position that the growing segments hold."""
        return self._growth.fed if self._growth is not None else 0

    def add(self, committed: Sequence[Fed]) -> None:
        """Take in what this process has committed."""
        with self._queue_lock:
            self._waiting.append(committed)
            self._number_waiting += len(committed)
            if self._number_waiting > MAX_WAITING:
                self._waiting.clear()
                self._number_waiting = 0

    def moment(self, connection: Connection) -> Moment:
        """The index as a read transaction knows the log."""
        # Taken before the transaction sees the tables: what is dropped from here is sealed by then.
        growing = self._growth.segments if self._growth is not None else ()
        [(head, floor, numbers)] = all_rows(connection, _NOW)
        sealed = self._sealed(connection, numbers)
        with self._lock:
            start = max(floor, last_position(max(sealed, default=-1)))
            growth = self._caught_up(connection, head=head, start=start)
            # Another process may have sealed what this transaction does not see as sealed.
            missed = self._missed(connection, start, min(growth.after, head))
            together = {each.number: each for each in (*growing, *missed, *growth.segments)}
            growth.drop_through(max(sealed, default=-1))
        return Moment(
            head=head,
            floor=floor,
            sealed=sealed,
            growing=tuple(together.values()),
            rows=PostgresSegmentRows(connection),
        )

    def full(self) -> list[GrowingSegment]:
        """The segments that can be sealed, in order."""
        return self._growth.full() if self._growth is not None else []

    def _sealed(self, connection: Connection, numbers: Sequence[int]) -> dict[int, Times]:
        unknown = [number for number in numbers if number not in self._times]
        if unknown:
            for number, times in all_rows(connection, _SEGMENT_TIMES, (unknown,)):
                self._times[number] = unpack_times(times)
        known = self._times
        return {number: known[number] for number in numbers}

    def _caught_up(self, connection: Connection, *, head: int, start: int) -> Growth:
        growth = self._growth
        if growth is None or growth.fed < start:
            # What others have sealed or pruned meanwhile need not be fed.
            growth = self._growth = Growth(start)
        while growth.fed < head:
            batch = self._next_committed(growth.fed)
            if batch is None:
                self._feed_rows(connection, growth, min(head, growth.fed + FEED_SIZE))
                continue
            for position, time, terms in batch:
                if position > growth.fed:
                    growth.add(position, time, terms)
        return growth

    def _missed(self, connection: Connection, start: int, end: int) -> tuple[GrowingSegment, ...]:
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

    def _feed_rows(self, connection: Connection, growth: Growth, end: int) -> None:
        for position, time, terms in read_fed(connection, growth.fed, end):
            growth.add(position, time, terms)
        growth.fed = end


_NOW = """
SELECT head, floor, ARRAY(SELECT number FROM segments ORDER BY number) FROM log
"""

_SEGMENT_TIMES = "SELECT number, times FROM segments WHERE number = ANY(%s::bigint[])"


def read_fed(connection: Connection, low: int, high: int) -> list[Fed]:
    """What the rows from behind ``low`` up to ``high`` are found by, in order.

    Only the columns that terms are made of are read, and no checksum is verified: whoever reads an
    event by its terms verifies it then.
    """
    rows = all_rows(connection, _FED, (low, high))
    return [(row[0], row[1], terms_of_row(row[1], row[2:])) for row in rows]


_FED = f"""
SELECT position, time, {TERM_COLUMNS} FROM events
WHERE position > %s AND position <= %s ORDER BY position
"""


def drop_segments(connection: Connection, floor: int) -> None:
    """Delete the segments of which nothing is retained."""
    first = segment_of(floor + 1)
    if not all_rows(connection, "SELECT 1 FROM segments WHERE number < %s LIMIT 1", (first,)):
        return
    for table in ("segment_terms", "segment_buckets", "segment_pages"):
        change(connection, f"DELETE FROM {table} WHERE segment < %s", (first,))
    change(connection, "DELETE FROM segments WHERE number < %s", (first,))
