"""Ended sessions, in every backend."""

from collections.abc import Collection
from typing import Generic

from deploylog.store.database import Database
from deploylog.store.readers import ConnectionT

_END = "INSERT INTO ended_sessions (id, expires) VALUES (?, ?) ON CONFLICT DO NOTHING"

_DELETE_EXPIRED = "DELETE FROM ended_sessions WHERE expires <= ?"

_ENDED = "SELECT id FROM ended_sessions WHERE id"


class SqlEndedSessions(Generic[ConnectionT]):
    """The ``EndedSessions`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect

    async def end(self, id: str, *, now: int, until: int) -> None:

        def end(connection: ConnectionT) -> None:
            self._dialect.change(connection, _DELETE_EXPIRED, (now,))
            self._dialect.change(connection, _END, (id, until))

        await self._writer.call(end)

    async def ended(self, ids: Collection[str]) -> set[str]:
        sql = self._dialect.sql(f"{_ENDED} {self._dialect.among}")
        rows = await self._readers.rows(sql, (self._dialect.array(ids),))
        return {id for (id,) in rows}
