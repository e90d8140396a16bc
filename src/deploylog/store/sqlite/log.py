"""The event log in SQLite."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import apsw

from deploylog.errors import EventNotFound
from deploylog.events import Event, NewEvent
from deploylog.store.base import Page, Query, RequestKey
from deploylog.store.sqlite.connection import SqlValue, all_rows, one_row, one_value
from deploylog.store.sqlite.moved import Moved
from deploylog.store.sqlite.plan import read_events
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.recorder import SPAN_BITS, Append, draft, event_of
from deploylog.store.sqlite.rows import SELECTED, events_of
from deploylog.store.sqlite.writer import Writer

#: Seconds between looks for what other processes have committed.
POLL_SECONDS = 0.05

#: Events forgotten in one transaction, so that appends do not wait long.
PRUNED_AT_ONCE = 2_000


class SqliteLog:
    """The ``EventLog`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers, *, epoch: int, moved: Moved) -> None:
        """``moved`` is told of each commit of this process."""
        self.epoch = epoch
        self._writer = writer
        self._readers = readers
        self._moved = moved

    async def append(
        self, events: Sequence[NewEvent], *, request: RequestKey | None = None
    ) -> list[Event]:
        """See ``EventLog``."""
        entries = await self._writer.append(Append([draft(event) for event in events], request))
        return [event_of(entry, self.epoch) for entry in entries]

    async def read(self, query: Query) -> Page:
        """See ``EventLog``."""
        return await self._readers.of(query.purpose).run(
            lambda connection: read_events(connection, query, self.epoch), caller=query.caller
        )

    async def get(self, position: int) -> Event:
        """See ``EventLog``."""
        sql = f"SELECT {SELECTED} FROM events AS e WHERE e.position = ?"
        text = await self._value(sql, position)
        for event in events_of(text, self.epoch):
            return event
        raise EventNotFound

    async def head(self) -> int:
        """See ``EventLog``."""
        return int(await self._value("SELECT head FROM log"))

    async def floor(self) -> int:
        """See ``EventLog``."""
        return int(await self._value("SELECT floor FROM log"))

    async def token_key(self) -> bytes:
        """See ``EventLog``."""
        return bytes(await self._value("SELECT value FROM token_key"))

    async def position_before(self, recorded: int) -> int:
        """See ``EventLog``."""
        return await self._readers.run(lambda connection: _position_before(connection, recorded))

    async def prune(self, recorded_before: int) -> int:
        """See ``EventLog``."""
        end = await self.position_before(recorded_before)
        forgotten = 0
        while (floor := await self.floor()) < end:
            forgotten += await self._writer.call(
                lambda connection, low=floor: _forget(connection, low, end)  # type: ignore[misc]
            )
        return forgotten

    async def changes(self) -> AsyncIterator[int]:
        """See ``EventLog``."""
        with self._moved.watch() as committed:
            head = await self.head()
            yield head
            while True:
                # What this process commits is told; another's commits are only seen by looking.
                told = await committed.wait(POLL_SECONDS)
                newest = committed.head if told else await self.head()
                if newest > head:
                    head = newest
                    yield head

    async def _value(self, sql: str, *values: SqlValue) -> Any:
        return await self._readers.run(lambda connection: one_value(connection, sql, values))


def _position_before(connection: apsw.Connection, recorded: int) -> int:
    """Halve the log until it is found: times never fall as positions rise."""
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


#: The postings of a range of events, found through their scopes.
_POSTED = """
WITH RECURSIVE path (position, text) AS (
    SELECT e.position, scope.value FROM events AS e, json_each(e.scopes) AS scope
    WHERE e.position > ? AND e.position <= ?
    UNION
    SELECT position, rtrim(rtrim(text, replace(text, '/', '')), '/') FROM path
    WHERE instr(text, '/')
)
SELECT scopes.scope_id, path.position FROM path JOIN scopes ON scopes.path = path.text
"""


def _forget(connection: apsw.Connection, low: int, end: int) -> int:
    """Delete the next events up to ``end``, with all that leads to them."""
    high = min(low + PRUNED_AT_ONCE, end)
    rows = connection.execute(_POSTED, (low, high)).fetchall()
    connection.executemany("DELETE FROM postings WHERE scope_id = ? AND position = ?", rows)
    connection.execute("DELETE FROM event_groups WHERE position > ? AND position <= ?", (low, high))
    connection.execute("DELETE FROM requests WHERE newest <= ?", (high,))
    connection.execute("DELETE FROM spans WHERE block < ?", (high >> SPAN_BITS,))
    connection.execute("DELETE FROM events WHERE position > ? AND position <= ?", (low, high))
    forgotten = connection.changes()
    connection.execute("UPDATE log SET floor = ?", (high,))
    return forgotten
