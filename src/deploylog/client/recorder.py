"""The recorder: turns the lines of a tool into events, buffers them in a spool and uploads it.

A failure here never ends the tool. The recorder logs it at once, keeps it in ``failure``, and
continues to take lines.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from deploylog.client import Client, Log, NewDeployment, Timing
from deploylog.client.spool import SpoolHeader, create_spool
from deploylog.client.uploader import Upload, Uploader
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.times import render_time
from deploylog.ingest.terraform.run import TerraformRun

Observer = Callable[[Sequence[NewEvent]], None]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment to record, and how to buffer and send its events."""

    project: str
    stack: str
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    spool_directory: Path
    #: The size limit of one spool.
    spool_bytes: int
    #: Seconds without an acknowledgement, after the tool has exited, before it gives up.
    retry_timeout: float


class RunClock:
    """The time of a run: that of its last line, advanced by our own clock.

    A run that is replayed from a recording, perhaps a year old, starts and ends at its own time.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        """``now`` is our own clock, in ns since 1970."""
        self._now = now
        self._offset = 0
        self._latest = 0
        #: The time of the run's first event; before there is one, when the recorder started.
        self.started = now()
        self._has_started = False

    def now(self) -> int:
        """Return the time in the run, never before its latest event."""
        return max(self._now() + self._offset, self._latest)

    def set(self, events: Sequence[NewEvent]) -> None:
        """Set the clock by events that have just been read."""
        if not events:
            return
        if not self._has_started:
            self.started = events[0].time
            self._has_started = True
        self._offset = events[-1].time - self._now()
        self._latest = max(self._latest, *(event.time for event in events))


class RunRecorder:
    """Records one run of a tool, line by line; create it with ``open_recorder``."""

    def __init__(
        self,
        client: Client,
        options: RunOptions,
        tasks: asyncio.TaskGroup,
        *,
        log: Log,
        observe: Observer,
        timing: Timing,
    ) -> None:
        self.deployment_id = str(uuid4())
        #: The error because of which some events were not recorded.
        self.failure: DeploylogError | None = None
        self._client = client
        self._options = options
        self._tasks = tasks
        self._log = log
        self._observe = observe
        self._timing = timing
        self._run = TerraformRun(deployment_id=self.deployment_id)
        self._clock = RunClock(timing.now)
        self._upload: Upload | None = None

    @property
    def pending(self) -> int:
        """The number of events that are not acknowledged."""
        return self._upload.spool.pending if self._upload else 0

    @property
    def has_started(self) -> bool:
        """Whether there was anything to record."""
        return self._upload is not None

    @property
    def input_problem(self) -> str:
        """What is wrong with the input, while no line of it was recognized."""
        return self._run.unrecognized_input

    async def record(self, line: bytes) -> None:
        """Record the events of ``line``; waits while the spool is full, and raises nothing."""
        events = self._run.feed(line, now=self._clock.now())
        self._clock.set(events)
        await self._append(events)

    async def _append(self, events: Sequence[NewEvent]) -> None:
        self._observe(events)
        if self.failure is not None or not events:
            return
        try:
            upload = self._started_upload()
            await upload.spool.append([render_new_event(event) for event in events])
        except DeploylogError as error:
            self._fail(error)

    def _started_upload(self) -> Upload:
        if self._upload is None:
            header = SpoolHeader(server=self._client.server, deployment=self._deployment())
            options = self._options
            spool = create_spool(options.spool_directory, header, max_bytes=options.spool_bytes)
            uploader = Uploader(self._client, spool, log=self._log, timing=self._timing)
            self._upload = Upload(spool, uploader, self._tasks.create_task(uploader.run()))
        return self._upload

    def _deployment(self) -> NewDeployment:
        options = self._options
        return NewDeployment(
            id=self.deployment_id,
            project=options.project,
            stack=options.stack,
            tool=self._run.tool if self._run.version is not None else None,
            operation=options.operation,
            environment=options.environment,
            actor=options.actor,
            groups=options.groups,
            started=render_time(self._clock.started),
        )

    def _fail(self, error: DeploylogError) -> None:
        self.failure = error
        self._log(f"{error.message}; events from here on are not recorded")

    async def finish(self, *, exit_code: int | None) -> None:
        """Record the end of the run and wait until everything is acknowledged.

        Sets ``failure`` if it is not. Without an exit code and without an event there was no run,
        and nothing is sent.
        """
        if self.failure is None and (self.has_started or exit_code is not None):
            try:
                await self._upload_all(self._run.close(now=self._clock.now(), exit_code=exit_code))
            except DeploylogError as error:
                self._fail(error)

    async def _upload_all(self, last: Sequence[NewEvent]) -> None:
        self._observe(last)
        upload = self._started_upload()
        upload.spool.finish([render_new_event(event) for event in last])
        self.failure = await upload.wait(self._options.retry_timeout)

    def stop_waiting(self) -> None:
        """Stop sending; pending events remain in the spool."""
        if self._upload is not None:
            self._upload.give_up()

    async def close(self) -> None:
        """Stop the upload and close the spool."""
        if self._upload is not None:
            await self._upload.close()


@asynccontextmanager
async def open_recorder(
    client: Client,
    options: RunOptions,
    *,
    log: Log,
    observe: Observer,
    timing: Timing | None = None,
) -> AsyncIterator[RunRecorder]:
    """Open a recorder, which calls ``observe`` with every event; call ``finish`` in the block."""
    async with asyncio.TaskGroup() as tasks:
        recorder = RunRecorder(
            client, options, tasks, log=log, observe=observe, timing=timing or Timing()
        )
        try:
            yield recorder
        finally:
            await recorder.close()
