"""Identities in SQLite: of the rows that are not sealed, and of sealed segments."""

import logging
from collections.abc import Iterable, Sequence

import apsw
import msgspec

from deploylog.events.index.growth import last_position
from deploylog.events.index.identities import (
    IDENTITY_BUCKET_BITS,
    Placed,
    digest_of,
    identity_buckets,
)
from deploylog.events.index.segments import SEGMENT_SIZE, segment_of
from deploylog.store.rows import json_text
from deploylog.store.sqlite.connection import SqlValue, all_rows, insert_rows, one_value
from deploylog.store.sqlite.pages import BAD_ROW, positions_between
from deploylog.store.sqlite.salvage import salvaged_identity

#: Rows that are read at once.
_AT_ONCE = 1_000

_LOGGER = logging.getLogger(__name__)


class SqliteIdentityRows:
    """The ``IdentityRows`` of one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return all_rows(self._connection, _BUCKETS, (json_text(numbers), bucket))

    def placed(self, low: int, high: int) -> list[Placed]:
        return placed_between(self._connection, low, high)


class SealedIdentities(msgspec.Struct, frozen=True):
    """What is stored of a segment's identities."""

    number: int
    buckets: Sequence[tuple[int, bytes]]
    #: How many they are.
    count: int

    def write(self, connection: apsw.Connection) -> None:
        """Write them in the caller's transaction; the segment is there."""
        delete_identities(connection, self.number, self.number + 1)
        first = self.number << IDENTITY_BUCKET_BITS
        values: list[SqlValue] = []
        for bucket, entries in self.buckets:
            values += (first + bucket, entries)
        insert_rows(connection, "INSERT INTO segment_identities (id, entries)", 2, values)
        sql = "UPDATE segments SET identities = ? WHERE number = ?"
        connection.execute(sql, (self.count, self.number))


def sealed_identities(connection: apsw.Connection, number: int) -> SealedIdentities:
    """The identities of a full segment, from its rows."""
    placed: list[Placed] = []
    end = last_position(number)
    for low in range(number * SEGMENT_SIZE - 1, end, _AT_ONCE):
        placed += placed_between(connection, low, min(low + _AT_ONCE, end))
    return SealedIdentities(number, identity_buckets(placed), len(placed))


def seal_identities(connection: apsw.Connection) -> None:
    """Seal those of segments that a program of an earlier version sealed without them.

    Each segment is a transaction, so an interrupted run goes on where it stopped.
    """
    pending = [row[0] for row in all_rows(connection, _WITHOUT_IDENTITIES)]
    for done, number in enumerate(pending):
        if len(pending) > 1:
            _LOGGER.warning("indexing identities: segment %d of %d", done + 1, len(pending))
        with connection:
            sealed_identities(connection, number).write(connection)


def sealed_numbers(connection: apsw.Connection, floor: int) -> range:
    """The numbers of the sealed segments; everything up to ``floor`` is pruned."""
    newest = one_value(connection, "SELECT max(number) FROM segments")
    return range(segment_of(floor + 1), newest + 1) if newest is not None else range(0)


def placed_between(connection: apsw.Connection, low: int, high: int) -> list[Placed]:
    """The identities of the rows from behind ``low`` up to ``high``, without unreadable ones."""
    try:
        rows = _decode_placed(one_value(connection, _PLACED, (low, high)))
    except (*BAD_ROW, msgspec.MsgspecError):
        positions = positions_between(connection, low, high)
        found = [(position, *salvaged_identity(connection, position)) for position in positions]
        rows = [
            (at, source, id) for at, source, id in found if source is not None and id is not None
        ]
    return [(position, digest_of(source, producer_id)) for position, source, producer_id in rows]


def delete_identities(connection: apsw.Connection, start: int, stop: int) -> None:
    """Delete those of the segments from ``start`` up to, but without, ``stop``."""
    bounds = (start << IDENTITY_BUCKET_BITS, stop << IDENTITY_BUCKET_BITS)
    connection.execute("DELETE FROM segment_identities WHERE id >= ? AND id < ?", bounds)


_BUCKETS = f"""
SELECT number.value, CAST(i.entries AS BLOB) FROM json_each(?) AS number
CROSS JOIN segment_identities AS i ON i.id = (number.value << {IDENTITY_BUCKET_BITS}) + ?
"""

_PLACED = """
SELECT json_group_array(json_array(position, source, producer_id)) FROM (
    SELECT position, source, producer_id FROM events WHERE position > ? AND position <= ?
        AND typeof(source) = 'text' AND typeof(producer_id) = 'text'
    ORDER BY position
)
"""

_decode_placed = msgspec.json.Decoder(list[tuple[int, str, str]]).decode

_WITHOUT_IDENTITIES = "SELECT number FROM segments WHERE identities IS NULL ORDER BY number"
