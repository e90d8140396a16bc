"""Readers: pools of connections; one thread at a time uses each connection."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from deploylog.errors import QueryTooExpensive, StoreUnavailable, TooMany
from deploylog.events.fair_semaphore import FairSemaphore
from deploylog.events.store import Purpose

#: Connections of each pool. Credentials, appends and the live tail must never wait for a query.
LOOKUP_READERS = 2
QUERY_READERS = 4
BACKGROUND_READERS = 2

ConnectionT = TypeVar("ConnectionT")

_Connection = TypeVar("_Connection")

_Result = TypeVar("_Result")

Bindings = Sequence[Any] | dict[str, Any]


class Job(Generic[ConnectionT]):
    """A read that another thread may stop."""

    def __init__(self, read: Callable[[ConnectionT], Any]) -> None:
        self.read = read
        self._interrupt: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self.is_stopped = False

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Read with a connection, whose statement ``interrupt`` ends, from any thread.

        Raises StoreUnavailable after ``stop``.
        """
        with self._lock:
            if self.is_stopped:
                raise StoreUnavailable("the read was stopped")
            self._interrupt = interrupt

    def detach(self) -> None:
        """Give up the connection, which another job uses next."""
        with self._lock:
            self._interrupt = None

    @property
    def is_reading(self) -> bool:
        """Whether it has a connection."""
        return self._interrupt is not None

    def stop(self) -> None:
        """End the running statement, and attach no connection."""
        with self._lock:
            self.is_stopped = True
            if self._interrupt is not None:
                self._interrupt()


class Slot(Protocol[_Connection]):
    """A place for one connection."""

    def run(self, job: Job[_Connection]) -> Any:
        """Read in a transaction, so that the job sees one state. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Close the connection, if there is one."""
        ...


class Source(Protocol[_Connection]):
    """How a backend reads."""

    @property
    def stop_seconds(self) -> float:
        """Seconds between two attempts to stop a read: one between two statements has no effect."""
        ...

    def slot(self) -> Slot[_Connection]:
        """A new place for a connection. Raises StoreUnavailable."""
        ...

    def rows(self, connection: _Connection, sql: str, values: Bindings) -> list[tuple[Any, ...]]:
        """All rows of one select."""
        ...


class Pool(Generic[ConnectionT]):
    """Runs reads in threads, each in its own transaction, so that it sees one state."""

    def __init__(
        self, source: Source[ConnectionT], *, size: int, share: int, seconds: float | None
    ) -> None:
        """Use up to ``size`` connections, of which a caller may use ``share`` at a time.

        A read may wait ``seconds`` for a connection, and then run as long; ``None`` is no limit.
        """
        self._source = source
        self._slots = [source.slot() for _ in range(size)]
        self._free: SimpleQueue[Slot[ConnectionT]] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="deploylog-read")
        #: To stop a read may take a connection: it must not hold up the event loop.
        self._stoppers = ThreadPoolExecutor(size, thread_name_prefix="deploylog-stop")
        self._turns = FairSemaphore(size, share=share)
        self._seconds = seconds
        self._jobs: set[Job[ConnectionT]] = set()

    async def run(self, read: Callable[[ConnectionT], _Result], *, caller: str = "") -> _Result:
        """Return what ``read`` returns.

        Raises QueryTooExpensive when it takes too long, TooMany or StoreUnavailable when no
        connection is free in time, StoreUnavailable for the driver's errors.
        """
        await self._acquire(caller)
        job = Job(read)
        self._jobs.add(job)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._read, job)
        future.add_done_callback(lambda done: self._done(job, done, caller))
        try:
            await self._finish(job, future)
        finally:
            self._stop(job, future, loop)
        result: _Result = future.result()
        return result

    async def _finish(self, job: Job[ConnectionT], future: asyncio.Future[Any]) -> None:
        """Wait for a read. While it waits for the store, its time does not begin."""
        while not future.done():
            await asyncio.wait([future], timeout=self._seconds)
            if not future.done() and job.is_reading:
                raise QueryTooExpensive

    async def rows(
        self, sql: str, values: Bindings = (), *, caller: str = ""
    ) -> list[tuple[Any, ...]]:
        """All rows of one select."""
        return await self.run(
            lambda connection: self._source.rows(connection, sql, values), caller=caller
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

    def _stop(
        self, job: Job[ConnectionT], future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Stop the read unless it is done, again and again until it is."""
        if not future.done():
            with suppress(RuntimeError):
                self._stoppers.submit(job.stop)
                loop.call_later(self._source.stop_seconds, self._stop, job, future, loop)

    def _done(self, job: Job[ConnectionT], future: asyncio.Future[Any], caller: str) -> None:
        self._jobs.discard(job)
        self._turns.release(caller)
        # Mark the exception as retrieved: no task may be waiting for it.
        if not future.cancelled():
            future.exception()

    def _read(self, job: Job[ConnectionT]) -> Any:
        slot = self._free.get()
        try:
            return slot.run(job)
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
        self._stoppers.shutdown(cancel_futures=True)
        for slot in self._slots:
            slot.close()


class ReaderPools(Pool[ConnectionT]):
    """The pools: one for lookups that others wait for, and others for reads that may take long."""

    def __init__(self, source: Source[ConnectionT], *, query_seconds: float) -> None:
        """A query may wait ``query_seconds`` for a connection, and then run as long."""
        super().__init__(source, size=LOOKUP_READERS, share=LOOKUP_READERS, seconds=None)
        self.queries = Pool(
            source, size=QUERY_READERS, share=QUERY_READERS // 2, seconds=query_seconds
        )
        self.background = Pool(source, size=BACKGROUND_READERS, share=1, seconds=None)

    def of(self, purpose: Purpose) -> Pool[ConnectionT]:
        """The pool for reads of this purpose."""
        return {"lookup": self, "query": self.queries, "background": self.background}[purpose]

    def close(self) -> None:
        self.queries.close()
        self.background.close()
        super().close()
