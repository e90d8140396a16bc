"""A recording: reads the output of a run, records it, and shows it on the terminal."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from rich.console import Console

from deploylog.cli import options
from deploylog.cli.terminal.input import LineSplitter, Source
from deploylog.cli.terminal.output import LineOutput, Output, RawOutput, Rendering, write_all
from deploylog.cli.terminal.progress import Progress, live_progress
from deploylog.cli.terminal.streams import log_line
from deploylog.client import Client
from deploylog.client.recorder import RunOptions, RunRecorder, open_recorder
from deploylog.ingest.terraform.encodings import Utf8Stream


class Recording:
    """A recorder, and the output that its input is copied to."""

    def __init__(self, recorder: RunRecorder, output: Output, *, stack: str) -> None:
        """``stack`` is a name for messages."""
        self.recorder = recorder
        self._output = output
        self._stack = stack
        self._is_announced = False

    def announce(self) -> None:
        """Log the id of the deployment, once."""
        if not self._is_announced:
            log_line(f"deployment {self.recorder.deployment_id} of {self._stack}")
        self._is_announced = True

    async def follow(self, source: Source) -> None:
        """Record and show ``source`` to its end."""
        text, splitter = Utf8Stream(), LineSplitter()
        while chunk := await source.read():
            await self._record(splitter.split(text.feed(chunk)))
            await self._output.show(chunk)
        await self._record([*splitter.split(text.last()), *splitter.last()])
        await self._output.last()

    async def _record(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            await self.recorder.record(line)
            if self.recorder.has_started:
                # Before that it is not certain that there will be a deployment.
                self.announce()


@asynccontextmanager
async def open_recording(
    client: Client, run: RunOptions, rendering: Rendering
) -> AsyncIterator[Recording]:
    """Open a recording, and show its progress if standard error is a terminal."""
    progress = Progress()
    async with open_recorder(client, run, log=log_line, observe=progress.observe) as recorder:
        stack = f"{run.project}/{run.stack}"
        if Console(stderr=True).is_interactive:
            with live_progress(progress, recorder) as console:
                yield Recording(recorder, _output_above(console, rendering), stack=stack)
        else:
            yield Recording(recorder, _plain_output(rendering), stack=stack)


def run_options(run: options.Run, buffer: options.Buffer, operation: str | None) -> RunOptions:
    """Return what the recorder needs of a command's options."""
    return RunOptions(
        project=run.project,
        stack=run.stack,
        operation=operation,
        environment=run.environment,
        actor=run.actor,
        groups=tuple(run.group or ()),
        spool_directory=buffer.spool,
        spool_bytes=buffer.spool_bytes,
        retry_timeout=buffer.retry_timeout,
    )


def _plain_output(rendering: Rendering) -> Output:
    return Output(rendering, lambda data: write_all(_stdout(), data))


def _output_above(console: Console, rendering: Rendering) -> Output:
    """Return an output that prints whole lines above the progress if both are on one terminal."""
    if not os.isatty(_stdout()):
        return _plain_output(rendering)
    lines = LineOutput(lambda line: line) if isinstance(rendering, RawOutput) else rendering
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
