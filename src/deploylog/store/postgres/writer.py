"""The writer: one thread that commits for all callers.

Each commit costs one flush, and the word of a standby. Jobs that arrive during a commit share the
next one.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec

from deploylog.errors import DeploylogError, Stopping, StoreUnavailable
from deploylog.store.admission import Append, Entry, Outcome
from deploylog.store.health import Health
from deploylog.store.postgres.append import Recorder
from deploylog.store.postgres.appender import Appender
from deploylog.store.postgres.connection import Connection, change
from deploylog.store.postgres.health import is_trouble
from deploylog.store.prepared_event import PreparedEvent

#: How many events one transaction records, so that no caller waits long behind a flood.
MAX_EVENTS = 5_000

#: Events of an append for which the thread is woken at once.
LARGE = 32

_Result = TypeVar("_Result")

Call = Callable[[Connection], Any]


class _Job(msgspec.Struct, frozen=True, eq=False):
    """Work of the writer, and the future that gets its outcome."""

    work: Append[PreparedEvent] | Call
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    @property
    def size(self) -> int:
        return len(self.work.candidates) if isinstance(self.work, Append) else 1


class Writer:
    """Owns the appender, and its thread."""

    def __init__(
        self,
        appender: Appender,
        recorder: Recorder,
        *,
        name: str,
        committed: Callable[[float, int, int], None],
        clock: Callable[[], float],
    ) -> None:
        """``name`` is the store's in log lines; ``committed`` gets the seconds, events and head of
        each commit. ``clock`` is monotonic.
        """
        self._appender = appender
        self._recorder = recorder
        self._health = Health(name, clock=clock)
        self._committed = committed
        self._clock = clock
        self._jobs: SimpleQueue[list[_Job] | None] = SimpleQueue()
        #: Jobs submitted in the current iteration of each loop.
        self._submitted: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        #: Jobs that the thread has received and not committed.
        self._ready: deque[_Job] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deploylog-write")
        self._thread.start()

    async def append(self, append: Append[PreparedEvent]) -> list[Entry]:
        """Record the events; return their entries once they are on disk."""
        entries: list[Entry] = await self._submit(append)
        return entries

    async def call(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run ``work`` in a transaction; return its result once it is on disk."""
        result: _Result = await self._submit(work)
        return result

    async def ready(self) -> None:
        """Raise StoreUnavailable unless a commit reaches the disk, now or seconds ago."""
        if not self._health.is_proven:
            await self.call(_write_a_row)
        if trouble := self._health.trouble:
            raise StoreUnavailable(trouble)

    async def _submit(self, work: Append[PreparedEvent] | Call) -> Any:
        if self._closed:
            raise Stopping
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), loop)
        submitted = self._submitted.get(loop)
        if submitted is None:
            submitted = self._submitted[loop] = []
            loop.call_soon(self._hand_over, loop)
        submitted.append(job)
        if job.size >= LARGE:
            self._hand_over(loop)
        return await job.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass the jobs of one iteration of the loop to the thread.

        Passed one by one, the first would be committed alone, and each would wake the thread.
        """
        submitted = self._submitted.pop(loop, None)
        if submitted is not None:
            self._jobs.put(submitted)

    def close(self) -> None:
        """Finish the submitted jobs, then stop the thread."""
        self._closed = True
        for loop in tuple(self._submitted):
            self._hand_over(loop)
        self._jobs.put(None)
        self._thread.join()
        self._appender.close()

    def _run(self) -> None:
        while jobs := self._gather():
            _publish(jobs, self._commit(jobs))

    def _gather(self) -> list[_Job]:
        """The jobs of the next transaction; none once the writer is closed."""
        jobs: list[_Job] = []
        size = 0
        while size < MAX_EVENTS and (self._ready or not jobs or not self._jobs.empty()):
            if not self._ready:
                received = self._jobs.get()
                if received is None:
                    # The next call finds it again.
                    self._jobs.put(None)
                    break
                self._ready.extend(received)
            jobs.append(self._ready.popleft())
            size += jobs[-1].size
        return jobs

    def _commit(self, jobs: Sequence[_Job]) -> list[Outcome | Any]:
        start, head = self._clock(), self._recorder.head
        try:
            outcomes, events = self._appender.run(
                lambda connection: self._work(connection, jobs),
                proof=lambda: self._recorder.proof,
            )
        except Exception as error:
            # Nothing of this transaction is recorded, unless nobody can say.
            self._recorder.roll_back(head)
            if isinstance(error, StoreUnavailable) and is_trouble(error):
                self._health.failed(error)
            elif len(jobs) > 1:
                # One job cannot be recorded, and must not prevent the others.
                return [self._commit([job])[0] for job in jobs]
            return [error] * len(jobs)
        self._health.wrote()
        self._committed(self._clock() - start, events, self._recorder.head)
        return outcomes

    def _work(self, connection: Connection, jobs: Sequence[_Job]) -> tuple[list[Any], int]:
        """The outcomes of the jobs, and how many events are new."""
        appends = [job.work for job in jobs if isinstance(job.work, Append)]
        self._recorder.start()
        recorded, events = self._recorder.record(connection, appends) if appends else ([], 0)
        of_appends = iter(recorded)
        outcomes = [
            next(of_appends) if isinstance(job.work, Append) else _call(connection, job.work)
            for job in jobs
        ]
        return outcomes, events


def _call(connection: Connection, work: Call) -> Any:
    try:
        # A savepoint: a failed job is undone, and the others stay.
        with connection.transaction():
            return work(connection)
    except DeploylogError as error:
        return error


def _write_a_row(connection: Connection) -> None:
    """Write a row as it is."""
    change(connection, "UPDATE log SET head = head")


def _publish(jobs: Sequence[_Job], outcomes: Sequence[Any]) -> None:
    """Set the futures, with one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, outcome))
    for loop, results in by_loop.items():
        loop.call_soon_threadsafe(_resolve, results)


def _resolve(results: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in results:
        if future.done():
            # The caller was cancelled; its job is recorded all the same.
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
