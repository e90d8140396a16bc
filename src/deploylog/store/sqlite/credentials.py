"""Credentials in SQLite."""

from typing import Any

import apsw
import msgspec

from deploylog.auth.store import Credential, CredentialKind
from deploylog.errors import Conflict, KeyNotFound
from deploylog.events.access import Grant
from deploylog.store.rows import json_text, names_of
from deploylog.store.sqlite.connection import SqlValue, one_row
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

_SELECT = 'SELECT kind, id, name, secret, "groups", grants, created, revoked FROM credentials'


class SqliteCredentials:
    """The ``Credentials`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, credential: Credential) -> None:

        def add(connection: apsw.Connection) -> None:
            sql = "SELECT kind FROM credentials WHERE id = ?"
            if found := one_row(connection, sql, (credential.id,)):
                raise Conflict(f"there is already a key {credential.id!r}, of kind {found[0]}")
            connection.execute("INSERT INTO credentials VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

        row = _row_of(credential)
        await self._writer.call(add)

    async def list(self) -> list[Credential]:
        rows = await self._readers.rows(f"{_SELECT} ORDER BY created, kind, id")
        return [_credential_of(row) for row in rows]

    async def get(self, kind: CredentialKind, id: str) -> Credential:
        for row in await self._readers.rows(f"{_SELECT} WHERE id = ? AND kind = ?", (id, kind)):
            return _credential_of(row)
        raise KeyNotFound(f"there is no {kind} key {id!r}" if kind != "key" else _missing(id))

    async def revoke(self, id: str, time: int) -> None:
        await self._update("revoked = coalesce(revoked, ?)", time, id)

    async def replace_secret(self, id: str, secret: bytes) -> None:
        await self._update("secret = ?", secret, id)

    async def _update(self, assignment: str, value: SqlValue, id: str) -> None:
        def update(connection: apsw.Connection) -> None:
            connection.execute(f"UPDATE credentials SET {assignment} WHERE id = ?", (value, id))
            if not connection.changes():
                raise KeyNotFound(_missing(id))

        await self._writer.call(update)


def _missing(id: str) -> str:
    return f"there is no key {id!r}"


def _row_of(credential: Credential) -> tuple[SqlValue, ...]:
    return (
        credential.kind,
        credential.id,
        credential.name,
        credential.secret,
        json_text(credential.groups),
        json_text(credential.grants),
        credential.created,
        credential.revoked,
    )


def _credential_of(row: tuple[Any, ...]) -> Credential:
    kind, id, name, secret, groups, grants, created, revoked = row
    return Credential(
        kind=kind,
        id=id,
        name=name,
        secret=secret,
        groups=names_of(groups),
        grants=msgspec.json.decode(grants, type=tuple[Grant, ...]),
        created=created,
        revoked=revoked,
    )
