"""Sealing: full segments are stored, while the service runs and when a store is opened.

One process at a time seals, on a connection of its own: appends do not wait for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from deploylog.errors import Stopping, StoreUnavailable
from deploylog.events.index.growth import last_position
from deploylog.events.index.sealed import Sealed, seal
from deploylog.events.index.segments import SEGMENT_SIZE, GrowingSegment, segment_of
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.postgres.connection import (
    LOCKS,
    Connection,
    all_rows,
    change,
    connect,
    one_value,
    store_errors,
)
from deploylog.store.postgres.index import FEED_SIZE, PostgresIndex, read_fed
from deploylog.store.postgres.readers import Readers

#: Events that are committed before they are fed, unless a query asks for them.
FEED_EVERY = 4_096

#: Seconds before a failed step is tried again.
_RETRY_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


def write_segment(connection: Connection, number: int, sealed: Sealed) -> bool:
    """Store a segment, unless another process does it or has done it; return whether it was this
    one.
    """
    with connection.transaction():
        if not one_value(connection, f"SELECT pg_try_advisory_xact_lock({LOCKS}, 2)"):
            return False
        if all_rows(connection, "SELECT 1 FROM segments WHERE number = %s", (number,)):
            return False
        with connection.cursor() as cursor:
            cursor.executemany(_PUT_TERM, [(number, *each) for each in sealed.bitmaps])
            cursor.executemany(_PUT_BUCKET, [(number, *each) for each in sealed.buckets])
            cursor.executemany(_PUT_PAGE, [(number, *each) for each in sealed.pages])
        change(connection, _PUT_SEGMENT, (number, sealed.times))
        return True


_PUT_TERM = "INSERT INTO segment_terms (segment, term, positions) VALUES (%s, %s, %s)"
_PUT_BUCKET = "INSERT INTO segment_buckets (segment, bucket, entries) VALUES (%s, %s, %s)"
_PUT_PAGE = "INSERT INTO segment_pages (segment, first, terms) VALUES (%s, %s, %s)"
_PUT_SEGMENT = "INSERT INTO segments (number, times) VALUES (%s, %s)"


def unsealed(connection: Connection) -> list[int]:
    """The numbers of the full segments that are not sealed, in order."""
    [(head, floor)] = all_rows(connection, "SELECT head, floor FROM log")
    [(sealed,)] = all_rows(connection, "SELECT coalesce(max(number), -1) FROM segments")
    first = max(sealed + 1, segment_of(floor + 1))
    return list(range(first, segment_of(head + 1)))


def grown_from_rows(connection: Connection, number: int) -> GrowingSegment:
    """A full segment, made from its rows."""
    segment = GrowingSegment(number)
    low, end = number * SEGMENT_SIZE - 1, last_position(number)
    while low < end:
        high = min(low + FEED_SIZE, end)
        for position, time, terms in read_fed(connection, low, high):
            segment.add_terms(position % SEGMENT_SIZE, time, terms)
        low = high
    return segment


def seal_full_segments(connection: Connection) -> None:
    """Seal what an earlier process left.

    Each segment is sealed by itself, so an interrupted run goes on where it stopped.
    """
    pending = unsealed(connection)
    for done, number in enumerate(pending):
        if len(pending) > 1:
            _LOGGER.warning("indexing the events: segment %d of %d", done + 1, len(pending))
        write_segment(connection, number, seal(grown_from_rows(connection, number)))


@asynccontextmanager
async def sealing(
    index: PostgresIndex, conninfo: str, readers: Readers, moved: HeadNotifier
) -> AsyncIterator[None]:
    """Feed and seal segments while in the block."""
    task = asyncio.create_task(_keep_sealing(index, conninfo, readers, moved))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_sealing(
    index: PostgresIndex, conninfo: str, readers: Readers, moved: HeadNotifier
) -> None:
    with moved.watch() as committed:
        with suppress(StoreUnavailable, Stopping):
            # So that the first query need not wait for the newest events of an earlier process.
            await readers.background.run(index.moment)
        while True:
            await committed.wait(None)
            # A query may have fed what fills a segment.
            if not (index.full() or _is_due(index.fed, committed.head)):
                continue
            try:
                await readers.background.run(index.moment)
                for segment in index.full():
                    sealed = await asyncio.to_thread(seal, segment)
                    await asyncio.to_thread(_seal, conninfo, segment.number, sealed)
                await readers.background.run(index.moment)
            except Stopping:
                return
            except StoreUnavailable as error:
                _LOGGER.warning("cannot index events for now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)


def _is_due(fed: int, head: int) -> bool:
    """Whether there is much to feed, or what there is fills a segment."""
    return head - fed >= FEED_EVERY or segment_of(head + 1) > segment_of(fed + 1)


def _seal(conninfo: str, number: int, sealed: Sealed) -> None:
    with connect(conninfo) as connection, store_errors():
        write_segment(connection, number, sealed)
