"""Signatures in SQLite."""

import apsw

from deploylog.store.sqlite.connection import one_value
from deploylog.store.sqlite.writer import Writer

_ADD = "INSERT INTO signatures (digest, seen, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class SqliteSignatures:
    """The ``Signatures`` of a SQLite store."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:

        def remember(connection: apsw.Connection) -> int:
            connection.execute("DELETE FROM signatures WHERE expires <= ?", (now,))
            connection.execute(_ADD, (digest, now, until))
            sql = "SELECT seen FROM signatures WHERE digest = ?"
            return int(one_value(connection, sql, (digest,)))

        return await self._writer.call(remember)
