"""Where a tool's output goes on to: our own standard output, as it came or in words."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Protocol

import msgspec

from deploylog.cli.terminal.input import LineSplitter
from deploylog.deployments.changeset import SENSITIVE


class Rendering(Protocol):
    """What is shown of a tool's output."""

    def show(self, chunk: bytes) -> bytes:
        """What there is to show once ``chunk`` has come."""
        ...

    def last(self) -> bytes:
        """What there is left to show at the end."""
        ...


class RawOutput:
    """Every byte, unchanged."""

    def show(self, chunk: bytes) -> bytes:
        """The chunk."""
        return chunk

    def last(self) -> bytes:
        """Nothing."""
        return b""


class NoOutput:
    """Silence."""

    def show(self, chunk: bytes) -> bytes:
        """Nothing."""
        return b""

    def last(self) -> bytes:
        """Nothing."""
        return b""


class LineOutput:
    """Whole lines, each as ``render`` has it."""

    def __init__(self, render: Callable[[bytes], bytes]) -> None:
        """Show what ``render`` makes of a line; both are without the line's end."""
        self._render = render
        self._splitter = LineSplitter()

    def show(self, chunk: bytes) -> bytes:
        """The lines that are complete."""
        return b"".join(self._render(line) + b"\n" for line in self._splitter.split(chunk))

    def last(self) -> bytes:
        """The last line, if it had no end."""
        return b"".join(self._render(line) + b"\n" for line in self._splitter.last())


class Output:
    """Passes a tool's output on, until nobody takes it any more."""

    def __init__(self, rendering: Rendering, write: Callable[[bytes], object]) -> None:
        """``write`` may block; it gets a thread."""
        self._rendering = rendering
        self._write = write
        self._is_closed = False

    async def show(self, chunk: bytes) -> None:
        """Pass ``chunk`` on."""
        await self._pass(self._rendering.show(chunk))

    async def last(self) -> None:
        """Pass on what is left."""
        await self._pass(self._rendering.last())

    async def _pass(self, shown: bytes) -> None:
        if not shown or self._is_closed:
            return
        try:
            # A pager that nobody scrolls must not keep events from being sent.
            await asyncio.to_thread(self._write, shown)
        except OSError:
            # Nobody reads it; the tool goes on all the same, and so does the recording.
            self._is_closed = True


def write_all(file: int, data: bytes) -> None:
    """Write all of ``data``."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def discard_stdout() -> None:
    """Let what is printed from now on go nowhere: nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Start(msgspec.Struct):
    line: int | None = None


class _Range(msgspec.Struct):
    filename: str | None = None
    start: _Start | None = None


class _Diagnostic(msgspec.Struct):
    detail: str | None = None
    range: _Range | None = None


class _Output(msgspec.Struct):
    sensitive: bool = True
    #: What will become of it; a plan tells this, in place of the value.
    action: str | None = None
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Line(msgspec.Struct):
    message: str = msgspec.field(name="@message")
    type: str = ""
    diagnostic: _Diagnostic | None = None
    outputs: dict[str, _Output] = {}


_decode_line = msgspec.json.Decoder(_Line).decode


def render_line(line: bytes) -> bytes:
    """What a line of Terraform's JSON says, in words; any other line as it is."""
    try:
        told = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    return "\n".join([told.message, *_details(told), *_outputs(told)]).encode()


def _details(told: _Line) -> list[str]:
    diagnostic = told.diagnostic
    if diagnostic is None:
        return []
    lines = [f"  {text}" for text in (diagnostic.detail or "").rstrip().splitlines()]
    place = diagnostic.range
    if place is not None and place.filename and place.start is not None:
        lines.insert(0, f"  on {place.filename} line {place.start.line}:")
    return lines


def _outputs(told: _Line) -> list[str]:
    return [
        f"  {name} = {shown}"
        for name, output in told.outputs.items()
        if (shown := _shown(output)) is not None
    ]


def _shown(output: _Output) -> str | None:
    """The value; ``None`` if only a plan tells of it. Terraform leaves out a sensitive one."""
    if output.action is not None:
        return None
    if output.sensitive:
        return SENSITIVE
    return None if isinstance(output.value, msgspec.UnsetType) else bytes(output.value).decode()
