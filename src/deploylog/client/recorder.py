"""The live path: a tool's lines become events, wait in the spool, and reach the server.

Nothing in here ends the tool that is being followed. What goes wrong is said at once, kept as
the feed's ``failure``, and the lines are taken as before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from deploylog.client import (
    Client,
    NewDeployment,
    Say,
)
from deploylog.client.spool import SpoolHeader, create_spool
from deploylog.client.uploader import Timing, Upload, Uploader
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.times import render_time
from deploylog.ingest.terraform.run import TerraformRun


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
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


class RunRecorder:
    """One run of a tool, line by line; ``open_feed`` makes it."""

    def __init__(
        self,
        client: Client,
        plan: RunOptions,
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
        self._way: Upload | None = None

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
        return self._run.unrecognized_input

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

    def _begin(self) -> "Upload":
        if self._way is None:
            heading = SpoolHeader(server=self._client.server, opening=self._opening())
            spool = create_spool(self._plan.directory, heading, limit=self._plan.limit)
            sender = Uploader(self._client, spool, say=self._say, timing=self._timing)
            self._way = Upload(spool, sender, self._tasks.create_task(sender.run()))
        return self._way

    def _opening(self) -> NewDeployment:
        plan = self._plan
        return NewDeployment(
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


@asynccontextmanager
async def open_feed(
    client: Client,
    plan: RunOptions,
    *,
    say: Say,
    observe: Callable[[Sequence[NewEvent]], None],
    timing: Timing | None = None,
) -> AsyncIterator[RunRecorder]:
    """A feed to ``client``; leave it only after ``end``."""
    async with asyncio.TaskGroup() as tasks:
        feed = RunRecorder(client, plan, tasks, say=say, observe=observe, timing=timing or Timing())
        try:
            yield feed
        finally:
            await feed.close()
