"""Sealing: full segments are stored, while the service runs and when a store is opened."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import apsw
import msgspec

from deploylog.errors import Stopping, StoreUnavailable
from deploylog.events.index.growth import last_position
from deploylog.events.index.sealed import BUCKET_BITS, seal
from deploylog.events.index.segments import SEGMENT_SIZE, GrowingSegment, segment_of
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.sqlite.connection import all_rows
from deploylog.store.sqlite.index import FEED_SIZE, SqliteIndex, read_fed
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

#: Events that are committed before they are fed, unless a query asks for them.
FEED_EVERY = 4_096

#: Seconds before a failed step is tried again.
_RETRY_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class SealedRows(msgspec.Struct, frozen=True):
    """The rows of a sealed segment, ready to be written."""

    number: int
    terms: Sequence[tuple[int, str, bytes]]
    buckets: Sequence[tuple[int, int, bytes]]
    pages: Sequence[tuple[int, str, bytes]]
    times: bytes

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
        connection.executemany(_PUT_TERM, self.terms)
        connection.executemany(_PUT_BUCKET, self.buckets)
        connection.executemany(_PUT_PAGE, self.pages)
        connection.execute(_PUT_SEGMENT, (self.number, self.times))


def sealed_rows(segment: GrowingSegment) -> SealedRows:
    """The rows of a segment to which nothing is added any more."""
    number, sealed = segment.number, seal(segment)
    return SealedRows(
        number,
        [(number, term, positions) for term, positions in sealed.bitmaps],
        [(number, bucket, entries) for bucket, entries in sealed.buckets],
        [(number, first, terms) for first, terms in sealed.pages],
        sealed.times,
    )


_DELETE_ROWS = (
    "DELETE FROM segment_terms WHERE segment = ?",
    f"DELETE FROM segment_buckets WHERE id BETWEEN (?1 << {BUCKET_BITS})"
    f" AND ((?1 + 1) << {BUCKET_BITS}) - 1",
    "DELETE FROM segment_pages WHERE segment = ?",
)

_PUT_TERM = "INSERT INTO segment_terms (segment, term, positions) VALUES (?, ?, ?)"
_PUT_BUCKET = f"INSERT INTO segment_buckets (id, entries) VALUES ((? << {BUCKET_BITS}) + ?, ?)"
_PUT_PAGE = "INSERT INTO segment_pages (segment, first, terms) VALUES (?, ?, ?)"
_PUT_SEGMENT = "INSERT INTO segments (number, times) VALUES (?, ?)"


def unsealed(connection: apsw.Connection) -> list[int]:
    """The numbers of the full segments that are not sealed, in order."""
    [(head, floor)] = all_rows(connection, "SELECT head, floor FROM log")
    [(sealed,)] = all_rows(connection, "SELECT coalesce(max(number), -1) FROM segments")
    first = max(sealed + 1, segment_of(floor + 1))
    return list(range(first, segment_of(head + 1)))


def grown_from_rows(connection: apsw.Connection, number: int) -> GrowingSegment:
    """A full segment, made from its rows."""
    segment = GrowingSegment(number)
    low, end = number * SEGMENT_SIZE - 1, last_position(number)
    while low < end:
        high = min(low + FEED_SIZE, end)
        for position, time, terms in read_fed(connection, low, high):
            segment.add_terms(position % SEGMENT_SIZE, time, terms)
        low = high
    return segment


def seal_from_rows(connection: apsw.Connection, number: int) -> None:
    """Seal a full segment with a connection that is in no transaction."""
    rows = sealed_rows(grown_from_rows(connection, number))
    with connection:
        rows.write(connection)


def seal_full_segments(connection: apsw.Connection) -> None:
    """Seal what an earlier process left, or a program without an index recorded.

    Each segment is sealed by itself, so an interrupted run goes on where it stopped.
    """
    pending = unsealed(connection)
    for done, number in enumerate(pending):
        if len(pending) > 1:
            _LOGGER.warning("indexing the events: segment %d of %d", done + 1, len(pending))
        seal_from_rows(connection, number)


@asynccontextmanager
async def sealing(
    index: SqliteIndex, writer: Writer, readers: Readers, moved: HeadNotifier
) -> AsyncIterator[None]:
    """Feed and seal segments while in the block."""
    task = asyncio.create_task(_keep_sealing(index, writer, readers, moved))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_sealing(
    index: SqliteIndex, writer: Writer, readers: Readers, moved: HeadNotifier
) -> None:
    with moved.watch() as committed:
        with suppress(StoreUnavailable, Stopping):
            # So that the first query need not wait for the newest events of an earlier process.
            await readers.background.run(index.moment)
        while True:
            await committed.wait(None)
            is_due = index.waiting >= FEED_EVERY or _crosses(committed.head, index.waiting)
            # A query may have fed what fills a segment.
            if not is_due and not index.full():
                continue
            try:
                await readers.background.run(index.moment)
                for segment in index.full():
                    await _seal(segment, writer)
                    await readers.background.run(index.moment)
            except Stopping:
                return
            except StoreUnavailable as error:
                _LOGGER.warning("cannot index events for now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # Without this task, what is not sealed would grow until memory ends.
                _LOGGER.exception("cannot index events; retrying")
                await asyncio.sleep(_RETRY_SECONDS)


def _crosses(head: int, waiting: int) -> bool:
    """Whether what waits to be fed fills a segment."""
    return segment_of(head + 1) > segment_of(head - waiting + 1)


async def _seal(segment: GrowingSegment, writer: Writer) -> None:
    rows = await asyncio.to_thread(sealed_rows, segment)
    await writer.call(rows.write)
