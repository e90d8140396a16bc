"""API keys in SQLite."""

from typing import Any

import apsw
import msgspec

from deploylog.errors import KeyNotFound
from deploylog.principals import Grant
from deploylog.store.base import StoredKey
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.rows import json_text, names_of
from deploylog.store.sqlite.writer import Writer

_SELECT = 'SELECT id, name, digest, "groups", grants, created, revoked FROM keys'


class SqliteKeys:
    """The ``Keys`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        """Where to write and to read."""
        self._writer = writer
        self._readers = readers

    async def add(self, key: StoredKey) -> None:
        """See ``Keys``."""
        row = (
            key.id,
            key.name,
            key.digest,
            json_text(key.groups),
            json_text(key.grants),
            key.created,
            key.revoked,
        )
        sql = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)"
        await self._writer.call(lambda connection: connection.execute(sql, row).fetchall())

    async def list(self) -> list[StoredKey]:
        """See ``Keys``."""
        sql = f"{_SELECT} ORDER BY created, id"
        return [_key_of(row) for row in await self._readers.rows(sql)]

    async def get(self, id: str) -> StoredKey:
        """See ``Keys``."""
        sql = f"{_SELECT} WHERE id = ?"
        for row in await self._readers.rows(sql, (id,)):
            return _key_of(row)
        raise KeyNotFound(f"there is no key {id!r}")

    async def revoke(self, id: str, time: int) -> None:
        """See ``Keys``."""

        def revoke(connection: apsw.Connection) -> None:
            sql = "UPDATE keys SET revoked = coalesce(revoked, ?) WHERE id = ?"
            connection.execute(sql, (time, id))
            if not connection.changes():
                raise KeyNotFound(f"there is no key {id!r}")

        await self._writer.call(revoke)


def _key_of(row: tuple[Any, ...]) -> StoredKey:
    id, name, digest, groups, grants, created, revoked = row
    return StoredKey(
        id=id,
        name=name,
        digest=digest,
        groups=names_of(groups),
        grants=msgspec.json.decode(grants, type=tuple[Grant, ...]),
        created=created,
        revoked=revoked,
    )
