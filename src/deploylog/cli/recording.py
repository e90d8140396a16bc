"""A recording: reads the output of a run, records it, and shows it on the terminal."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from rich.console import Console

from deploylog.cli import options, recording_options
from deploylog.cli.details import Detecting
from deploylog.cli.terminal.formatting import SHORT_ID
from deploylog.cli.terminal.input import LineSplitter, Source
from deploylog.cli.terminal.output import LineOutput, Output, RawOutput, Rendering, write_all
from deploylog.cli.terminal.progress import Progress, live_progress, summary
from deploylog.cli.terminal.streams import log_line
from deploylog.client import Client
from deploylog.client.recorder import CommandFactory, RunOptions, RunRecorder, open_recorder
from deploylog.deployments.catalog import check_name
from deploylog.errors import InvalidInput
from deploylog.ingest.ci import Detected
from deploylog.ingest.terraform.encodings import Utf8Stream


class Recording:
    """A recorder, and the output that its input is copied to."""

    def __init__(
        self,
        recorder: RunRecorder,
        progress: Progress,
        output: Output,
        errors: Output,
        *,
        stack: str,
    ) -> None:
        """``stack`` is a name for messages."""
        self.recorder = recorder
        self._progress = progress
        self._output = output
        self._errors = errors
        self._stack = stack
        self._is_announced = False

    def announce(self) -> None:
        """Log the id of the deployment, once."""
        if not self._is_announced:
            log_line(f"deployment {self.recorder.deployment_id} of {self._stack}")
        self._is_announced = True

    def summarize(self) -> None:
        """Log what the server has acknowledged, and how to see it."""
        id = self.recorder.deployment_id[:SHORT_ID]
        sent = summary(self._progress)
        log_line(f"sent {sent}. To list them: deploylog events --deployment {id}")

    async def follow(self, source: Source) -> None:
        """Record and show standard output to its end."""
        await self._follow(source, self._output, self._record)

    async def follow_errors(self, source: Source) -> None:
        """Record and show the standard error of a command to its end."""
        await self._follow(source, self._errors, self._record_errors)

    async def _follow(
        self, source: Source, output: Output, record: Callable[[Iterable[bytes]], Awaitable[None]]
    ) -> None:
        text, splitter = Utf8Stream(), LineSplitter()
        while chunk := await source.read():
            await record(splitter.split(text.feed(chunk)))
            await output.show(chunk)
        await record([*splitter.split(text.last()), *splitter.last()])
        await output.last()

    async def _record(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            await self.recorder.record(line)
            if self.recorder.has_started:
                # Before that it is not certain that there will be a deployment.
                self.announce()

    async def _record_errors(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            await self.recorder.record_error(line)


@asynccontextmanager
async def open_recording(
    client: Client, run: RunOptions, rendering: Rendering, command: CommandFactory | None = None
) -> AsyncIterator[Recording]:
    """Open a recording, and show its progress if standard error is a terminal."""
    progress = Progress()
    async with open_recorder(
        client, run, log=log_line, observe=progress.observe, command=command
    ) as recorder:
        stack = f"{run.project}/{run.stack}"
        if Console(stderr=True).is_interactive:
            with live_progress(progress, recorder) as console:
                output = _output_above(console, rendering)
                errors = _errors_above(console)
                yield Recording(recorder, progress, output, errors, stack=stack)
        else:
            errors = Output(RawOutput(), lambda data: write_all(sys.stderr.fileno(), data))
            output = _plain_output(rendering)
            yield Recording(recorder, progress, output, errors, stack=stack)


async def run_options(
    run: recording_options.Run,
    carried: Detecting,
    buffer: recording_options.Buffer,
    *,
    operation: str | None,
    tool: str | None = None,
    records_output: bool = True,
    traceparent: str | None = None,
) -> RunOptions:
    """Return what the recorder needs of a command's options, and of what CI and git say."""
    detected = await carried.detected()
    return RunOptions(
        project=run.project,
        stack=run.stack,
        operation=operation,
        environment=run.environment or environment_of(detected),
        actor=run.actor or detected.actor or options.own_name(),
        groups=tuple(run.group or ()),
        tool=tool,
        details=detected.details,
        traceparent=traceparent,
        records_output=records_output,
        spool_directory=buffer.spool,
        spool_bytes=buffer.spool_bytes,
        retry_timeout=buffer.retry_timeout,
    )


def environment_of(detected: Detected) -> str | None:
    """Return the environment that CI names, if one may be called so."""
    try:
        check_name("environment", detected.environment or "")
    except InvalidInput:
        return None
    return detected.environment


def _plain_output(rendering: Rendering) -> Output:
    return Output(rendering, lambda data: write_all(_stdout(), data))


def _output_above(console: Console, rendering: Rendering) -> Output:
    """Return an output that prints whole lines above the progress if both are on one terminal."""
    if not os.isatty(_stdout()):
        return _plain_output(rendering)
    lines = LineOutput(lambda line: line) if isinstance(rendering, RawOutput) else rendering
    return Output(lines, lambda data: console.out(data.decode(errors="replace"), end=""))


def _errors_above(console: Console) -> Output:
    lines = LineOutput(lambda line: line)
    return Output(lines, lambda data: console.out(data.decode(errors="replace"), end=""))


def _stdout() -> int:
    return sys.stdout.fileno()


@contextmanager
def signal_handlers(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Call a handler for each signal while the block runs."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
