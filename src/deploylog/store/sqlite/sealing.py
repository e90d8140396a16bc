"""Sealing in SQLite: the rows of a sealed segment."""

from collections.abc import Sequence
from itertools import chain

import apsw
import msgspec

from deploylog.events.index.sealed import BUCKET_BITS, seal
from deploylog.events.index.segments import GrowingSegment
from deploylog.store.live_index import grown_from_rows
from deploylog.store.sqlite.connection import all_rows, insert_rows
from deploylog.store.sqlite.identities import SealedIdentities, sealed_identities
from deploylog.store.sqlite.index import SqliteIndexTables


class SealedRows(msgspec.Struct, frozen=True):
    """The rows of a sealed segment, ready to be written."""

    number: int
    terms: Sequence[tuple[int, str, bytes]]
    buckets: Sequence[tuple[int, bytes]]
    pages: Sequence[tuple[int, str, bytes]]
    times: bytes
    identities: SealedIdentities

    def replace(self, connection: apsw.Connection) -> None:
        """Write them in the caller's transaction, in the place of what is stored."""
        connection.execute("DELETE FROM segments WHERE number = ?", (self.number,))
        self.write(connection)

    def write(self, connection: apsw.Connection) -> None:
        """Write them in the caller's transaction, unless another process has sealed the segment.

        All at once: of two processes that seal a segment, the one may know events that are pruned
        for the other, and their rows must not mix.
        """
        if all_rows(connection, "SELECT 1 FROM segments WHERE number = ?", (self.number,)):
            return
        # What a program that was interrupted left of it.
        for delete in _DELETE_ROWS:
            connection.execute(delete, (self.number,))
        # Appends wait meanwhile: few statements are few waits for the interpreter's lock.
        for into, rows in (
            ("INSERT INTO segment_terms (segment, term, positions)", self.terms),
            ("INSERT INTO segment_buckets (id, entries)", self.buckets),
            ("INSERT INTO segment_pages (segment, first, terms)", self.pages),
        ):
            if rows:
                insert_rows(connection, into, len(rows[0]), list(chain.from_iterable(rows)))
        connection.execute(_PUT_SEGMENT, (self.number, self.times))
        self.identities.write(connection)


def sealed_rows(segment: GrowingSegment, identities: SealedIdentities) -> SealedRows:
    """The rows of a segment to which nothing is added any more."""
    number, sealed = segment.number, seal(segment)
    return SealedRows(
        number,
        [(number, term, positions) for term, positions in sealed.bitmaps],
        [((number << BUCKET_BITS) + bucket, entries) for bucket, entries in sealed.buckets],
        [(number, first, terms) for first, terms in sealed.pages],
        sealed.times,
        identities,
    )


def seal_segment(connection: apsw.Connection, segment: GrowingSegment) -> None:
    """Store a full segment, unless another process has done it."""
    rows = sealed_rows(segment, sealed_identities(connection, segment.number))
    with connection:
        rows.write(connection)


def reseal_segment(connection: apsw.Connection, number: int) -> None:
    """Make a sealed segment again from its rows, in the caller's transaction."""
    segment = grown_from_rows(SqliteIndexTables(), connection, number)
    sealed_rows(segment, sealed_identities(connection, number)).replace(connection)


_DELETE_ROWS = (
    "DELETE FROM segment_terms WHERE segment = ?",
    f"DELETE FROM segment_buckets WHERE id BETWEEN (?1 << {BUCKET_BITS})"
    f" AND ((?1 + 1) << {BUCKET_BITS}) - 1",
    "DELETE FROM segment_pages WHERE segment = ?",
)

_PUT_SEGMENT = "INSERT INTO segments (number, times) VALUES (?, ?)"
