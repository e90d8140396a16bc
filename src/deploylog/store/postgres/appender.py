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
    one_value,
    store_errors,
)

#: Seconds for which a connection that was lost is tried again: a failover takes less.
RECONNECT_SECONDS = 15.0

#: Seconds between two tries.
_RETRY_SECONDS = 0.2

#: A position and the checksum of the event that a transaction recorded there.
Proof = tuple[int, int]

_Result = TypeVar("_Result")

_LOGGER = logging.getLogger(__name__)

# The lock goes only when the commit is on disk, at the standby and visible: the order of positions
# is that of commits.
_LOCK = f"SELECT pg_advisory_xact_lock({LOCKS}, 1), pg_current_xact_id()::text"


class Appender:
    """Runs transactions, of which no other process's overlaps; used by one thread."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection = connect_appender(conninfo)

    def run(
        self, work: Callable[[Connection], _Result], *, proof: Callable[[], Proof | None]
    ) -> _Result:
        """Return what ``work`` returns, once it is committed.

        When the connection is lost, it is made again, and the transaction run again unless it is
        found to be committed. ``proof`` is what ``work`` recorded. Raises StoreUnavailable.
        """
        with store_errors():
            try:
                return self._run(work, proof)
            except psycopg.Error as error:
                if not self._connection.closed:
                    raise
                _LOGGER.warning("lost the connection to the store: %s", error)
            self._reconnect()
            return self._run(work, proof)

    def _run(
        self, work: Callable[[Connection], _Result], proof: Callable[[], Proof | None]
    ) -> _Result:
        connection = self._connection
        if connection.closed:
            raise psycopg.OperationalError("the connection is closed")
        try:
            connection.execute("BEGIN")
            xid = all_rows(connection, _LOCK)[0][1]
            result = work(connection)
        except BaseException:
            self._roll_back()
            raise
        try:
            connection.execute("COMMIT")
        except psycopg.Error:
            if not connection.closed or not self._is_committed(xid, proof()):
                raise
        return result

    def _roll_back(self) -> None:
        if not self._connection.closed:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self._connection.close()

    def _is_committed(self, xid: str, proof: Proof | None) -> bool:
        """Whether a transaction of a connection that is lost was committed."""
        self._reconnect()
        connection = self._connection
        with connection.transaction():
            # Until the transaction has ended, whoever it was has the lock.
            all_rows(connection, _LOCK)
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
        _LOGGER.warning(
            "a commit was not answered: it was %s",
            "recorded" if is_committed else "not recorded, and is tried again",
        )
        return is_committed

    def _reconnect(self) -> None:
        end = time.monotonic() + RECONNECT_SECONDS
        while True:
            self._connection.close()
            try:
                self._connection = connect_appender(self._conninfo)
            except StoreUnavailable as error:
                if time.monotonic() > end:
                    cause = error.__cause__
                    raise cause if isinstance(cause, psycopg.Error) else error from None
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def close(self) -> None:
        self._connection.close()
