"""Ended sessions in SQLite."""

from collections.abc import Collection

import apsw

from deploylog.store.rows import json_text
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

_END = "INSERT INTO ended_sessions (id, expires) VALUES (?, ?) ON CONFLICT DO NOTHING"

_ENDED = "SELECT id FROM ended_sessions WHERE id IN (SELECT value FROM json_each(?))"


class SqliteEndedSessions:
    """The ``EndedSessions`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def end(self, id: str, *, now: int, until: int) -> None:

        def end(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM ended_sessions WHERE expires <= ?", (now,))
            connection.execute(_END, (id, until))

        await self._writer.call(end)

    async def ended(self, ids: Collection[str]) -> set[str]:
        rows = await self._readers.rows(_ENDED, (json_text(ids),))
        return {id for (id,) in rows}
