"""The commit queue: one thread that commits for all callers.

Each commit waits for the disk once. Jobs that arrive during a commit share the next one.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import msgspec

from deploylog.errors import DeploylogError, Stopping, StoreUnavailable
from deploylog.store.admission import Append, Entry, Outcome
from deploylog.store.health import Health
from deploylog.store.prepared_event import PreparedEvent

#: How many events one transaction records, so that no caller waits long behind a flood.
MAX_EVENTS = 5_000

#: Events of an append for which the thread is woken at once.
LARGE = 32

ConnectionT = TypeVar("ConnectionT")

_Result = TypeVar("_Result")

Call = Callable[[ConnectionT], Any]

#: What one caller asks for.
Work = Append[PreparedEvent] | Call[ConnectionT]

#: The outcomes of the works of a transaction, and how many events are new.
Outcomes = tuple[list[Any], int]


class _Job(msgspec.Struct, Generic[ConnectionT], frozen=True, eq=False):
    """Work of the queue, and the future that gets its outcome."""

    work: Work[ConnectionT]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    @property
    def size(self) -> int:
        return len(self.work.candidates) if isinstance(self.work, Append) else 1


class CommitQueue(ABC, Generic[ConnectionT]):
    """Takes work from any event loop, and commits it in one thread. A backend adds how."""

    def __init__(
        self,
        health: Health,
        *,
        committed: Callable[[float, int, int], None],
        clock: Callable[[], float],
    ) -> None:
        """``committed`` gets the seconds, events and head of each commit. ``clock`` is monotonic.

        Starts the thread: a backend sets what it needs before.
        """
        self._health = health
        self._committed = committed
        self._clock = clock
        self._jobs: SimpleQueue[list[_Job[ConnectionT]] | None] = SimpleQueue()
        #: Jobs submitted in the current iteration of each loop.
        self._submitted: dict[asyncio.AbstractEventLoop, list[_Job[ConnectionT]]] = {}
        #: Jobs that the thread has received and not committed.
        self._ready: deque[_Job[ConnectionT]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="deploylog-write")
        self._thread.start()

    @property
    @abstractmethod
    def _head(self) -> int:
        """The newest position."""

    @abstractmethod
    def _transact(self, works: Sequence[Work[ConnectionT]]) -> Outcomes:
        """Run all works in one transaction; when it raises, nothing of it is recorded.

        Tells ``_health`` when it wrote to the disk.
        """

    @abstractmethod
    def _write_unchanged(self, connection: ConnectionT) -> None:
        """Write to the disk, and change nothing."""

    def _is_proven(self) -> bool:
        """Whether the store surely records."""
        return self._health.is_proven

    async def append(self, append: Append[PreparedEvent]) -> list[Entry]:
        """Record the events; return their entries once they are on disk."""
        entries: list[Entry] = await self._submit(append)
        return entries

    async def call(self, work: Callable[[ConnectionT], _Result]) -> _Result:
        """Run ``work`` in a transaction; return its result once it is on disk."""
        result: _Result = await self._submit(work)
        return result

    async def ready(self) -> None:
        """Raise StoreUnavailable unless a commit reaches the disk, now or seconds ago."""
        if not self._is_proven():
            await self.call(self._write_unchanged)
        if trouble := self._health.trouble:
            raise StoreUnavailable(trouble)

    async def _submit(self, work: Work[ConnectionT]) -> Any:
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

    def _run(self) -> None:
        while jobs := self._gather():
            _publish(jobs, self._commit(jobs))

    def _gather(self) -> list[_Job[ConnectionT]]:
        """The jobs of the next transaction; none once the queue is closed."""
        jobs: list[_Job[ConnectionT]] = []
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

    def _commit(self, jobs: Sequence[_Job[ConnectionT]]) -> list[Any]:
        start = self._clock()
        try:
            outcomes, events = self._transact([job.work for job in jobs])
        except Exception as error:
            if self._health.is_trouble(error):
                self._health.failed(error)
            elif len(jobs) > 1:
                # One job cannot be recorded, and must not prevent the others.
                return [self._commit([job])[0] for job in jobs]
            return [error] * len(jobs)
        self._committed(self._clock() - start, events, self._head)
        return outcomes


def outcomes_of(
    works: Sequence[Work[ConnectionT]],
    *,
    record: Callable[[Sequence[Append[PreparedEvent]]], tuple[list[Outcome], int]],
    call: Callable[[Call[ConnectionT]], Any],
) -> Outcomes:
    """Do all works: ``record`` takes the appends at once, and ``call`` undoes a call that fails."""
    appends = [work for work in works if isinstance(work, Append)]
    recorded, events = record(appends) if appends else ([], 0)
    of_appends = iter(recorded)
    outcomes = [
        next(of_appends) if isinstance(work, Append) else _outcome_of(call, work) for work in works
    ]
    return outcomes, events


def _outcome_of(call: Callable[[Call[ConnectionT]], Any], work: Call[ConnectionT]) -> Any:
    try:
        return call(work)
    except DeploylogError as error:
        return error


def _publish(jobs: Sequence[_Job[ConnectionT]], outcomes: Sequence[Any]) -> None:
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
