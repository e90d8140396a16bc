"""Sealing: full segments are stored, while the service runs and when a store is opened."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice

import apsw
import msgspec

from deploylog.errors import Stopping, StoreUnavailable
from deploylog.events.index.growth import last_position
from deploylog.events.index.sealed import BUCKET_BITS, Sealed, seal
from deploylog.events.index.segments import SEGMENT_SIZE, GrowingSegment, segment_of
from deploylog.store.sqlite.connection import all_rows
from deploylog.store.sqlite.head_watch import HeadNotifier
from deploylog.store.sqlite.index import FEED_SIZE, SqliteIndex, read_fed
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

#: Rows of a sealed segment that one transaction writes, so that appends do not wait long.
SLICE = 256

#: Events that are committed before they are fed, unless a query asks for them.
FEED_EVERY = 4_096

#: Seconds before a failed step is tried again.
_RETRY_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class Slice(msgspec.Struct, frozen=True):
    """Rows of a sealed segment, written in one transaction."""

    sql: str
    rows: Sequence[tuple[int, int | str, bytes]]

    def write(self, connection: apsw.Connection) -> None:
        """Write the rows. What another process has written of the segment is the same."""
        connection.executemany(self.sql, self.rows)


def slices(number: int, sealed: Sealed) -> Iterator[Slice]:
    """Everything of a sealed segment but the row that makes it one."""
    parts: tuple[tuple[str, Iterable[tuple[int | str, bytes]]], ...] = (
        (_PUT_TERM, sealed.bitmaps),
        (_PUT_BUCKET, sealed.buckets),
        (_PUT_PAGE, sealed.pages),
    )
    for sql, pairs in parts:
        remaining = iter(pairs)
        while part := list(islice(remaining, SLICE)):
            yield Slice(sql, [(number, key, stored) for key, stored in part])


def finish(connection: apsw.Connection, number: int, sealed: Sealed) -> None:
    """Make what the slices wrote a sealed segment."""
    connection.execute(_PUT_SEGMENT, (number, sealed.times))


_PUT_TERM = "INSERT OR REPLACE INTO segment_terms (segment, term, positions) VALUES (?, ?, ?)"
_PUT_BUCKET = (
    f"INSERT OR REPLACE INTO segment_buckets (id, entries) VALUES ((? << {BUCKET_BITS}) + ?, ?)"
)
_PUT_PAGE = "INSERT OR REPLACE INTO segment_pages (segment, first, terms) VALUES (?, ?, ?)"
_PUT_SEGMENT = "INSERT OR REPLACE INTO segments (number, times) VALUES (?, ?)"


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
    """Seal a full segment, slice by slice, with a connection that is in no transaction."""
    sealed = seal(grown_from_rows(connection, number))
    for part in slices(number, sealed):
        with connection:
            part.write(connection)
    with connection:
        finish(connection, number, sealed)


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


def _crosses(head: int, waiting: int) -> bool:
    """Whether what waits to be fed fills a segment."""
    return segment_of(head + 1) > segment_of(head - waiting + 1)


async def _seal(segment: GrowingSegment, writer: Writer) -> None:
    sealed = await asyncio.to_thread(seal, segment)
    remaining = slices(segment.number, sealed)
    while (part := await asyncio.to_thread(next, remaining, None)) is not None:
        await writer.call(part.write)
    await writer.call(lambda connection: finish(connection, segment.number, sealed))
