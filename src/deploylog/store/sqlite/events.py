"""The event log in SQLite."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import apsw

from deploylog.events.event import Event
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
from deploylog.store.rows import WHOLE
from deploylog.store.sqlite.connection import SqlValue, all_rows, one_row, one_value
from deploylog.store.sqlite.dictionary import drop_unused
from deploylog.store.sqlite.head_watch import WriteAheadLogWatch, noticing
from deploylog.store.sqlite.index import SqliteEventRows, drop_segments
from deploylog.store.sqlite.pages import BAD_ROW, read_row
from deploylog.store.sqlite.query import read_events
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

#: Seconds between polls for commits of other processes.
POLL_SECONDS = 0.05

#: Events pruned in one transaction, so that appends do not wait long.
PRUNED_AT_ONCE = 2_000

#: Events that get a checksum in one transaction.
CHECKED_AT_ONCE = 500


class SqliteLog(IndexedLog[apsw.Connection]):
    """The ``EventLog`` of a SQLite store."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        index: LiveIndex[apsw.Connection],
        *,
        epoch: int,
        wal: str,
        notifier: HeadNotifier,
        mender: IndexMender[apsw.Connection],
        observer: CommitObserver,
    ) -> None:
        """``wal`` is the path of the write-ahead log.

        ``notifier`` learns of each commit of this process; ``observer`` of damaged events, and of
        the rows that reads take.
        """
        super().__init__(writer, readers, index, epoch=epoch, mender=mender, observer=observer)
        self._wal = wal
        self._notifier = notifier

    def _read(self, connection: apsw.Connection, query: Query, trace: Trace) -> Page:
        moment = self._index.moment(connection)
        return read_events(connection, moment, query, self.epoch, trace=trace)

    def _rows(self, connection: apsw.Connection) -> EventRows:
        return SqliteEventRows(connection, self.epoch)

    def _event_at(self, connection: apsw.Connection, position: int) -> Event | None:
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
        return pruned

    async def heads(self) -> AsyncIterator[int]:
        log = WriteAheadLogWatch(self._wal)
        # Commits of this process notify; those of others are noticed.
        with self._notifier.watch() as committed, noticing(log, committed, POLL_SECONDS):
            head = await self.head()
            yield head
            while True:
                await committed.wait()
                newest = committed.head if committed.head > head else await self.head()
                if newest > head:
                    head = newest
                    yield head

    async def _value(self, sql: str, *values: SqlValue) -> Any:
        return await self._readers.run(lambda connection: one_value(connection, sql, values))


def _position_before(connection: apsw.Connection, recorded: int) -> int:
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
SELECT position, recorded FROM events WHERE position <= ? AND position > ?
ORDER BY position DESC LIMIT 1
"""


def _add_checksums(connection: apsw.Connection) -> bool:
    """Start with the newest events, which are read most often."""
    [(unchecked, floor)] = all_rows(connection, "SELECT unchecked, floor FROM log")
    size, low = 0, floor
    for position, bytes_ in all_rows(connection, _UNCHECKED, (unchecked, floor)):
        _add_checksum(connection, position)
        low, size = position - 1, size + bytes_
        if size > PAGE_BYTES:
            break
    connection.execute("UPDATE log SET unchecked = ?", (low,))
    return bool(low > floor)


_UNCHECKED = f"""
SELECT e.position, {SIZE} FROM events AS e WHERE e.position <= ? AND e.position > ?
ORDER BY e.position DESC LIMIT {CHECKED_AT_ONCE}
"""


def _add_checksum(connection: apsw.Connection, position: int) -> None:
    # A damaged event gets no checksum: it would prove nothing.
    with suppress(*BAD_ROW):
        read_row(connection, position, 0)
        row = one_row(
            connection, f"SELECT {WHOLE} FROM events AS e WHERE position = ?", (position,)
        )
        if row is not None and row[-1] is None:
            checksum = event_checksum(content_checksum(row[2:-1]), *row[:2])
            connection.execute(_SET_CHECKSUM, (checksum, position))


_SET_CHECKSUM = "UPDATE event_rows SET checksum = ? WHERE position = ?"


def _prune(connection: apsw.Connection, low: int, end: int) -> int:
    """Delete the next events up to ``end``, with their requests and segments; return how many."""
    high = min(low + PRUNED_AT_ONCE, end)
    connection.execute("DELETE FROM requests WHERE newest <= ?", (high,))
    connection.execute("DELETE FROM event_rows WHERE position > ? AND position <= ?", (low, high))
    pruned = connection.changes()
    drop_unused(connection, low, high)
    connection.execute("UPDATE log SET floor = max(floor, ?)", (high,))
    drop_segments(connection, high)
    return pruned
