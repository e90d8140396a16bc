"""Readers: pools of connections; one thread at a time uses each connection."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from deploylog.errors import QueryTooExpensive, StoreUnavailable, TooMany
from deploylog.events.fair_semaphore import FairSemaphore
from deploylog.events.store import Purpose
from deploylog.store.sqlite.connection import SqlValue, connect, store_errors

#: Connections of each pool. Credentials, appends and the live tail must never wait for a query.
LOOKUP_READERS = 2
QUERY_READERS = 4
BACKGROUND_READERS = 2

#: KiB of the file that each connection caches. The operating system caches the rest.
CACHE_KIB = 32 * 1024

#: Seconds between interrupts of a read: an interrupt between two statements has no effect.
_INTERRUPT_SECONDS = 0.02

_Result = TypeVar("_Result")

Bindings = Sequence[SqlValue] | Mapping[str, SqlValue]


class _Job:
    """A read that another thread may interrupt."""

    def __init__(self, read: Callable[[apsw.Connection], Any]) -> None:
        self.read = read
        self._connection: apsw.Connection | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def attach(self, connection: apsw.Connection) -> None:
        """Read with ``connection`` from now on. Raises StoreUnavailable after ``stop``."""
        with self._lock:
            if self._stopped:
                raise StoreUnavailable("the read was stopped")
            self._connection = connection

    def detach(self) -> None:
        """Give up the connection, which another job uses next."""
        with self._lock:
            self._connection = None

    def stop(self) -> None:
        """Interrupt the running statement, and attach no connection."""
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()


class Pool:
    """Runs reads in threads, each in its own transaction, so that it sees one state."""

    def __init__(self, path: Path, *, size: int, share: int, seconds: float | None) -> None:
        """Open ``size`` connections, of which a caller may use ``share`` at a time.

        A read may wait ``seconds`` for a connection, and then run as long; ``None`` is no limit.
        """
        self._connections = [_connect(path) for _ in range(size)]
        self._free: SimpleQueue[apsw.Connection] = SimpleQueue()
        for connection in self._connections:
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="deploylog-read")
        self._turns = FairSemaphore(size, share=share)
        self._seconds = seconds
        self._jobs: set[_Job] = set()

    async def run(self, read: Callable[[apsw.Connection], _Result], *, caller: str = "") -> _Result:
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
        return await self.run(
            lambda connection: connection.execute(sql, values).fetchall(), caller=caller
        )

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
        connection = self._free.get()
        try:
            with store_errors():
                return _in_transaction(connection, job)
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Stop the running reads, then close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._free.qsize() < len(self._connections):
            for job in self._jobs:
                job.stop()
            time.sleep(0.001)
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()


class Readers(Pool):
    """The pools: one for lookups that others wait for, and others for reads that may take long."""

    def __init__(self, path: Path, *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(path, size=LOOKUP_READERS, share=LOOKUP_READERS, seconds=None)
        self.queries = Pool(
            path, size=QUERY_READERS, share=QUERY_READERS // 2, seconds=query_seconds
        )
        self.background = Pool(path, size=BACKGROUND_READERS, share=1, seconds=None)

    def of(self, purpose: Purpose) -> Pool:
        """The pool for reads of this purpose."""
        return {"lookup": self, "query": self.queries, "background": self.background}[purpose]

    def close(self) -> None:
        self.queries.close()
        self.background.close()
        super().close()


def _connect(path: Path) -> apsw.Connection:
    connection = connect(path)
    with store_errors():
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _in_transaction(connection: apsw.Connection, job: _Job) -> Any:
    job.attach(connection)
    try:
        connection.execute("BEGIN")
        return job.read(connection)
    finally:
        # Before the end of the transaction, which must not be interrupted.
        job.detach()
        if connection.in_transaction:
            connection.execute("COMMIT")


def _stop(job: _Job, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Interrupt the read, again and again until it ends."""
    if not future.done():
        job.stop()
        with suppress(RuntimeError):
            loop.call_later(_INTERRUPT_SECONDS, _stop, job, future, loop)
