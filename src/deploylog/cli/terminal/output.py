"""Output: what to show of a tool's output on standard output, raw or as text."""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

import msgspec

from deploylog.cli.terminal.input import LineSplitter
from deploylog.deployments.changeset import SENSITIVE


class Rendering(Protocol):
    """Decides what to show of a tool's output."""

    def show(self, chunk: bytes) -> bytes:
        """Return what to show after ``chunk`` has arrived."""
        ...

    def last(self) -> bytes:
        """Return what remains to be shown at the end."""
        ...


class RawOutput:
    """Shows every byte unchanged."""

    def show(self, chunk: bytes) -> bytes:
        return chunk

    def last(self) -> bytes:
        return b""


class NoOutput:
    """Shows nothing."""

    def show(self, chunk: bytes) -> bytes:
        return b""

    def last(self) -> bytes:
        return b""


class LineOutput:
    """Shows complete lines, as ``render`` returns them; it gets each without its end."""

    def __init__(self, render: Callable[[bytes], bytes]) -> None:
        self._render = render
        self._splitter = LineSplitter()

    def show(self, chunk: bytes) -> bytes:
        return b"".join(self._render(line) + b"\n" for line in self._splitter.split(chunk))

    def last(self) -> bytes:
        return b"".join(self._render(line) + b"\n" for line in self._splitter.last())


class Output:
    """Writes a tool's output until the reader is gone; ``write`` runs in a thread."""

    def __init__(self, rendering: Rendering, write: Callable[[bytes], object]) -> None:
        self._rendering = rendering
        self._write = write
        self._is_closed = False

    async def show(self, chunk: bytes) -> None:
        await self._write_out(self._rendering.show(chunk))

    async def last(self) -> None:
        await self._write_out(self._rendering.last())

    async def _write_out(self, shown: bytes) -> None:
        if not shown or self._is_closed:
            return
        try:
            # A pager that is not scrolled must not keep events from being sent.
            await asyncio.to_thread(self._write, shown)
        except OSError:
            # The reader is gone, but the tool and the recording continue.
            self._is_closed = True


def write_all(file: int, data: bytes) -> None:
    """Write all of ``data``."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


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
    #: What will happen to it; a plan has this in place of the value.
    action: str | None = None
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Line(msgspec.Struct):
    message: str = msgspec.field(name="@message")
    type: str = ""
    diagnostic: _Diagnostic | None = None
    outputs: dict[str, _Output] = {}


_decode_line = msgspec.json.Decoder(_Line).decode


def render_line(line: bytes) -> bytes:
    """Return a line of Terraform's JSON as text, and any other line unchanged."""
    try:
        parsed = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    return "\n".join([parsed.message, *_details(parsed), *_outputs(parsed)]).encode()


def _details(parsed: _Line) -> list[str]:
    diagnostic = parsed.diagnostic
    if diagnostic is None:
        return []
    lines = [f"  {text}" for text in (diagnostic.detail or "").rstrip().splitlines()]
    range = diagnostic.range
    if range is not None and range.filename and range.start is not None:
        lines.insert(0, f"  on {range.filename} line {range.start.line}:")
    return lines


def _outputs(parsed: _Line) -> list[str]:
    return [
        f"  {name} = {shown}"
        for name, output in parsed.outputs.items()
        if (shown := _shown(output)) is not None
    ]


def _shown(output: _Output) -> str | None:
    """Return the value; ``None`` in a plan. Terraform omits a sensitive value."""
    if output.action is not None:
        return None
    if output.sensitive:
        return SENSITIVE
    return None if isinstance(output.value, msgspec.UnsetType) else bytes(output.value).decode()
