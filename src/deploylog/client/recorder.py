"""The recorder: turns the lines of a tool into events, buffers them in a spool and uploads it.

A failure here never ends the tool. The recorder logs it at once, keeps it in ``failure``, and
continues to take lines.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import msgspec
from msgspec.structs import asdict, replace

from deploylog.client import Client, Log, NewDeployment, Timing
from deploylog.client.spool import SpoolHeader, create_spool
from deploylog.client.uploader import Upload, Uploader
from deploylog.deployments.details import Details
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.times import render_time
from deploylog.ingest.command.run import CommandRun
from deploylog.ingest.terraform.run import TerraformRun

#: Makes the run of a command from the id of its deployment.
CommandFactory = Callable[[str], CommandRun]

Observer = Callable[[Sequence[NewEvent]], None]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The deployment to record, and how to buffer and send its events."""

    project: str
    stack: str
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: The tool, if it is known before its output is.
    tool: str | None = None
    details: Details = Details()
    #: The trace that each event names (W3C Trace Context).
    traceparent: str | None = None
    #: Whether lines of output are recorded that are about no resource.
    records_output: bool = True
    spool_directory: Path
    #: The size limit of one spool.
    spool_bytes: int
    #: Seconds without an acknowledgement, after the tool has exited, before it gives up.
    retry_timeout: float


class ToolRun(Protocol):
    """Turns the output of a tool into events."""

    @property
    def has_started(self) -> bool:
        """Whether there is anything to record."""
        ...

    @property
    def unrecognized_input(self) -> str:
        """A description of the input, if there is nothing to record."""
        ...

    def feed(self, line: bytes, *, now: int) -> list[NewEvent]:
        """Return the events of the next line of standard output; ``now`` is in ns."""
        ...

    def close(self, *, now: int, exit_code: int | None) -> list[NewEvent]:
        """Return the events of the end; the last one ends the deployment."""
        ...


class Clock(Protocol):
    """The time of a run."""

    #: When the run started, in ns since 1970.
    started: int

    def now(self) -> int:
        """Return the time in the run, in ns since 1970."""
        ...

    def set(self, events: Sequence[NewEvent]) -> None:
        """Set the clock by events that have just been read."""
        ...


class LiveClock:
    """The time of a run that happens now: that of our own clock."""

    def __init__(self, now: Callable[[], int]) -> None:
        """``now`` is our own clock, in ns since 1970."""
        self._now = now
        self.started = now()

    def now(self) -> int:
        """Return the time, never before the start."""
        return max(self._now(), self.started)

    def set(self, events: Sequence[NewEvent]) -> None:
        """Ignore the times in events."""


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
        command: CommandFactory | None,
    ) -> None:
        """With a ``command`` the run happens now, and is opened by ``start``."""
        self.deployment_id = str(uuid4())
        #: The error because of which some events were not recorded.
        self.failure: DeploylogError | None = None
        self._client = client
        self._options = options
        self._tasks = tasks
        self._log = log
        self._observe = observe
        self._timing = timing
        self._terraform = TerraformRun(deployment_id=self.deployment_id)
        self._command = command(self.deployment_id) if command else None
        self._run: ToolRun = self._command or self._terraform
        self._clock: Clock = RunClock(timing.now)
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
    def reports_resources(self) -> bool:
        """Whether the tool reports the changes of resources, as Terraform does."""
        return self._terraform.has_started or (
            self._command is not None and self._command.runs_terraform
        )

    @property
    def is_recognized(self) -> bool:
        """Whether the output could be read."""
        return self._run.has_started

    @property
    def input_problem(self) -> str:
        """What is wrong with the input, while no line of it was recognized."""
        return self._run.unrecognized_input

    def start(self) -> None:
        """Open the deployment now, before there is any output; raises nothing."""
        self._clock = LiveClock(self._timing.now)
        try:
            self._started_upload()
        except DeploylogError as error:
            self._fail(error)

    async def record(self, line: bytes) -> None:
        """Record the events of ``line``; waits while the spool is full, and raises nothing."""
        events = self._run.feed(line, now=self._clock.now())
        self._clock.set(events)
        await self._append(events)

    async def record_error(self, line: bytes) -> None:
        """Record a line of a command's standard error; raises nothing."""
        if self._command is not None:
            now = self._clock.now()
            await self._append(self._command.feed(line, now=now, stream="stderr"))

    async def _append(self, events: Sequence[NewEvent]) -> None:
        if not self._options.records_output:
            events = [event for event in events if event.type != "deployment.log"]
        self._observe(events)
        if self.failure is not None or not events:
            return
        try:
            upload = self._started_upload()
            await upload.spool.append([self._render(event) for event in events])
        except DeploylogError as error:
            self._fail(error)

    def _render(self, event: NewEvent) -> bytes:
        if self._options.traceparent is None:
            return render_new_event(event)
        attributes = msgspec.json.encode({"traceparent": self._options.traceparent})
        return render_new_event(replace(event, extensions=msgspec.Raw(attributes)))

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
            tool=options.tool or self._reported_tool(),
            operation=options.operation,
            environment=options.environment,
            actor=options.actor,
            groups=options.groups,
            started=render_time(self._clock.started),
            **asdict(options.details),
        )

    def _reported_tool(self) -> str | None:
        return self._terraform.tool if self._terraform.version is not None else None

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
        upload.spool.finish([self._render(event) for event in last])
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
    command: CommandFactory | None = None,
) -> AsyncIterator[RunRecorder]:
    """Open a recorder, which calls ``observe`` with every event; call ``finish`` in the block.

    Without a ``command`` the output is Terraform's.
    """
    async with asyncio.TaskGroup() as tasks:
        recorder = RunRecorder(
            client,
            options,
            tasks,
            log=log,
            observe=observe,
            timing=timing or Timing(),
            command=command,
        )
        try:
            yield recorder
        finally:
            await recorder.close()
