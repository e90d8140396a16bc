"""Ended sessions, in every backend."""

from collections.abc import Collection
from typing import Generic

from deploylog.store.commit_queue import CommitQueue
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT, ReaderPools

_END = "INSERT INTO ended_sessions (id, expires) VALUES (?, ?) ON CONFLICT DO NOTHING"

_DELETE_EXPIRED = "DELETE FROM ended_sessions WHERE expires <= ?"

_ENDED = "SELECT id FROM ended_sessions WHERE id"


class SqlEndedSessions(Generic[ConnectionT]):
    """The ``EndedSessions`` of a backend."""

    def __init__(
        self,
        writer: CommitQueue[ConnectionT],
        readers: ReaderPools[ConnectionT],
        dialect: Dialect[ConnectionT],
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._dialect = dialect

    async def end(self, id: str, *, now: int, until: int) -> None:

        def end(connection: ConnectionT) -> None:
            self._dialect.change(connection, _DELETE_EXPIRED, (now,))
            self._dialect.change(connection, _END, (id, until))

        await self._writer.call(end)

    async def ended(self, ids: Collection[str]) -> set[str]:
        sql = self._dialect.sql(f"{_ENDED} {self._dialect.among}")
        rows = await self._readers.rows(sql, (self._dialect.array(ids),))
        return {id for (id,) in rows}
