"""Signatures in PostgreSQL."""

from deploylog.store.postgres.connection import Connection, change, one_value
from deploylog.store.postgres.writer import Writer

_ADD = "INSERT INTO signatures (digest, seen, expires) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"


class PostgresSignatures:
    """The ``Signatures`` of a PostgreSQL store."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:

        def remember(connection: Connection) -> int:
            change(connection, "DELETE FROM signatures WHERE expires <= %s", (now,))
            change(connection, _ADD, (digest, now, until))
            sql = "SELECT seen FROM signatures WHERE digest = %s"
            return int(one_value(connection, sql, (digest,)))

        return await self._writer.call(remember)
