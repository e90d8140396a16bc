"""The credentials that sign, in SQLite."""

from typing import Any

import apsw
import msgspec

from deploylog.errors import Conflict, KeyNotFound
from deploylog.principals import Grant
from deploylog.store.base import SignerKind, StoredSigner
from deploylog.store.sqlite.connection import SqlValue, one_row
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.rows import json_text, names_of
from deploylog.store.sqlite.writer import Writer

_SELECT = 'SELECT kind, id, name, sealed, "groups", grants, created, revoked FROM signers'


class SqliteSigners:
    """The ``Signers`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        """Where to write and to read."""
        self._writer = writer
        self._readers = readers

    async def add(self, signer: StoredSigner) -> None:
        """See ``Signers``."""

        def add(connection: apsw.Connection) -> None:
            sql = "SELECT kind FROM signers WHERE id = ?"
            if found := one_row(connection, sql, (signer.id,)):
                raise Conflict(f"there is a {found[0]} key {signer.id!r} already")
            connection.execute("INSERT INTO signers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

        row = _row_of(signer)
        await self._writer.call(add)

    async def list(self) -> list[StoredSigner]:
        """See ``Signers``."""
        rows = await self._readers.rows(f"{_SELECT} ORDER BY created, kind, id")
        return [_signer_of(row) for row in rows]

    async def get(self, kind: SignerKind, id: str) -> StoredSigner:
        """See ``Signers``."""
        for row in await self._readers.rows(f"{_SELECT} WHERE kind = ? AND id = ?", (kind, id)):
            return _signer_of(row)
        raise _not_found(kind, id)

    async def revoke(self, kind: SignerKind, id: str, time: int) -> None:
        """See ``Signers``."""
        await self._update("revoked = coalesce(revoked, ?)", time, kind, id)

    async def reencrypt(self, kind: SignerKind, id: str, sealed: bytes) -> None:
        """See ``Signers``."""
        await self._update("sealed = ?", sealed, kind, id)

    async def _update(self, assignment: str, value: SqlValue, kind: SignerKind, id: str) -> None:
        def update(connection: apsw.Connection) -> None:
            sql = f"UPDATE signers SET {assignment} WHERE kind = ? AND id = ?"
            connection.execute(sql, (value, kind, id))
            if not connection.changes():
                raise _not_found(kind, id)

        await self._writer.call(update)


def _not_found(kind: SignerKind, id: str) -> KeyNotFound:
    return KeyNotFound(f"there is no {kind} key {id!r}")


def _row_of(signer: StoredSigner) -> tuple[SqlValue, ...]:
    return (
        signer.kind,
        signer.id,
        signer.name,
        signer.sealed,
        json_text(signer.groups),
        json_text(signer.grants),
        signer.created,
        signer.revoked,
    )


def _signer_of(row: tuple[Any, ...]) -> StoredSigner:
    kind, id, name, sealed, groups, grants, created, revoked = row
    return StoredSigner(
        kind=kind,
        id=id,
        name=name,
        sealed=sealed,
        groups=names_of(groups),
        grants=msgspec.json.decode(grants, type=tuple[Grant, ...]),
        created=created,
        revoked=revoked,
    )
