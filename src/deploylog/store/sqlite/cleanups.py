"""Cleanups in SQLite."""

from typing import Any

import apsw
import msgspec

from deploylog.errors import CleanupNotFound
from deploylog.events.retention import Cleanup
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.writer import Writer

#: How many cleanups of each kind are retained.
MAX_PER_KIND = 50

_SELECT = """
SELECT id, kind, status, started, ended, threshold, forgotten, error, held_until FROM cleanups
"""

_PUT = """
INSERT INTO cleanups (id, kind, status, started, ended, threshold, forgotten, error, held_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    kind = excluded.kind, status = excluded.status, started = excluded.started,
    ended = excluded.ended, threshold = excluded.threshold, forgotten = excluded.forgotten,
    error = excluded.error, held_until = excluded.held_until
"""

_TRIM = """
DELETE FROM cleanups WHERE kind = ?1 AND number NOT IN (
    SELECT number FROM cleanups WHERE kind = ?1 ORDER BY number DESC LIMIT ?2
)
"""


class SqliteCleanups:
    """The ``Cleanups`` of a SQLite store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, cleanup: Cleanup) -> None:

        def put(connection: apsw.Connection) -> None:
            connection.execute(_PUT, msgspec.structs.astuple(cleanup))
            connection.execute(_TRIM, (cleanup.kind, MAX_PER_KIND))

        await self._writer.call(put)

    async def get(self, kind: str, id: str) -> Cleanup:
        for row in await self._readers.rows(f"{_SELECT} WHERE kind = ? AND id = ?", (kind, id)):
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
