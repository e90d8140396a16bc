"""Cleanups, in every backend."""

from typing import Any, Generic

import msgspec

from deploylog.errors import CleanupNotFound
from deploylog.events.retention import Cleanup
from deploylog.store.database import Database
from deploylog.store.readers import ConnectionT

#: How many cleanups of each kind are retained.
MAX_PER_KIND = 50

_SELECT = """
SELECT id, kind, status, started, ended, threshold, forgotten, error, held_until FROM cleanups
"""

#: With ``{id}``.
_PUT = """
INSERT INTO cleanups (id, kind, status, started, ended, threshold, forgotten, error, held_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT ({id}) DO UPDATE SET
    kind = excluded.kind, status = excluded.status, started = excluded.started,
    ended = excluded.ended, threshold = excluded.threshold, forgotten = excluded.forgotten,
    error = excluded.error, held_until = excluded.held_until
"""

_TRIM = """
DELETE FROM cleanups WHERE kind = :kind AND number NOT IN (
    SELECT number FROM cleanups WHERE kind = :kind ORDER BY number DESC LIMIT :most
)
"""


class SqlCleanups(Generic[ConnectionT]):
    """The ``Cleanups`` of a backend."""

    def __init__(self, database: Database[ConnectionT]) -> None:
        self._writer = database.writer
        self._readers = database.readers
        self._dialect = database.dialect

    async def put(self, cleanup: Cleanup) -> None:

        def put(connection: ConnectionT) -> None:
            self._dialect.change(connection, put_one, msgspec.structs.astuple(cleanup))
            self._dialect.change(connection, _TRIM, {"kind": cleanup.kind, "most": MAX_PER_KIND})

        put_one = _PUT.format(id=self._dialect.folded("id"))
        await self._writer.call(put)

    async def get(self, kind: str, id: str) -> Cleanup:
        fold = self._dialect.folded
        sql = self._dialect.sql(f"{_SELECT} WHERE kind = ? AND {fold('id')} = {fold('?')}")
        for row in await self._readers.rows(sql, (kind, id)):
            return _cleanup_of(row)
        raise CleanupNotFound(f"there is no cleanup {id!r} of {kind}")

    async def running(self) -> list[Cleanup]:
        rows = await self._readers.rows(f"{_SELECT} WHERE ended IS NULL ORDER BY number")
        return [_cleanup_of(row) for row in rows]


def _cleanup_of(row: tuple[Any, ...]) -> Cleanup:
    id, kind, status, started, ended, threshold, forgotten, error, held_until = row
    return Cleanup(
        id=id,
        kind=kind,
        status=status,
        started=started,
        ended=ended,
        threshold=threshold,
        deleted=forgotten,
        error=error,
        held_until=held_until,
    )
