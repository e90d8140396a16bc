"""Ended sessions in PostgreSQL."""

from collections.abc import Collection

from deploylog.store.postgres.connection import Connection, change
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.writer import Writer

_END = "INSERT INTO ended_sessions (id, expires) VALUES (%s, %s) ON CONFLICT DO NOTHING"

_ENDED = "SELECT id FROM ended_sessions WHERE id = ANY(%s)"


class PostgresEndedSessions:
    """The ``EndedSessions`` of a PostgreSQL store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def end(self, id: str, *, now: int, until: int) -> None:

        def end(connection: Connection) -> None:
            change(connection, "DELETE FROM ended_sessions WHERE expires <= %s", (now,))
            change(connection, _END, (id, until))

        await self._writer.call(end)

    async def ended(self, ids: Collection[str]) -> set[str]:
        rows = await self._readers.rows(_ENDED, (list(ids),))
        return {id for (id,) in rows}
