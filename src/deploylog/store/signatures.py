"""Signatures, in every backend."""

from typing import Generic

from deploylog.store.commit_queue import CommitQueue
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT

_ADD = "INSERT INTO signatures (digest, seen, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

_DELETE_EXPIRED = "DELETE FROM signatures WHERE expires <= ?"

_SEEN = "SELECT seen FROM signatures WHERE digest = ?"


class SqlSignatures(Generic[ConnectionT]):
    """The ``Signatures`` of a backend."""

    def __init__(
        self,
        writer: CommitQueue[ConnectionT],
        dialect: Dialect[ConnectionT],
    ) -> None:
        self._writer = writer
        self._dialect = dialect

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:

        def remember(connection: ConnectionT) -> int:
            self._dialect.change(connection, _DELETE_EXPIRED, (now,))
            self._dialect.change(connection, _ADD, (digest, now, until))
            [(seen,)] = self._dialect.rows(connection, _SEEN, (digest,))
            return int(seen)

        return await self._writer.call(remember)
