"""Cleanups in PostgreSQL."""

from typing import Any

import msgspec

from deploylog.errors import CleanupNotFound
from deploylog.events.retention import Cleanup
from deploylog.store.postgres.connection import Connection, change
from deploylog.store.postgres.readers import Readers
from deploylog.store.postgres.writer import Writer

#: How many cleanups of each kind are retained.
MAX_PER_KIND = 50

_SELECT = """
SELECT id, kind, status, started, ended, threshold, forgotten, error, held_until FROM cleanups
"""

_PUT = """
INSERT INTO cleanups (id, kind, status, started, ended, threshold, forgotten, error, held_until)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (lower(id)) DO UPDATE SET
    kind = excluded.kind, status = excluded.status, started = excluded.started,
    ended = excluded.ended, threshold = excluded.threshold, forgotten = excluded.forgotten,
    error = excluded.error, held_until = excluded.held_until
"""

_TRIM = """
DELETE FROM cleanups WHERE kind = %s AND number NOT IN (
    SELECT number FROM cleanups WHERE kind = %s ORDER BY number DESC LIMIT %s
)
"""


class PostgresCleanups:
    """The ``Cleanups`` of a PostgreSQL store."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, cleanup: Cleanup) -> None:

        def put(connection: Connection) -> None:
            change(connection, _PUT, msgspec.structs.astuple(cleanup))
            change(connection, _TRIM, (cleanup.kind, cleanup.kind, MAX_PER_KIND))

        await self._writer.call(put)

    async def get(self, kind: str, id: str) -> Cleanup:
        for row in await self._readers.rows(
            f"{_SELECT} WHERE kind = %s AND lower(id) = lower(%s)", (kind, id)
        ):
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
