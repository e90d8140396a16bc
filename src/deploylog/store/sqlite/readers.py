"""Readers: connections to the file that read, while the writer commits."""

from pathlib import Path
from typing import Any

import apsw

from deploylog.store.readers import Bindings, Job, ReaderPools
from deploylog.store.sqlite.connection import connect, store_errors

#: KiB of the file that each connection caches. The operating system caches the rest.
CACHE_KIB = 32 * 1024


class Readers(ReaderPools[apsw.Connection]):
    """The readers of a file."""

    def __init__(self, path: Path, *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(_File(path), query_seconds=query_seconds)


class _File:
    """How a file is read."""

    stop_seconds = 0.02

    def __init__(self, path: Path) -> None:
        self._path = path

    def slot(self) -> "_Slot":
        connection = connect(self._path)
        with store_errors():
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return _Slot(connection)

    def rows(
        self, connection: apsw.Connection, sql: str, values: Bindings
    ) -> list[tuple[Any, ...]]:
        return connection.execute(sql, values).fetchall()


class _Slot:
    """An open connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def run(self, job: Job[apsw.Connection]) -> Any:
        with store_errors():
            job.attach(self._connection.interrupt)
            try:
                self._connection.execute("BEGIN")
                return job.read(self._connection)
            finally:
                # Before the end of the transaction, which must not be interrupted.
                job.detach()
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
