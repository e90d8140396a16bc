"""The event log in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from deploylog.events.event import Event
from deploylog.events.index.identities import digest_of
from deploylog.events.index.search import EventRows
from deploylog.events.index.trace import Trace
from deploylog.events.store import PAGE_BYTES, Page, Query
from deploylog.store.checksums import content_checksum, event_checksum
from deploylog.store.contract import CommitObserver
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.indexed_log import IndexedLog
from deploylog.store.live_index import LiveIndex
from deploylog.store.mending import IndexMender
from deploylog.store.pages import SIZE
from deploylog.store.postgres.connection import (
    Connection,
    all_rows,
    change,
    one_row,
    one_value,
)
from deploylog.store.postgres.index import PostgresEventRows, drop_segments
from deploylog.store.postgres.pages import read_row
from deploylog.store.postgres.partitions import drop_empty_partitions
from deploylog.store.postgres.query import read_events
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.writer import Writer
from deploylog.store.rows import WHOLE, Unreadable

#: Events pruned in one transaction, so that appends do not wait long.
PRUNED_AT_ONCE = 2_000

#: Events that get a checksum in one transaction.
CHECKED_AT_ONCE = 500


class PostgresLog(IndexedLog[Connection]):
    """The ``EventLog`` of a PostgreSQL store."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        index: LiveIndex[Connection],
        *,
        epoch: int,
        conninfo: str,
        notifier: HeadNotifier,
        mender: IndexMender[Connection],
        observer: CommitObserver,
    ) -> None:
        """``notifier`` learns of each commit; ``observer`` of damaged events, and of the rows that
        reads take.
        """
        super().__init__(writer, readers, index, epoch=epoch, mender=mender, observer=observer)
        self._conninfo = conninfo
        self._notifier = notifier

    def _read(self, connection: Connection, query: Query, trace: Trace) -> Page:
        moment = self._index.moment(connection)
        return read_events(connection, moment, query, self.epoch, trace=trace)

    def _rows(self, connection: Connection) -> EventRows:
        return PostgresEventRows(connection, self.epoch)

    def _event_at(self, connection: Connection, position: int) -> Event | None:
        return read_row(connection, position, self.epoch)

    async def add_checksums(self) -> bool:
        return await self._writer.call(_add_checksums)

    async def head(self) -> int:
        return int(await self._value("SELECT head FROM log"))

    async def floor(self) -> int:
        return int(await self._value("SELECT floor FROM log"))

    async def position_before(self, recorded: int) -> int:
        return await self._readers.run(lambda connection: _position_before(connection, recorded))

    async def prune(self, recorded_before: int) -> int:
        end = await self.position_before(recorded_before)
        pruned = 0
        while (floor := await self.floor()) < end:
            pruned += await self._writer.call(
                lambda connection, low=floor: _prune(connection, low, end)  # type: ignore[misc]
            )
        await asyncio.to_thread(drop_empty_partitions, self._conninfo, floor)
        return pruned

    async def heads(self) -> AsyncIterator[int]:
        with self._notifier.watch() as committed:
            head = await self.head()
            yield head
            while True:
                await committed.wait()
                if committed.head > head:
                    head = committed.head
                    yield head

    async def _value(self, sql: str, *values: object) -> Any:
        return await self._readers.run(lambda connection: one_value(connection, sql, values))


def _position_before(connection: Connection, recorded: int) -> int:
    """A binary search: times never fall as positions rise."""
    [(low, high)] = all_rows(connection, "SELECT floor, head FROM log")
    while low < high:
        middle = (low + high + 1) // 2
        row = one_row(connection, _RECORDED_AT, (middle, low))
        if row is None or row[1] < recorded:
            low = middle
        else:
            high = row[0] - 1
    return int(low)


_RECORDED_AT = """
SELECT position, recorded FROM events WHERE position <= %s AND position > %s
ORDER BY position DESC LIMIT 1
"""


def _add_checksums(connection: Connection) -> bool:
    """Start with the newest events, which are read most often."""
    [(unchecked, floor)] = all_rows(connection, "SELECT unchecked, floor FROM log")
    size, low = 0, floor
    for position, bytes_ in all_rows(connection, _UNCHECKED, (unchecked, floor)):
        _add_checksum(connection, position)
        low, size = position - 1, size + bytes_
        if size > PAGE_BYTES:
            break
    change(connection, "UPDATE log SET unchecked = %s", (low,))
    return bool(low > floor)


_UNCHECKED = f"""
SELECT e.position, {SIZE} FROM events AS e WHERE e.position <= %s AND e.position > %s
ORDER BY e.position DESC LIMIT {CHECKED_AT_ONCE}
"""


def _add_checksum(connection: Connection, position: int) -> None:
    # A damaged event gets no checksum: it would prove nothing.
    with suppress(Unreadable):
        read_row(connection, position, 0)
        row = one_row(
            connection, f"SELECT {WHOLE} FROM events AS e WHERE position = %s", (position,)
        )
        if row is not None and row[-1] is None:
            checksum = event_checksum(content_checksum(row[2:-1]), *row[:2])
            change(connection, _SET_CHECKSUM, (checksum, position))


_SET_CHECKSUM = "UPDATE events SET checksum = %s WHERE position = %s"


def _prune(connection: Connection, low: int, end: int) -> int:
    """Delete the next events up to ``end``, with their requests and segments; return how many."""
    high = min(low + PRUNED_AT_ONCE, end)
    change(connection, "DELETE FROM requests WHERE newest <= %s", (high,))
    rows = all_rows(connection, _DELETE, (low, high))
    identities = [
        (digest_of(source, producer_id), position)
        for position, source, producer_id in rows
        if producer_id is not None
    ]
    digests, positions = zip(*identities, strict=True) if identities else ((), ())
    change(connection, _DELETE_IDENTITIES, (list(digests), list(positions)))
    change(connection, "UPDATE log SET floor = greatest(floor, %s)", (high,))
    drop_segments(connection, high)
    return len(rows)


_DELETE = """
DELETE FROM events WHERE position > %s AND position <= %s RETURNING position, source, producer_id
"""

_DELETE_IDENTITIES = """
DELETE FROM identities AS i USING unnest(%s::bigint[], %s::bigint[]) AS gone (digest, position)
WHERE i.digest = gone.digest AND i.position = gone.position
"""
