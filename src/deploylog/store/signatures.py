"""Signatures, in every backend."""

from typing import Generic

from deploylog.store.database import Database
from deploylog.store.readers import ConnectionT

_ADD = "INSERT INTO signatures (digest, seen, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

_DELETE_EXPIRED = "DELETE FROM signatures WHERE expires <= ?"

_SEEN = "SELECT seen FROM signatures WHERE digest = ?"


class SqlSignatures(Generic[ConnectionT]):
    """The ``Signatures`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._dialect = database.dialect

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:

        def remember(connection: ConnectionT) -> int:
            self._dialect.change(connection, _DELETE_EXPIRED, (now,))
            self._dialect.change(connection, _ADD, (digest, now, until))
            [(seen,)] = self._dialect.rows(connection, _SEEN, (digest,))
            return int(seen)

        return await self._writer.call(remember)
