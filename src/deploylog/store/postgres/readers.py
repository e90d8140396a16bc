"""Readers: pools of connections; one thread at a time uses each connection."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg

from deploylog.errors import QueryTooExpensive, StoreUnavailable, TooMany
from deploylog.events.fair_semaphore import FairSemaphore
from deploylog.events.store import Purpose
from deploylog.store.postgres.connection import Connection, all_rows, connect, store_errors

#: Connections of each pool. Credentials, appends and the live tail must never wait for a query.
LOOKUP_READERS = 2
QUERY_READERS = 4
BACKGROUND_READERS = 2

#: Seconds between two cancellations of a read: one between two statements has no effect.
_CANCEL_SECONDS = 0.1

_Result = TypeVar("_Result")

Bindings = Sequence[object] | dict[str, object]


class _Job:
    """A read that another thread may stop."""

    def __init__(self, read: Callable[[Connection], Any]) -> None:
        self.read = read
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self.is_stopped = False

    def attach(self, connection: Connection) -> None:
        """Read with ``connection`` from now on. Raises StoreUnavailable after ``stop``."""
        with self._lock:
            if self.is_stopped:
                raise StoreUnavailable("the read was stopped")
            self._connection = connection

    def detach(self) -> None:
        """Give up the connection, which another job uses next."""
        with self._lock:
            self._connection = None

    def stop(self) -> None:
        """Cancel the running statement, and attach no connection."""
        with self._lock:
            self.is_stopped = True
            if self._connection is not None:
                with suppress(psycopg.Error):
                    self._connection.cancel_safe(timeout=1.0)


class _Slot:
    """A place for a connection, which is made when it is needed."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: Connection | None = None

    @property
    def is_used(self) -> bool:
        """Whether there was a connection, which may be lost by now."""
        return self._connection is not None

    def connection(self) -> Connection:
        """The connection. Raises StoreUnavailable."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._conninfo)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Pool:
    """Runs reads in threads, each in its own transaction, so that it sees one state."""

    def __init__(self, conninfo: str, *, size: int, share: int, seconds: float | None) -> None:
        """Open up to ``size`` connections, of which a caller may use ``share`` at a time.

        A read may wait ``seconds`` for a connection, and then run as long; ``None`` is no limit.
        """
        self._slots = [_Slot(conninfo) for _ in range(size)]
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="deploylog-read")
        self._turns = FairSemaphore(size, share=share)
        self._seconds = seconds
        self._jobs: set[_Job] = set()

    async def run(self, read: Callable[[Connection], _Result], *, caller: str = "") -> _Result:
        """Return what ``read`` returns.

        Raises QueryTooExpensive when it takes too long, TooMany or StoreUnavailable when no
        connection is free in time, StoreUnavailable for the driver's errors.
        """
        await self._acquire(caller)
        job = _Job(read)
        self._jobs.add(job)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._read, job)
        future.add_done_callback(lambda done: self._done(job, done, caller))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.wait([future])
        except TimeoutError as error:
            raise QueryTooExpensive from error
        finally:
            if not future.done():
                _stop(job, future, loop)
        result: _Result = future.result()
        return result

    async def rows(
        self, sql: str, values: Bindings = (), *, caller: str = ""
    ) -> list[tuple[Any, ...]]:
        """All rows of one select."""
        return await self.run(lambda connection: all_rows(connection, sql, values), caller=caller)

    async def _acquire(self, caller: str) -> None:
        # Checked before the wait, too: its queries may end in the moment that this one gives up.
        was_full = self._turns.is_full(caller)
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire(caller)
        except TimeoutError as error:
            if was_full or self._turns.is_full(caller):
                raise TooMany("too many of your queries are running; try again later") from error
            raise StoreUnavailable("too many queries are running; try again later") from error

    def _done(self, job: _Job, future: asyncio.Future[Any], caller: str) -> None:
        self._jobs.discard(job)
        self._turns.release(caller)
        # Mark the exception as retrieved: no task may be waiting for it.
        if not future.cancelled():
            future.exception()

    def _read(self, job: _Job) -> Any:
        slot = self._free.get()
        was_used = slot.is_used
        try:
            with store_errors():
                connection = slot.connection()
                try:
                    return _in_transaction(connection, job)
                except psycopg.OperationalError:
                    # It may have been lost long ago, and this is the first to notice.
                    if not (was_used and connection.closed) or job.is_stopped:
                        raise
                return _in_transaction(slot.connection(), job)
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Stop the running reads, then close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._free.qsize() < len(self._slots):
            for job in self._jobs:
                job.stop()
            time.sleep(0.001)
        self._threads.shutdown()
        for slot in self._slots:
            slot.close()


class Readers(Pool):
    """The pools: one for lookups that others wait for, and others for reads that may take long."""

    def __init__(self, conninfo: str, *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(conninfo, size=LOOKUP_READERS, share=LOOKUP_READERS, seconds=None)
        self.queries = Pool(
            conninfo, size=QUERY_READERS, share=QUERY_READERS // 2, seconds=query_seconds
        )
        self.background = Pool(conninfo, size=BACKGROUND_READERS, share=1, seconds=None)

    def of(self, purpose: Purpose) -> Pool:
        """The pool for reads of this purpose."""
        return {"lookup": self, "query": self.queries, "background": self.background}[purpose]

    def close(self) -> None:
        self.queries.close()
        self.background.close()
        super().close()


def _in_transaction(connection: Connection, job: _Job) -> Any:
    job.attach(connection)
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return job.read(connection)
    finally:
        # Before the end of the transaction, which must not be cancelled.
        job.detach()
        if not connection.closed:
            connection.execute("ROLLBACK")


def _stop(job: _Job, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the read, again and again until it ends."""
    if not future.done():
        with suppress(RuntimeError):
            loop.run_in_executor(None, job.stop)
            loop.call_later(_CANCEL_SECONDS, _stop, job, future, loop)
