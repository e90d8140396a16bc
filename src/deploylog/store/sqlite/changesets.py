"""Change sets in SQLite. ``deployments`` updates them when an event ends one."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.errors import ChangesetNotFound, Conflict, RequestReused
from deploylog.events.access import Visibility
from deploylog.events.store import IdempotencyKey
from deploylog.store.rows import json_text, names_of, scopes_of
from deploylog.store.sqlite.connection import SqlValue, all_rows, one_row
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.visibility import visible_rows
from deploylog.store.sqlite.writer import Writer

#: Change sets deleted in one transaction, so that appends do not wait long.
DELETED_AT_ONCE = 20


class SqliteChangesets:
    """The ``Changesets`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: IdempotencyKey, since: int
    ) -> Changeset:
        document = await asyncio.to_thread(zlib.compress, changes)

        def add(connection: apsw.Connection) -> Changeset:
            earlier = _earlier(connection, changeset.id, request, since)
            if earlier is None:
                _insert(connection, changeset, document, request)
            return earlier or changeset

        return await self._writer.call(add)

    async def get(self, id: str) -> Changeset:
        for row in await self._readers.rows(_BY_ID, (id,)):
            return _changeset_of(row[:-2])
        raise ChangesetNotFound(f"there is no change set {id!r}")

    async def changes(self, id: str) -> bytes:
        document = await self._readers.background.run(lambda connection: _document(connection, id))
        if document is None:
            raise ChangesetNotFound(f"there is no change set {id!r}")
        return document

    async def unfinished(self) -> list[Changeset]:
        return [_changeset_of(row) for row in await self._readers.background.rows(_UNFINISHED)]

    async def delete_before(self, created: int) -> int:
        deleted = 0
        while portion := await self._writer.call(lambda connection: _delete(connection, created)):
            deleted += portion
        return deleted

    # Last, because ``list`` means this method from here on.
    async def list(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack: str | None = None,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Changeset]:
        visible, values = visible_rows(visibility)
        wanted = {"project": project, "stack": stack, "before": before, "limit": limit}
        sql = _LISTED.format(visible=visible)
        rows = await self._readers.queries.rows(sql, values | wanted, caller=caller)
        return [_changeset_of(row) for row in rows]


_CHANGESET = (
    "c.id, c.project, c.stack_id, c.stack, c.status, c.destroy, c.location, c.tool,"
    " c.tool_version, c.actor, c.created, c.ended, c.message, c.totals, c.scopes,"
    ' c."groups"'
)

_BY_ID = f"SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c WHERE c.id = ?"

_BY_REQUEST = f"""
SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c
WHERE c.request = ? AND c.created >= ?
ORDER BY c.created DESC LIMIT 1
"""

_LISTED = f"""
SELECT {_CHANGESET}
FROM changesets AS c
WHERE {{visible}}
    AND (:project IS NULL OR c.project = :project)
    AND (:stack IS NULL OR c.stack = :stack)
    AND c.number < iif(
        :before IS NULL, (SELECT max(number) + 1 FROM changesets),
        (SELECT number FROM changesets WHERE id = :before)
    )
ORDER BY c.number DESC
LIMIT :limit
"""

_UNFINISHED = f"""
SELECT {_CHANGESET} FROM changesets AS c WHERE c.status = 'staging' ORDER BY c.number
"""


def _earlier(
    connection: apsw.Connection, id: str, request: IdempotencyKey, since: int
) -> Changeset | None:
    """The change set that ``request`` has added. Raises RequestReused or Conflict."""
    row = one_row(connection, _BY_REQUEST, (request.key, since))
    if row is not None and row[-1] != request.fingerprint:
        raise RequestReused
    if row is None:
        row = one_row(connection, _BY_ID, (id,))
        if row is not None and row[-2:] != (request.key, request.fingerprint):
            raise Conflict(f"there is a change set {id!r} already")
    return _changeset_of(row[:-2]) if row is not None else None


_INSERT = """
INSERT INTO changesets (
    id, project, stack_id, stack, status, destroy, location, tool,
    tool_version, actor, created, ended, message, totals, scopes, "groups",
    request, fingerprint
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def _insert(
    connection: apsw.Connection, changeset: Changeset, document: bytes, request: IdempotencyKey
) -> None:
    row = (*_row_of(changeset), request.key, request.fingerprint)
    connection.execute(_INSERT, row)
    connection.execute(
        "INSERT INTO changeset_changes (number, document) VALUES (?, ?)",
        (connection.last_insert_rowid(), document),
    )


_DOCUMENT = """
SELECT d.document FROM changeset_changes AS d
WHERE d.number = (SELECT number FROM changesets WHERE id = ?)
"""


def _document(connection: apsw.Connection, id: str) -> bytes | None:
    row = one_row(connection, _DOCUMENT, (id,))
    return zlib.decompress(row[0]) if row is not None else None


_DELETABLE = """
SELECT number FROM changesets WHERE status <> 'staging' AND created < ? ORDER BY created LIMIT ?
"""


def _delete(connection: apsw.Connection, created_before: int) -> int:
    """Delete the next ones; return how many."""
    numbers = all_rows(connection, _DELETABLE, (created_before, DELETED_AT_ONCE))
    connection.executemany("DELETE FROM changeset_changes WHERE number = ?", numbers)
    connection.executemany("DELETE FROM changesets WHERE number = ?", numbers)
    return len(numbers)


def _row_of(changeset: Changeset) -> tuple[SqlValue, ...]:
    return (
        changeset.id,
        changeset.project,
        changeset.stack_id,
        changeset.stack,
        changeset.status,
        changeset.destroy,
        changeset.location,
        changeset.tool,
        changeset.tool_version,
        changeset.actor,
        changeset.created,
        changeset.ended,
        changeset.message,
        msgspec.json.encode(changeset.totals).decode(),
        json_text(changeset.scopes),
        json_text(changeset.groups),
    )


def _changeset_of(row: Sequence[Any]) -> Changeset:
    (id, project, stack_id, stack, status, destroy, location, tool, tool_version, actor,
     created, ended, message, totals, scopes, groups) = row  # fmt: skip
    return Changeset(
        id=id,
        project=project,
        stack_id=stack_id,
        stack=stack,
        status=status,
        destroy=bool(destroy),
        location=location,
        tool=tool,
        tool_version=tool_version,
        actor=actor,
        created=created,
        ended=ended,
        message=message,
        totals=msgspec.json.decode(totals, type=ChangeCounts),
        scopes=scopes_of(scopes),
        groups=names_of(groups),
    )
