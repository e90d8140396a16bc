"""Change sets, in every backend. The catalog updates them when an event ends one."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any, Generic

import msgspec

from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.errors import ChangesetNotFound, Conflict, RequestReused
from deploylog.events.access import Visibility
from deploylog.events.store import IdempotencyKey
from deploylog.events.times import LATEST
from deploylog.store.database import Database
from deploylog.store.readers import ConnectionT

#: Change sets deleted in one transaction, so that appends do not wait long.
DELETED_AT_ONCE = 20

_CHANGESET = (
    "c.id, c.project, c.stack_id, c.stack, c.status, c.destroy, c.location, c.tool,"
    " c.tool_version, c.actor, c.created, c.ended, c.message, c.totals, c.scopes,"
    ' c."groups"'
)

#: With ``{same}``, as are those below that look for an id.
_BY_ID = f"SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c WHERE {{same}}"

_BY_REQUEST = f"""
SELECT {_CHANGESET}, c.request, c.fingerprint FROM changesets AS c
WHERE c.request = ? AND c.created >= ?
ORDER BY c.created DESC LIMIT 1
"""

#: With ``{visible}`` and ``{same}``.
_LISTED = f"""
SELECT {_CHANGESET}
FROM changesets AS c
WHERE {{visible}}
    AND (CAST(:project AS text) IS NULL OR c.project = :project)
    AND (CAST(:stack AS text) IS NULL OR c.stack = :stack)
    AND c.number < CASE WHEN CAST(:before AS text) IS NULL THEN {LATEST}
        ELSE (SELECT number FROM changesets WHERE {{same}}) END
ORDER BY c.number DESC
LIMIT :limit
"""

_UNFINISHED = f"""
SELECT {_CHANGESET} FROM changesets AS c WHERE c.status = 'staging' ORDER BY c.number
"""

_INSERT = """
INSERT INTO changesets (
    id, project, stack_id, stack, status, destroy, location, tool,
    tool_version, actor, created, ended, message, totals, scopes, "groups",
    request, fingerprint
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING number
"""

_INSERT_DOCUMENT = "INSERT INTO changeset_changes (number, document) VALUES (?, ?)"

_DOCUMENT = """
SELECT d.document FROM changeset_changes AS d
WHERE d.number = (SELECT number FROM changesets WHERE {same})
"""

_DELETABLE = """
SELECT number FROM changesets WHERE status <> 'staging' AND created < ? ORDER BY created LIMIT ?
"""


class SqlChangesets(Generic[ConnectionT]):
    """The ``Changesets`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect
        fold = database.dialect.folded
        self._by_id = _BY_ID.format(same=f"{fold('c.id')} = {fold('?')}")
        self._document = _DOCUMENT.format(same=f"{fold('id')} = {fold('?')}")

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: IdempotencyKey, since: int
    ) -> Changeset:
        document = await asyncio.to_thread(zlib.compress, changes)

        def add(connection: ConnectionT) -> Changeset:
            earlier = self._earlier(connection, changeset.id, request, since)
            if earlier is None:
                self._insert(connection, changeset, document, request)
            return earlier or changeset

        return await self._writer.call(add)

    async def get(self, id: str) -> Changeset:
        for row in await self._readers.rows(self._dialect.sql(self._by_id), (id,)):
            return self._changeset_of(row[:-2])
        raise ChangesetNotFound(f"there is no change set {id!r}")

    async def changes(self, id: str) -> bytes:
        document = await self._readers.background.run(
            lambda connection: self._changes_of(connection, id)
        )
        if document is None:
            raise ChangesetNotFound(f"there is no change set {id!r}")
        return document

    async def unfinished(self) -> list[Changeset]:
        rows = await self._readers.background.rows(_UNFINISHED)
        return [self._changeset_of(row) for row in rows]

    async def delete_before(self, created: int) -> int:
        deleted = 0
        while portion := await self._writer.call(
            lambda connection: self._delete(connection, created)
        ):
            deleted += portion
        return deleted

    # In the writer's transaction

    def _earlier(
        self, connection: ConnectionT, id: str, request: IdempotencyKey, since: int
    ) -> Changeset | None:
        """The change set that ``request`` has added. Raises RequestReused or Conflict."""
        for row in self._dialect.rows(connection, _BY_REQUEST, (request.key, since)):
            if row[-1] != request.fingerprint:
                raise RequestReused
            return self._changeset_of(row[:-2])
        for row in self._dialect.rows(connection, self._by_id, (id,)):
            if row[-2:] != (request.key, request.fingerprint):
                raise Conflict(f"there is a change set {id!r} already")
            return self._changeset_of(row[:-2])
        return None

    def _insert(
        self,
        connection: ConnectionT,
        changeset: Changeset,
        document: bytes,
        request: IdempotencyKey,
    ) -> None:
        row = (*self._row_of(changeset), request.key, request.fingerprint)
        [(number,)] = self._dialect.rows(connection, _INSERT, row)
        self._dialect.change(connection, _INSERT_DOCUMENT, (number, document))

    def _delete(self, connection: ConnectionT, created_before: int) -> int:
        """Delete the next ones; return how many."""
        dialect = self._dialect
        rows = dialect.rows(connection, _DELETABLE, (created_before, DELETED_AT_ONCE))
        numbers = dialect.array(row[0] for row in rows)
        for table in ("changeset_changes", "changesets"):
            sql = f"DELETE FROM {table} WHERE number {dialect.among}"
            dialect.change(connection, sql, (numbers,))
        return len(rows)

    def _changes_of(self, connection: ConnectionT, id: str) -> bytes | None:
        for (document,) in self._dialect.rows(connection, self._document, (id,)):
            return zlib.decompress(document)
        return None

    # Rows

    def _row_of(self, changeset: Changeset) -> tuple[Any, ...]:
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
            self._dialect.array(changeset.scopes),
            self._dialect.array(changeset.groups),
        )

    def _changeset_of(self, row: Sequence[Any]) -> Changeset:
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
            scopes=self._dialect.scopes(scopes),
            groups=self._dialect.names(groups),
        )

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
        visible, values = self._dialect.visible(visibility)
        wanted = {"project": project, "stack": stack, "before": before, "limit": limit}
        fold = self._dialect.folded
        sql = _LISTED.format(visible=visible, same=f"{fold('id')} = {fold(':before')}")
        rows = await self._readers.queries.rows(
            self._dialect.sql(sql), {**values, **wanted}, caller=caller
        )
        return [self._changeset_of(row) for row in rows]
