"""Readers: connections to the server, made when they are needed, and again when they are lost."""

import time
from contextlib import suppress
from typing import Any

import psycopg

from deploylog.errors import StoreUnavailable
from deploylog.store.postgres.appender import RECONNECT_SECONDS, RETRY_SECONDS
from deploylog.store.postgres.connection import Connection, all_rows, connect, store_errors
from deploylog.store.readers import Bindings, Job, ReaderPools


class Readers(ReaderPools[Connection]):
    """The readers of a database."""

    def __init__(self, conninfo: str, *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(_Database(conninfo), query_seconds=query_seconds)


class _Outage:
    """How long reads wait for the server: not at all while it is known to be down."""

    def __init__(self) -> None:
        self._is_known = False

    def deadline(self) -> float:
        return time.monotonic() + (0 if self._is_known else RECONNECT_SECONDS)

    def lasts(self) -> None:
        self._is_known = True

    def is_over(self) -> None:
        self._is_known = False


class _Database:
    """How a database is read."""

    # Each attempt takes a connection.
    stop_seconds = 0.1

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._outage = _Outage()

    def slot(self) -> "_Slot":
        return _Slot(self._conninfo, self._outage)

    def rows(self, connection: Connection, sql: str, values: Bindings) -> list[tuple[Any, ...]]:
        return all_rows(connection, sql, values)


class _Slot:
    """A place for a connection, which is made when it is needed."""

    def __init__(self, conninfo: str, outage: _Outage) -> None:
        self._conninfo = conninfo
        self._outage = outage
        self._connection: Connection | None = None

    def run(self, job: Job[Connection]) -> Any:
        """Read; when the connection is lost, wait for the server, and read again."""
        deadline = self._outage.deadline()
        # A connection may have been lost long ago, and this is the first to notice.
        is_new = self._connection is None
        with store_errors():
            while True:
                connection = self._connected(job, deadline)
                try:
                    return _in_transaction(connection, job)
                except psycopg.OperationalError:
                    is_over = is_new and time.monotonic() > deadline
                    if is_over or job.is_stopped or not connection.closed:
                        raise
                is_new = True

    def _connected(self, job: Job[Connection], deadline: float) -> Connection:
        while self._connection is None or self._connection.closed:
            try:
                self._connection = connect(self._conninfo)
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    self._outage.lasts()
                    raise
                if job.is_stopped:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                self._outage.is_over()
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
