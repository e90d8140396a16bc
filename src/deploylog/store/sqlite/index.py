"""The index in SQLite: the rows of sealed segments, and what the newest events are found by."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import apsw
import msgspec

from deploylog.events.event import NewEvent, Resource
from deploylog.events.filters import Filter
from deploylog.events.index.sealed import BUCKET_BITS
from deploylog.events.index.segments import segment_of
from deploylog.events.index.terms import after_all, terms_of
from deploylog.store.live_index import Fed, Snapshot
from deploylog.store.pages import matching_rows
from deploylog.store.rows import json_text, names_of, scopes_of
from deploylog.store.sqlite.connection import all_rows, one_value
from deploylog.store.sqlite.identities import delete_identities
from deploylog.store.sqlite.pages import BAD_ROW, positions_between, read_rows
from deploylog.store.sqlite.salvage import salvaged_terms


class SqliteSegmentRows:
    """The ``SegmentRows`` of one read transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def terms(self, prefix: str, number: int, limit: int) -> Iterator[str]:
        values = (number, prefix, after_all(prefix), limit)
        for (term,) in all_rows(self._connection, _TERMS, values):
            yield term

    def bitmaps(self, term: str, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BITMAPS, (json_text(numbers), term))

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BUCKETS, (json_text(numbers), bucket))

    def listed(self, prefix: str, number: int) -> Iterable[tuple[str, bytes]]:
        return all_rows(self._connection, _LISTED, (number, prefix, after_all(prefix)))

    def pages(self, prefix: str, number: int) -> Iterator[bytes]:
        for (terms,) in all_rows(self._connection, _PAGES, (number, prefix, after_all(prefix))):
            yield terms


# Cast: where a damaged row has another type beside a blob, its checksum still tells.
_BITMAPS = """
SELECT t.segment, CAST(t.positions AS BLOB) FROM json_each(?) AS number
CROSS JOIN segment_terms AS t ON t.segment = number.value AND t.term = ?
"""

_BUCKETS = f"""
SELECT number.value, CAST(b.entries AS BLOB) FROM json_each(?) AS number
CROSS JOIN segment_buckets AS b ON b.id = (number.value << {BUCKET_BITS}) + ?
"""

_LISTED = """
SELECT term, CAST(positions AS BLOB) FROM segment_terms WHERE segment = ? AND term >= ? AND term < ?
"""

_TERMS = """
SELECT term FROM segment_terms WHERE segment = ? AND term >= ? AND term < ? LIMIT ?
"""

_PAGES = """
SELECT CAST(terms AS BLOB) FROM segment_pages
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
            return all_rows(self._connection, _TIMES, (json_text(positions),))
        # Neighbours are on the same page: it is quicker to read them all in one text.
        text = one_value(self._connection, _TIMES_BETWEEN, (positions[0], positions[-1]))
        wanted = frozenset(positions)
        return [pair for pair in _decode_times(text) if pair[0] in wanted]

    def matching(self, positions: Sequence[int], filter: Filter) -> Iterator[int]:
        if filter.phrases:
            read = partial(read_rows, self._connection, epoch=self._epoch)
            yield from matching_rows(read, positions, filter)
            return
        values = (json_text(positions), *filter.time_bounds)
        for (position,) in all_rows(self._connection, _IN_TIME, values):
            yield position


_TIMES = """
SELECT e.position, e.time FROM json_each(?) AS position
CROSS JOIN events AS e WHERE e.position = position.value
"""

_TIMES_BETWEEN = """
SELECT json_group_array(json_array(position, time)) FROM event_rows WHERE position BETWEEN ? AND ?
"""

_decode_times = msgspec.json.Decoder(list[tuple[int, int]]).decode

#: Positions of a range for one that is asked for, up to which the whole range is read.
_DENSE = 8

_IN_TIME = """
SELECT e.position FROM json_each(?) AS position
CROSS JOIN events AS e
WHERE e.position = position.value AND e.time BETWEEN ? AND ?
"""


class SqliteIndexTables:
    """The ``IndexTables`` of a SQLite store."""

    def snapshot(self, connection: apsw.Connection) -> Snapshot:
        [(head, floor)] = all_rows(connection, "SELECT head, floor FROM log")
        numbers = [row[0] for row in all_rows(connection, "SELECT number FROM segments")]
        return Snapshot(head=head, floor=floor, sealed=numbers)

    def times(
        self, connection: apsw.Connection, numbers: Sequence[int]
    ) -> Iterable[tuple[int, bytes]]:
        return all_rows(connection, _SEGMENT_TIMES, (json_text(numbers),))

    def fed(self, connection: apsw.Connection, low: int, high: int) -> Sequence[Fed]:
        try:
            rows = _decode_fed(one_value(connection, _FED, (low, high)))
        except (*BAD_ROW, msgspec.MsgspecError):
            # One bad row makes the text of all unreadable.
            positions = positions_between(connection, low, high)
            return [(position, *salvaged_terms(connection, position)) for position in positions]
        return [(row[0], row[1], terms_of(_event_of(row))) for row in rows]

    def segment_rows(self, connection: apsw.Connection) -> SqliteSegmentRows:
        return SqliteSegmentRows(connection)


_SEGMENT_TIMES = """
SELECT s.number, CAST(s.times AS BLOB) FROM json_each(?) AS number
CROSS JOIN segments AS s ON s.number = number.value
"""


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


def drop_segments(connection: apsw.Connection, floor: int) -> None:
    """Delete the segments of which nothing is retained."""
    first = segment_of(floor + 1)
    for table in ("segment_terms", "segment_pages"):
        connection.execute(f"DELETE FROM {table} WHERE segment < ?", (first,))
    connection.execute("DELETE FROM segment_buckets WHERE id < ?", (first << BUCKET_BITS,))
    delete_identities(connection, 0, first)
    connection.execute("DELETE FROM segments WHERE number < ?", (first,))
