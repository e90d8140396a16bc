"""Sealing in PostgreSQL: one process at a time writes, on a connection of its own.

Appends do not wait for it.
"""

from deploylog.events.index.sealed import Sealed, seal
from deploylog.events.index.segments import GrowingSegment
from deploylog.store.live_index import grown_from_rows
from deploylog.store.postgres.connection import (
    LOCKS,
    Connection,
    all_rows,
    change,
    connect,
    one_value,
    store_errors,
)
from deploylog.store.postgres.index import PostgresIndexTables


def write_segment(connection: Connection, segment: GrowingSegment) -> None:
    """Store a full segment, unless another process does it or has done it."""
    number, sealed = segment.number, seal(segment)
    with connection.transaction():
        if not one_value(connection, f"SELECT pg_try_advisory_xact_lock({LOCKS}, 2)"):
            return
        if all_rows(connection, "SELECT 1 FROM segments WHERE number = %s", (number,)):
            return
        _put(connection, number, sealed)


def replace_segment(connection: Connection, number: int) -> None:
    """Make a sealed segment again, from its rows."""
    sealed = seal(grown_from_rows(PostgresIndexTables(), connection, number))
    with connection.transaction():
        all_rows(connection, f"SELECT pg_advisory_xact_lock({LOCKS}, 2)")
        for table in ("segment_terms", "segment_buckets", "segment_pages"):
            change(connection, f"DELETE FROM {table} WHERE segment = %s", (number,))
        change(connection, "DELETE FROM segments WHERE number = %s", (number,))
        _put(connection, number, sealed)


def _put(connection: Connection, number: int, sealed: Sealed) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(_PUT_TERM, [(number, *each) for each in sealed.bitmaps])
        cursor.executemany(_PUT_BUCKET, [(number, *each) for each in sealed.buckets])
        cursor.executemany(_PUT_PAGE, [(number, *each) for each in sealed.pages])
    change(connection, _PUT_SEGMENT, (number, sealed.times))


_PUT_TERM = "INSERT INTO segment_terms (segment, term, positions) VALUES (%s, %s, %s)"
_PUT_BUCKET = "INSERT INTO segment_buckets (segment, bucket, entries) VALUES (%s, %s, %s)"
_PUT_PAGE = "INSERT INTO segment_pages (segment, first, terms) VALUES (%s, %s, %s)"
_PUT_SEGMENT = "INSERT INTO segments (number, times) VALUES (%s, %s)"


def seal_segment(conninfo: str, segment: GrowingSegment) -> None:
    """The same, on a connection of its own."""
    with connect(conninfo) as connection, store_errors():
        write_segment(connection, segment)


def reseal_segment(conninfo: str, number: int) -> None:
    """Make a sealed segment again, on a connection of its own."""
    with connect(conninfo) as connection, store_errors():
        replace_segment(connection, number)
