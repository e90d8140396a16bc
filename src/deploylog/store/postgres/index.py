"""The index in PostgreSQL: the rows of sealed segments, and what the newest events are found by."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from deploylog.events.filters import Filter
from deploylog.events.index.segments import segment_of
from deploylog.events.index.terms import after_all
from deploylog.store.live_index import Fed, Snapshot
from deploylog.store.pages import matching_rows
from deploylog.store.postgres.connection import Connection, all_rows, change
from deploylog.store.postgres.pages import read_rows
from deploylog.store.postgres.salvage import TERM_COLUMNS, terms_of_row


class PostgresSegmentRows:
    """The ``SegmentRows`` of one read transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def terms(self, prefix: str, number: int, limit: int) -> Iterator[str]:
        values = (number, prefix, after_all(prefix), limit)
        for (term,) in all_rows(self._connection, _TERMS, values):
            yield term

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

_TERMS = """
SELECT term FROM segment_terms WHERE segment = %s AND term >= %s AND term < %s LIMIT %s
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
        if filter.phrases:
            read = partial(read_rows, self._connection, epoch=self._epoch)
            yield from matching_rows(read, positions, filter)
            return
        values = (list(positions), *filter.time_bounds)
        for (position,) in all_rows(self._connection, _IN_TIME, values):
            yield position


_TIMES = "SELECT position, time FROM events WHERE position = ANY(%s::bigint[])"

_IN_TIME = """
SELECT position FROM events WHERE position = ANY(%s::bigint[]) AND time BETWEEN %s AND %s
"""


class PostgresIndexTables:
    """The ``IndexTables`` of a PostgreSQL store."""

    def snapshot(self, connection: Connection) -> Snapshot:
        [(head, floor, numbers)] = all_rows(connection, _NOW)
        return Snapshot(head=head, floor=floor, sealed=numbers)

    def times(self, connection: Connection, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(connection, _SEGMENT_TIMES, (list(numbers),))

    def fed(self, connection: Connection, low: int, high: int) -> Sequence[Fed]:
        rows = all_rows(connection, _FED, (low, high))
        return [(row[0], row[1], terms_of_row(row[1], row[2:])) for row in rows]

    def segment_rows(self, connection: Connection) -> PostgresSegmentRows:
        return PostgresSegmentRows(connection)


_NOW = """
SELECT head, floor, ARRAY(SELECT number FROM segments ORDER BY number) FROM log
"""

_SEGMENT_TIMES = "SELECT number, times FROM segments WHERE number = ANY(%s::bigint[])"


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
