"""Change sets in PostgreSQL. ``deployments`` updates them when an event ends one."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.errors import ChangesetNotFound, Conflict, RequestReused
from deploylog.events.access import Visibility
from deploylog.events.scope import Scope
from deploylog.events.store import IdempotencyKey
from deploylog.store.postgres.connection import (
    Connection,
    all_rows,
    change,
    one_row,
    one_value,
)
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.visibility import visible_rows
from deploylog.store.postgres.writer import Writer

#: Change sets deleted in one transaction, so that appends do not wait long.
DELETED_AT_ONCE = 20


class PostgresChangesets:
    """The ``Changesets`` of a PostgreSQL store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: IdempotencyKey, since: int
    ) -> Changeset:
        document = await asyncio.to_thread(zlib.compress, changes)

        def add(connection: Connection) -> Changeset:
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

_BY_ID = f"""
SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c
WHERE lower(c.id) = lower(%s)
"""

_BY_REQUEST = f"""
SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c
WHERE c.request = %s AND c.created >= %s
ORDER BY c.created DESC LIMIT 1
"""

_LISTED = f"""
SELECT {_CHANGESET}
FROM changesets AS c
WHERE {{visible}}
    AND (%(project)s::text IS NULL OR c.project = %(project)s)
    AND (%(stack)s::text IS NULL OR c.stack = %(stack)s)
    AND (%(before)s::text IS NULL OR c.number < (
        SELECT number FROM changesets WHERE lower(id) = lower(%(before)s)
    ))
ORDER BY c.number DESC
LIMIT %(limit)s
"""

_UNFINISHED = f"""
SELECT {_CHANGESET} FROM changesets AS c WHERE c.status = 'staging' ORDER BY c.number
"""


def _earlier(
    connection: Connection, id: str, request: IdempotencyKey, since: int
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
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
RETURNING number
"""


def _insert(
    connection: Connection, changeset: Changeset, document: bytes, request: IdempotencyKey
) -> None:
    row = (*_row_of(changeset), request.key, request.fingerprint)
    number = one_value(connection, _INSERT, row)
    sql = "INSERT INTO changeset_changes (number, document) VALUES (%s, %s)"
    change(connection, sql, (number, document))


_DOCUMENT = """
SELECT d.document FROM changeset_changes AS d
WHERE d.number = (SELECT number FROM changesets WHERE lower(id) = lower(%s))
"""


def _document(connection: Connection, id: str) -> bytes | None:
    row = one_row(connection, _DOCUMENT, (id,))
    return zlib.decompress(row[0]) if row is not None else None


_DELETABLE = """
SELECT number FROM changesets WHERE status <> 'staging' AND created < %s ORDER BY created LIMIT %s
"""


def _delete(connection: Connection, created_before: int) -> int:
    """Delete the next ones; return how many."""
    rows = all_rows(connection, _DELETABLE, (created_before, DELETED_AT_ONCE))
    numbers = [row[0] for row in rows]
    for table in ("changeset_changes", "changesets"):
        change(connection, f"DELETE FROM {table} WHERE number = ANY(%s::bigint[])", (numbers,))
    return len(numbers)


def _row_of(changeset: Changeset) -> tuple[object, ...]:
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
        list(changeset.scopes),
        list(changeset.groups),
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
        destroy=destroy,
        location=location,
        tool=tool,
        tool_version=tool_version,
        actor=actor,
        created=created,
        ended=ended,
        message=message,
        totals=msgspec.json.decode(totals, type=ChangeCounts),
        scopes=tuple(map(Scope, scopes)),
        groups=tuple(groups),
    )
