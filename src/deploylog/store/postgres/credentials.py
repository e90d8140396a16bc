"""Credentials in PostgreSQL."""

from typing import Any

import msgspec

from deploylog.auth.store import Credential, CredentialKind
from deploylog.errors import Conflict, KeyNotFound
from deploylog.events.access import Grant
from deploylog.store.postgres.connection import Connection, change, one_row
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.writer import Writer
from deploylog.store.rows import json_text

_SELECT = 'SELECT kind, id, name, secret, "groups", grants, created, revoked FROM credentials'

_INSERT = """
INSERT INTO credentials (kind, id, name, secret, "groups", grants, created, revoked)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


class PostgresCredentials:
    """The ``Credentials`` of a PostgreSQL store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, credential: Credential) -> None:

        def add(connection: Connection) -> None:
            sql = "SELECT kind FROM credentials WHERE id = %s"
            if found := one_row(connection, sql, (credential.id,)):
                raise Conflict(f"there is already a key {credential.id!r}, of kind {found[0]}")
            change(connection, _INSERT, row)

        row = _row_of(credential)
        await self._writer.call(add)

    async def list(self) -> list[Credential]:
        rows = await self._readers.rows(f"{_SELECT} ORDER BY created, kind, id")
        return [_credential_of(row) for row in rows]

    async def get(self, kind: CredentialKind, id: str) -> Credential:
        for row in await self._readers.rows(f"{_SELECT} WHERE id = %s AND kind = %s", (id, kind)):
            return _credential_of(row)
        raise KeyNotFound(f"there is no {kind} key {id!r}" if kind != "key" else _missing(id))

    async def revoke(self, id: str, time: int) -> None:
        await self._update("revoked = coalesce(revoked, %s)", time, id)

    async def replace_secret(self, id: str, secret: bytes) -> None:
        await self._update("secret = %s", secret, id)

    async def _update(self, assignment: str, value: object, id: str) -> None:
        def update(connection: Connection) -> None:
            sql = f"UPDATE credentials SET {assignment} WHERE id = %s"
            if not change(connection, sql, (value, id)):
                raise KeyNotFound(_missing(id))

        await self._writer.call(update)


def _missing(id: str) -> str:
    return f"there is no key {id!r}"


def _row_of(credential: Credential) -> tuple[object, ...]:
    return (
        credential.kind,
        credential.id,
        credential.name,
        credential.secret,
        list(credential.groups),
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
        groups=tuple(groups),
        grants=msgspec.json.decode(grants, type=tuple[Grant, ...]),
        created=created,
        revoked=revoked,
    )
