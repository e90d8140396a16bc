"""The index in SQLite: the rows of sealed segments, and what this process holds of the newest.

Every process feeds its own growing segments: with what it commits itself, and with the rows that
others committed. A query waits until the growing segments hold everything that its snapshot of the
file holds, so no answer lacks an event that was acknowledged before it was asked for.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock

import apsw
import msgspec

from deploylog.events.event import NewEvent, Resource
from deploylog.events.filters import Filter
from deploylog.events.index.growth import Growth, last_position
from deploylog.events.index.sealed import BUCKET_BITS, unpack_times
from deploylog.events.index.search import Moment
from deploylog.events.index.segments import (
    GrowingSegment,
    Times,
    segment_of,
)
from deploylog.events.index.terms import EVERY, LISTED, after_all, terms_of
from deploylog.store.rows import names_of, scopes_of
from deploylog.store.sqlite.connection import all_rows, one_value
from deploylog.store.sqlite.pages import BAD_ROW, read_rows
from deploylog.store.sqlite.salvage import salvaged_terms

#: Events whose rows are read at once to feed the growing segments.
FEED_SIZE = 1_000

#: Events that wait to be fed; of more, the rows are read when they are needed.
MAX_WAITING = 20_000

#: A committed event: position, time (ns) and terms.
Fed = tuple[int, int, Sequence[str]]


#: Listed terms of a segment that a process remembers. Of a segment with more it remembers none.
MAX_REMEMBERED = 1_024

#: Segments of which they are remembered; of more, all are read again.
MAX_SEGMENTS = 1_024


class ListedTerms:
    """The listed terms of sealed segments: what is nowhere is not looked for in each of them."""

    def __init__(self) -> None:
        self._terms: dict[int, frozenset[str] | None] = {}

    def narrowed(self, connection: apsw.Connection, term: str, numbers: Sequence[int]) -> list[int]:
        """Those of the segments that may have the term."""
        known = self._terms
        if len(known) > MAX_SEGMENTS:
            # Another thread may be using what there is.
            known = self._terms = {}
        for number in numbers:
            if number not in known:
                known[number] = _listed_terms(connection, number)
        return [n for n in numbers if (terms := known[n]) is None or term in terms]


def _listed_terms(connection: apsw.Connection, number: int) -> frozenset[str] | None:
    terms = {EVERY}
    for prefix in LISTED:
        found = all_rows(connection, _LISTED_TERMS, (number, prefix, after_all(prefix)))
        terms.update(sys.intern(term) for (term,) in found)
        if len(terms) > MAX_REMEMBERED:
            return None
    return frozenset(terms)


class SqliteSegmentRows:
    """The ``SegmentRows`` of one read transaction."""

    def __init__(self, connection: apsw.Connection, listed: ListedTerms) -> None:
        self._connection = connection
        self._listed = listed

    def narrowed(self, term: str, numbers: Sequence[int]) -> Sequence[int]:
        return self._listed.narrowed(self._connection, term, numbers)

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BITMAPS, (_array(numbers), term))

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BUCKETS, (_array(numbers), bucket))

    def listed(self, prefix: str, number: int) -> Iterable[tuple[str, bytes]]:
        return all_rows(self._connection, _LISTED, (number, prefix, after_all(prefix)))

    def pages(self, prefix: str, number: int) -> Iterator[bytes]:
        for (terms,) in all_rows(self._connection, _PAGES, (number, prefix, after_all(prefix))):
            yield terms


_BITMAPS = """
SELECT t.segment, t.positions FROM json_each(?) AS number
CROSS JOIN segment_terms AS t ON t.segment = number.value AND t.term = ?
"""

_BUCKETS = f"""
SELECT number.value, b.entries FROM json_each(?) AS number
CROSS JOIN segment_buckets AS b ON b.id = (number.value << {BUCKET_BITS}) + ?
"""

_LISTED = """
SELECT term, positions FROM segment_terms WHERE segment = ? AND term >= ? AND term < ?
"""

_LISTED_TERMS = f"""
SELECT term FROM segment_terms WHERE segment = ? AND term >= ? AND term < ?
LIMIT {MAX_REMEMBERED + 1}
"""

_PAGES = """
SELECT terms FROM segment_pages
WHERE segment = ?1 AND first < ?3 AND first >= coalesce(
    (SELECT max(first) FROM segment_pages WHERE segment = ?1 AND first <= ?2), ''
)
"""


class SqliteEventRows:
    """The ``EventRows`` of one read transaction."""

    def __init__(self, connection: apsw.Connection, epoch: int) -> None:
        self._connection = connection
        self._epoch = epoch

    def times(self, positions: Sequence[int]) -> Iterable[tuple[int, int]]:
        if positions[-1] - positions[0] > _DENSE * len(positions):
            return all_rows(self._connection, _TIMES, (_array(positions),))
        # Neighbours are on the same page: it is quicker to read them all in one text.
        text = one_value(self._connection, _TIMES_BETWEEN, (positions[0], positions[-1]))
        wanted = frozenset(positions)
        return [pair for pair in _decode_times(text) if pair[0] in wanted]

    def matching(self, positions: Sequence[int], filter: Filter) -> Iterator[int]:
        if not filter.phrases:
            for (position,) in all_rows(
                self._connection, _IN_TIME, (_array(positions), *time_bounds(filter))
            ):
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


_TIMES = """
SELECT e.position, e.time FROM json_each(?) AS position
CROSS JOIN events AS e ON e.position = position.value
"""

_TIMES_BETWEEN = """
SELECT json_group_array(json_array(position, time)) FROM events WHERE position BETWEEN ? AND ?
"""

_decode_times = msgspec.json.Decoder(list[tuple[int, int]]).decode

#: Positions of a range for one that is asked for, up to which the whole range is read.
_DENSE = 8

_IN_TIME = """
SELECT e.position FROM json_each(?) AS position
CROSS JOIN events AS e ON e.position = position.value
WHERE e.time BETWEEN ? AND ?
"""


def _array(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()


class SqliteIndex:
    """What a process knows of the index. Any thread may ask it, with a connection of its own."""

    def __init__(self) -> None:
        #: Held while segments grow, and while the queue changes.
        self._lock, self._queue_lock = Lock(), Lock()
        self._growth: Growth | None = None
        self._waiting: deque[Sequence[Fed]] = deque()
        self._number_waiting = 0
        self._times: dict[int, Times] = {}
        self._listed = ListedTerms()

    @property
    def waiting(self) -> int:
        """How many committed events wait to be fed."""
        return self._number_waiting

    def add(self, committed: Sequence[Fed]) -> None:
        """Take in what this process has committed."""
        with self._queue_lock:
            self._waiting.append(committed)
            self._number_waiting += len(committed)
            if self._number_waiting > MAX_WAITING:
                self._waiting.clear()
                self._number_waiting = 0

    def moment(self, connection: apsw.Connection) -> Moment:
        """The index as a read transaction knows the log."""
        # Taken before the transaction sees the file: what is dropped from here is sealed by then.
        growing = self._growth.segments if self._growth is not None else ()
        [(head, floor)] = all_rows(connection, "SELECT head, floor FROM log")
        sealed = self._sealed(connection)
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
            rows=SqliteSegmentRows(connection, self._listed),
        )

    def full(self) -> list[GrowingSegment]:
        """The segments that can be sealed, in order."""
        return self._growth.full() if self._growth is not None else []

    def _sealed(self, connection: apsw.Connection) -> dict[int, Times]:
        numbers = [row[0] for row in all_rows(connection, "SELECT number FROM segments")]
        unknown = [number for number in numbers if number not in self._times]
        for number, times in all_rows(connection, _SEGMENT_TIMES, (_array(unknown),)):
            self._times[number] = unpack_times(times)
        known = self._times
        return {number: known[number] for number in numbers}

    def _caught_up(self, connection: apsw.Connection, *, head: int, start: int) -> Growth:
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

    def _missed(
        self, connection: apsw.Connection, start: int, end: int
    ) -> tuple[GrowingSegment, ...]:
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

    def _feed_rows(self, connection: apsw.Connection, growth: Growth, end: int) -> None:
        for position, time, terms in read_fed(connection, growth.fed, end):
            growth.add(position, time, terms)
        growth.fed = end


_SEGMENT_TIMES = """
SELECT s.number, s.times FROM json_each(?) AS number
CROSS JOIN segments AS s ON s.number = number.value
"""


def read_fed(connection: apsw.Connection, low: int, high: int) -> list[Fed]:
    """What the rows from behind ``low`` up to ``high`` are found by, in order.

    Only the columns that terms are made of are read, and no checksum is verified: whoever reads an
    event by its terms verifies it then.
    """
    try:
        rows = _decode_fed(one_value(connection, _FED, (low, high)))
    except (*BAD_ROW, msgspec.MsgspecError):
        # One bad row makes the text of all unreadable.
        return [(p, *salvaged_terms(connection, p)) for p in _positions(connection, low, high)]
    return [(row[0], row[1], terms_of(_event_of(row))) for row in rows]


#: Position, time, type, source, scopes, groups, actor, subject, message, and the resource's type,
#: name, key, address and id.
_FedRow = tuple[
    int, int, str, str, str, str | None, str | None, str | None, str | None,
    str | None, str | None, str | None, str | None, str | None,
]  # fmt: skip

_decode_fed = msgspec.json.Decoder(list[_FedRow]).decode

_FED = """
SELECT json_group_array(json_array(
    position, time, type, source, scopes, "groups", actor, subject, message,
    resource_type, resource_name, resource_key, resource_address, id_value
)) FROM events WHERE position > ? AND position <= ?
"""


def _event_of(row: _FedRow) -> NewEvent:
    (_, time, type_, source, scopes, groups, actor, subject, message,
     resource_type, name, key, address, id_value) = row  # fmt: skip
    resource = None
    if resource_type is not None and name is not None:
        resource = Resource(
            type=resource_type, name=name, key=key, address=address, id_value=id_value
        )
    return NewEvent(
        type=type_,
        source=source,
        scopes=scopes_of(scopes),
        groups=names_of(groups) if groups else (),
        time=time,
        actor=actor,
        subject=subject,
        message=message,
        resource=resource,
    )


def _positions(connection: apsw.Connection, low: int, high: int) -> list[int]:
    return [row[0] for row in all_rows(connection, _BETWEEN, (low, high))]


_BETWEEN = "SELECT position FROM events WHERE position > ? AND position <= ? ORDER BY position"


def drop_segments(connection: apsw.Connection, floor: int) -> None:
    """Delete the segments of which nothing is retained."""
    first = segment_of(floor + 1)
    for table in ("segment_terms", "segment_pages"):
        connection.execute(f"DELETE FROM {table} WHERE segment < ?", (first,))
    connection.execute("DELETE FROM segment_buckets WHERE id < ?", (first << BUCKET_BITS,))
    connection.execute("DELETE FROM segments WHERE number < ?", (first,))
