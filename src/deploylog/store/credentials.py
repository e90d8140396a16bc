"""Credentials, in every backend."""

from typing import Any, Generic

import msgspec

from deploylog.auth.store import Credential, CredentialKind
from deploylog.errors import Conflict, KeyNotFound
from deploylog.events.access import Grant
from deploylog.store.database import Database
from deploylog.store.readers import ConnectionT
from deploylog.store.rows import json_text

_SELECT = 'SELECT kind, id, name, secret, "groups", grants, created, revoked FROM credentials'

_KIND = "SELECT kind FROM credentials WHERE id = ?"

_INSERT = 'INSERT INTO credentials (kind, id, name, secret, "groups", grants, created, revoked)'


class SqlCredentials(Generic[ConnectionT]):
    """The ``Credentials`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect

    async def add(self, credential: Credential) -> None:

        def add(connection: ConnectionT) -> None:
            for (kind,) in self._dialect.rows(connection, _KIND, (credential.id,)):
                raise Conflict(f"there is already a key {credential.id!r}, of kind {kind}")
            self._dialect.insert(connection, _INSERT, [row])

        row = self._row_of(credential)
        await self._writer.call(add)

    async def list(self) -> list[Credential]:
        rows = await self._readers.rows(f"{_SELECT} ORDER BY created, kind, id")
        return [self._credential_of(row) for row in rows]

    async def get(self, kind: CredentialKind, id: str) -> Credential:
        sql = self._dialect.sql(f"{_SELECT} WHERE id = ? AND kind = ?")
        for row in await self._readers.rows(sql, (id, kind)):
            return self._credential_of(row)
        raise KeyNotFound(f"there is no {kind} key {id!r}" if kind != "key" else _missing(id))

    async def revoke(self, id: str, time: int) -> None:
        await self._update("revoked = coalesce(revoked, ?)", time, id)

    async def replace_secret(self, id: str, secret: bytes) -> None:
        await self._update("secret = ?", secret, id)

    async def _update(self, assignment: str, value: int | bytes, id: str) -> None:
        def update(connection: ConnectionT) -> None:
            sql = f"UPDATE credentials SET {assignment} WHERE id = ?"
            if not self._dialect.change(connection, sql, (value, id)):
                raise KeyNotFound(_missing(id))

        await self._writer.call(update)

    def _row_of(self, credential: Credential) -> tuple[Any, ...]:
        return (
            credential.kind,
            credential.id,
            credential.name,
            credential.secret,
            self._dialect.array(credential.groups),
            json_text(credential.grants),
            credential.created,
            credential.revoked,
        )

    def _credential_of(self, row: tuple[Any, ...]) -> Credential:
        kind, id, name, secret, groups, grants, created, revoked = row
        return Credential(
            kind=kind,
            id=id,
            name=name,
            secret=secret,
            groups=self._dialect.names(groups),
            grants=msgspec.json.decode(grants, type=tuple[Grant, ...]),
            created=created,
            revoked=revoked,
        )


def _missing(id: str) -> str:
    return f"there is no key {id!r}"
