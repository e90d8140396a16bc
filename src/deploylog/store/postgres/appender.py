"""The appender: one connection that commits, and what became of a commit that was not answered."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from deploylog.errors import StoreUnavailable
from deploylog.store.postgres.connection import (
    LOCKS,
    Connection,
    all_rows,
    connect_appender,
    first_line,
    one_value,
    store_errors,
)

#: Seconds for which a connection that was lost is tried again: a failover takes less.
RECONNECT_SECONDS = 15.0

#: Seconds between two tries.
RETRY_SECONDS = 0.2

#: A position and the checksum of the event that a transaction recorded there.
Proof = tuple[int, int]

_Result = TypeVar("_Result")

_LOGGER = logging.getLogger(__name__)

# The lock goes only when the commit is on disk, at the standby and visible: the order of positions
# is that of commits.
LOCK = f"SELECT pg_advisory_xact_lock({LOCKS}, 1), pg_current_xact_id()::text"

#: Both in one round trip.
_BEGIN = f"BEGIN; {LOCK}"


def _begun(connection: Connection) -> str:
    """Begin a transaction that has the lock; return its number."""
    cursor = connection.execute(_BEGIN)
    cursor.nextset()
    [(_, xid)] = cursor.fetchall()
    return str(xid)


class _LostConnection(Exception):
    """The connection was lost, and the transaction is not committed."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


class Appender:
    """Runs transactions, of which no other process's overlaps; used by one thread."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection = connect_appender(conninfo)
        self._is_down = False

    def run(
        self, work: Callable[[Connection], _Result], *, proof: Callable[[], Proof | None]
    ) -> _Result:
        """Return what ``work`` returns, once it is committed.

        When the connection is lost, it is made again, and the transaction run again unless it is
        found to be committed. ``proof`` is what ``work`` recorded. Raises StoreUnavailable.
        """
        # While the server is known to be down, nobody waits for it.
        end = time.monotonic() + (0 if self._is_down else RECONNECT_SECONDS)
        with store_errors():
            while True:
                try:
                    return self._run(work, proof, end)
                except _LostConnection as lost:
                    _LOGGER.warning("lost the connection to the store: %s", first_line(lost.error))
                    if time.monotonic() > end:
                        raise lost.error from None
                    self._reconnect(end)

    def _run(
        self,
        work: Callable[[Connection], _Result],
        proof: Callable[[], Proof | None],
        end: float,
    ) -> _Result:
        if self._connection.closed:
            self._reconnect(end)
        connection = self._connection
        try:
            xid = _begun(connection)
            result = work(connection)
        except psycopg.Error as error:
            if connection.closed:
                raise _LostConnection(error) from error
            # The driver takes what a failed pipeline left out to be prepared: each transaction from
            # then on would fail. Nothing of the session is relied on after an error.
            connection.close()
            raise
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not connection.closed:
                raise
            if not self._was_committed(xid, proof(), end):
                raise _LostConnection(error) from error
        return result

    def _was_committed(self, xid: str, proof: Proof | None, end: float) -> bool:
        """Whether a transaction of a connection that was lost is committed.

        Raises an error of the driver when the server does not answer in time.
        """
        while True:
            self._reconnect(end)
            try:
                return self._is_committed(xid, proof)
            except psycopg.Error:
                if not self._connection.closed or time.monotonic() > end:
                    raise

    def _is_committed(self, xid: str, proof: Proof | None) -> bool:
        connection = self._connection
        with connection.transaction():
            # Until the transaction has ended, whoever it was has the lock.
            all_rows(connection, LOCK)
            try:
                with connection.transaction():
                    sql = "SELECT pg_xact_status(%s::xid8) = 'committed'"
                    is_committed = bool(one_value(connection, sql, (xid,)))
            except psycopg.errors.InvalidParameterValue:
                # In the future: the server has not seen it, for another one was promoted.
                is_committed = False
            if is_committed and proof is not None:
                # Another server may have given the same number to another transaction.
                sql = "SELECT 1 FROM events WHERE position = %s AND checksum = %s"
                is_committed = bool(all_rows(connection, sql, proof))
        return is_committed

    def _reconnect(self, end: float) -> None:
        while True:
            self._connection.close()
            try:
                self._connection = connect_appender(self._conninfo)
            except StoreUnavailable as error:
                if time.monotonic() > end:
                    self._is_down = True
                    cause = error.__cause__
                    raise cause if isinstance(cause, psycopg.Error) else error from None
                time.sleep(RETRY_SECONDS)
            else:
                self._is_down = False
                return

    def close(self) -> None:
        self._connection.close()
