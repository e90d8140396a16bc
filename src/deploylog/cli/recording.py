"""A run as it is followed: from its source to the feed, and on to the screen."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from rich.console import Console

from deploylog.cli.terminal.input import LineSplitter, Source
from deploylog.cli.terminal.output import LineOutput, Output, RawOutput, Rendering, write_all
from deploylog.cli.terminal.progress import Progress, shown_progress
from deploylog.client import Client
from deploylog.client.recorder import RunOptions, RunRecorder, open_feed
from deploylog.ingest.terraform.encodings import Utf8Stream


class Recording:
    """A feed, and the output that passes by it."""

    def __init__(self, feed: RunRecorder, output: Output, *, name: str) -> None:
        """Record in ``feed`` and show in ``output``; ``name`` is the stack's, for people."""
        self.feed = feed
        self._output = output
        self._name = name
        self._is_announced = False

    def announce(self) -> None:
        """Say which deployment this is, once."""
        if not self._is_announced:
            log_line(f"deployment {self.feed.deployment_id} of {self._name}")
        self._is_announced = True

    async def follow(self, source: Source) -> None:
        """Record and show everything that comes."""
        text, splitter = Utf8Stream(), LineSplitter()
        while chunk := await source.read():
            await self._take(splitter.split(text.feed(chunk)))
            await self._output.show(chunk)
        await self._take([*splitter.split(text.last()), *splitter.last()])
        await self._output.last()

    async def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            await self.feed.take(line)
            if self.feed.has_begun:
                # Until then there may never be such a deployment.
                self.announce()


@asynccontextmanager
async def open_recording(
    client: Client, plan: RunOptions, rendering: Rendering
) -> AsyncIterator[Recording]:
    """A recording, with its progress on standard error where that is a terminal."""
    progress = Progress()
    async with open_feed(client, plan, say=log_line, observe=progress.observe) as feed:
        name = f"{plan.project}/{plan.stack}"
        if Console(stderr=True).is_interactive:
            with shown_progress(progress, feed) as console:
                yield Recording(feed, _beside(console, rendering), name=name)
        else:
            yield Recording(feed, _alone(rendering), name=name)


def _alone(rendering: Rendering) -> Output:
    return Output(rendering, lambda data: write_all(_stdout(), data))


def _beside(console: Console, rendering: Rendering) -> Output:
    """Output on the same terminal as the progress has to go above it, in whole lines."""
    if not os.isatty(_stdout()):
        return _alone(rendering)
    whole = LineOutput(lambda line: line) if isinstance(rendering, RawOutput) else rendering
    return Output(whole, lambda data: console.out(data.decode(errors="replace"), end=""))


def _stdout() -> int:
    return sys.stdout.fileno()


def log_line(sentence: str) -> None:
    """Tell people, on standard error."""
    print(f"deploylog: {sentence}", file=sys.stderr)


@contextmanager
def signal_handlers(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Answer signals so while the block runs."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
