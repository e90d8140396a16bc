"""The live path: a tool's lines become events, wait in the spool, and reach the server.

Nothing in here ends the tool that is being followed. What goes wrong is said at once, kept as
the feed's ``failure``, and the lines are taken as before.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import msgspec

from deploylog.client import (
    Backoff,
    Client,
    ClientError,
    Jitter,
    Opening,
    Say,
    ServerUnreachable,
    Sleep,
)
from deploylog.errors import DeploylogError
from deploylog.events import NewEvent
from deploylog.ingest.cloudevents import render_new_event
from deploylog.ingest.terraform import TerraformRun
from deploylog.spool import Batch, Heading, Spool, create_spool
from deploylog.times import parse_time, render_time

_T = TypeVar("_T")

#: The most that one request carries; the service takes more of both.
MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024

#: A request begins at most this often, in seconds, so that a busy tool fills them.
INTERVAL = 0.02

_ENDS = ("deployment.completed", "deployment.failed")

#: The source of what the recorder itself reports.
_SOURCE = "deploylog-client"


class Undelivered(DeploylogError):
    """The server did not answer for so long that events were left in the spool."""


class Refused(DeploylogError):
    """The server refused the events for good."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Time, given from outside."""

    #: ns since 1970.
    now: Callable[[], int] = time.time_ns
    #: Seconds since whenever.
    monotonic: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    jitter: Jitter = random.random


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which deployment the lines are of, and how they travel."""

    project: str
    stack: str
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: The spool directory, and the bytes that one spool may hold.
    directory: Path
    limit: int
    #: Seconds without progress, once the lines have ended, after which to give up.
    patience: float


class Sender:
    """Takes a spool to the server: opens the deployment, then sends its events in order."""

    def __init__(self, client: Client, spool: Spool, *, say: Say, timing: Timing) -> None:
        """Send what is in ``spool``, and what will be."""
        #: Why it stopped before the end, if it did.
        self.failure: DeploylogError | None = None
        self._client = client
        self._spool = spool
        self._say = say
        self._timing = timing
        self._backoff = Backoff(timing.jitter)
        self._is_lost = False

    async def run(self) -> None:
        """Send until everything is acknowledged, or the server refuses something."""
        try:
            await self._send_all()
        except DeploylogError as error:
            self.failure = error
            self._spool.abandon()
            self._say(f"{error.message}; nothing more is sent")

    async def _send_all(self) -> None:
        opening = self._spool.heading.opening
        await self._persist(lambda: self._client.open_deployment(opening))
        while batch := await self._spool.next(count=MAX_EVENTS, size=MAX_BYTES):
            began = self._timing.monotonic()
            await self._send(batch)
            if batch.count < MAX_EVENTS:
                rest = began + INTERVAL - self._timing.monotonic()
                await self._timing.sleep(max(rest, 0))

    async def _send(self, batch: Batch) -> None:
        id = self._spool.heading.opening.id
        await self._persist(lambda: self._client.append(batch.body, deployment=id))
        self._spool.acknowledge(batch)

    async def _persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """``call`` until the server answers; raises what is final."""
        while True:
            try:
                answer = await call()
            except (ServerUnreachable, ClientError) as error:
                if isinstance(error, ClientError) and not error.transient:
                    raise
                self._lost(error)
                await self._timing.sleep(self._delay(error))
            else:
                self._found()
                return answer

    def _delay(self, error: ServerUnreachable | ClientError) -> float:
        asked = error.retry_after if isinstance(error, ClientError) else None
        return max(self._backoff.next(), asked or 0.0)

    def _lost(self, error: DeploylogError) -> None:
        if not self._is_lost:
            self._say(f"{error.message}; trying again, events wait in {self._spool.path}")
        self._is_lost = True

    def _found(self) -> None:
        if self._is_lost:
            self._say(f"{self._client.server} answers again")
        self._is_lost = False
        self._backoff.reset()


class RunClock:
    """The time of a run: that of its last line, and from there on as our own clock goes.

    So a run that is read from a record, of another year perhaps, begins and ends in its own time.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        """``now`` is our own clock, in ns since 1970."""
        self._now = now
        self._ahead = 0
        self._latest = 0
        #: The time of the run's first event, or without one that of its beginning here.
        self.started = now()
        self._has_begun = False

    def now(self) -> int:
        """The time in the run, at or after its latest event."""
        return max(self._now() + self._ahead, self._latest)

    def set(self, events: Sequence[NewEvent]) -> None:
        """Go by the times of these events, which have just been read."""
        if not events:
            return
        if not self._has_begun:
            self.started = events[0].time
            self._has_begun = True
        self._ahead = events[-1].time - self._now()
        self._latest = max(self._latest, *(event.time for event in events))


class Feed:
    """One run of a tool, line by line; ``open_feed`` makes it."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        tasks: asyncio.TaskGroup,
        *,
        say: Say,
        observe: Callable[[Sequence[NewEvent]], None],
        timing: Timing,
    ) -> None:
        """``observe`` is shown every event; ``say`` is given a line for people."""
        self.deployment_id = str(uuid4())
        #: Why not everything was recorded, if so.
        self.failure: DeploylogError | None = None
        self._client = client
        self._plan = plan
        self._tasks = tasks
        self._say = say
        self._observe = observe
        self._timing = timing
        self._run = TerraformRun(deployment_id=self.deployment_id)
        self._clock = RunClock(timing.now)
        self._way: _Way | None = None

    @property
    def waiting(self) -> int:
        """How many events are not acknowledged."""
        return self._way.spool.waiting if self._way else 0

    @property
    def has_begun(self) -> bool:
        """Whether there was anything to record."""
        return self._way is not None

    @property
    def instead(self) -> str:
        """What came in place of a tool's lines, in words, while it has not begun."""
        return self._run.instead

    async def take(self, line: bytes) -> None:
        """Send what ``line`` tells; waits while the spool is full, and raises nothing."""
        events = self._run.feed(line, now=self._clock.now())
        self._clock.set(events)
        await self._keep(events)

    async def _keep(self, events: Sequence[NewEvent]) -> None:
        self._observe(events)
        if self.failure is not None or not events:
            return
        try:
            await self._begin().spool.append([render_new_event(event) for event in events])
        except DeploylogError as error:
            self._fail(error)

    def _begin(self) -> "_Way":
        if self._way is None:
            heading = Heading(server=self._client.server, opening=self._opening())
            spool = create_spool(self._plan.directory, heading, limit=self._plan.limit)
            sender = Sender(self._client, spool, say=self._say, timing=self._timing)
            self._way = _Way(spool, sender, self._tasks.create_task(sender.run()))
        return self._way

    def _opening(self) -> Opening:
        plan = self._plan
        return Opening(
            id=self.deployment_id,
            project=plan.project,
            stack=plan.stack,
            tool=self._run.tool if self._run.version is not None else None,
            operation=plan.operation,
            environment=plan.environment,
            actor=plan.actor,
            groups=plan.groups,
            started=render_time(self._clock.started),
        )

    def _fail(self, error: DeploylogError) -> None:
        self.failure = error
        self._say(f"{error.message}; events are lost from here on")

    async def end(self, *, exit_code: int | None) -> None:
        """Send the run's end and wait until all has arrived, or ``failure`` says why not.

        Without an exit code and without an event there was no run, and nothing is sent.
        """
        if self.failure is None and (self.has_begun or exit_code is not None):
            try:
                await self._finish(self._run.close(now=self._clock.now(), exit_code=exit_code))
            except DeploylogError as error:
                self._fail(error)

    async def _finish(self, events: Sequence[NewEvent]) -> None:
        self._observe(events)
        way = self._begin()
        way.spool.end([render_new_event(event) for event in events])
        self.failure = await way.arrive(self._plan.patience)

    def hurry(self) -> None:
        """Wait for the server no longer; what it has not got stays in the spool."""
        if self._way is not None:
            self._way.give_up()

    async def close(self) -> None:
        """Let go of everything."""
        if self._way is not None:
            await self._way.close()


class _Way:
    """A spool, and the task that empties it."""

    def __init__(self, spool: Spool, sender: Sender, sending: asyncio.Task[None]) -> None:
        self.spool = spool
        self._sender = sender
        self._sending = sending

    async def arrive(self, patience: float) -> DeploylogError | None:
        """Wait until everything is acknowledged; say why it is not."""
        waiting = -1
        while not self._sending.done() and waiting != self.spool.waiting:
            waiting = self.spool.waiting
            await asyncio.wait([self._sending], timeout=patience)
        if self._sender.failure is not None:
            return self._stopped_by(self._sender.failure)
        if self._sending.done() and not self._sending.cancelled():
            return None
        kept = f"{_waiting(self.spool.waiting)} in {self.spool.path}"
        return Undelivered(
            f"{self.spool.heading.server} did not answer; {kept} (deploylog ingest resume sends"
            f" {_them(self.spool.waiting)})"
        )

    def _stopped_by(self, failure: DeploylogError) -> DeploylogError:
        kept = f"{_waiting(self.spool.waiting)} in {self.spool.path}"
        again = f"deploylog ingest resume tries {_them(self.spool.waiting)} once more"
        stopped = Refused if _is_refusal(failure) else DeploylogError
        return stopped(f"{failure.message}; {kept} ({again})")

    def give_up(self) -> None:
        self.spool.abandon()
        self._sending.cancel()

    async def close(self) -> None:
        self._sending.cancel()
        await asyncio.wait([self._sending])
        self.spool.close()


@asynccontextmanager
async def open_feed(
    client: Client,
    plan: Plan,
    *,
    say: Say,
    observe: Callable[[Sequence[NewEvent]], None],
    timing: Timing | None = None,
) -> AsyncIterator[Feed]:
    """A feed to ``client``; leave it only after ``end``."""
    async with asyncio.TaskGroup() as tasks:
        feed = Feed(client, plan, tasks, say=say, observe=observe, timing=timing or Timing())
        try:
            yield feed
        finally:
            await feed.close()


async def resume(
    client: Client,
    spool: Spool,
    events: Sequence[bytes],
    *,
    patience: float,
    say: Say,
    timing: Timing | None = None,
) -> DeploylogError | None:
    """Send what a process that ended has left in ``spool``; return why not all of it, if so."""
    timing = timing or Timing()
    sender = Sender(client, spool, say=say, timing=timing)
    spool.end(_missing_end(spool, events, timing.now()))
    async with asyncio.TaskGroup() as tasks:
        way = _Way(spool, sender, tasks.create_task(sender.run()))
        try:
            failure = await way.arrive(patience)
            return _set_aside(spool, sender) if isinstance(failure, Refused) else failure
        finally:
            await way.close()


def _set_aside(spool: Spool, sender: Sender) -> Refused:
    """Put what would be refused again where no one tries it again."""
    spool.set_aside()
    assert sender.failure is not None
    return Refused(
        f"deployment {spool.heading.opening.id} was refused: {sender.failure.message}; it is set"
        f" aside in {spool.path}, with {_counted(spool.waiting)}, and not tried again"
    )


def _is_refusal(failure: DeploylogError) -> bool:
    return isinstance(failure, ClientError) and failure.blames_the_request


def _waiting(count: int) -> str:
    return f"{_counted(count)} {'waits' if count == 1 else 'wait'}"


def _counted(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


class _Line(msgspec.Struct):
    type: str
    time: str


def _missing_end(spool: Spool, events: Sequence[bytes], now: int) -> list[bytes]:
    """The end of a run that nobody saw the end of, so that its deployment does not run for ever."""
    last = msgspec.json.decode(events[-1], type=_Line) if events else None
    if last is not None and last.type in _ENDS:
        return []
    return [
        render_new_event(
            NewEvent(
                type="deployment.failed",
                source=_SOURCE,
                scopes=(),
                # A record of long ago ends in its own time; of a run whose last line has arrived
                # nothing is known.
                time=parse_time(last.time) if last is not None else now,
                producer_id=f"{spool.heading.opening.id}/lost",
                message="Deploylog was stopped before it saw the end of the run",
            )
        )
    ]
