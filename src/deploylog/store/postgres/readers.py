"""Readers: connections to the server, made when they are needed, and again when they are lost."""

from contextlib import suppress
from typing import Any

import psycopg

from deploylog.store.postgres.connection import Connection, all_rows, connect, store_errors
from deploylog.store.readers import Bindings, Job, ReaderPools


class Readers(ReaderPools[Connection]):
    """The readers of a database."""

    def __init__(self, conninfo: str, *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(_Database(conninfo), query_seconds=query_seconds)


class _Database:
    """How a database is read."""

    # Each attempt takes a connection.
    stop_seconds = 0.1

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def slot(self) -> "_Slot":
        return _Slot(self._conninfo)

    def rows(self, connection: Connection, sql: str, values: Bindings) -> list[tuple[Any, ...]]:
        return all_rows(connection, sql, values)


class _Slot:
    """A place for a connection, which is made when it is needed."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: Connection | None = None

    def run(self, job: Job[Connection]) -> Any:
        was_used = self._connection is not None
        with store_errors():
            connection = self._connected()
            try:
                return _in_transaction(connection, job)
            except psycopg.OperationalError:
                # It may have been lost long ago, and this is the first to notice.
                if not (was_used and connection.closed) or job.is_stopped:
                    raise
            return _in_transaction(self._connected(), job)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._conninfo)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _in_transaction(connection: Connection, job: Job[Connection]) -> Any:
    job.attach(lambda: _cancel(connection))
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return job.read(connection)
    finally:
        # Before the end of the transaction, which must not be cancelled.
        job.detach()
        if not connection.closed:
            connection.execute("ROLLBACK")


def _cancel(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=1.0)
