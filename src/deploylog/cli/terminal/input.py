"""Input: the output of a tool from a pipe or a file, and secrets from files."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Protocol

from deploylog.errors import OperatorError

_CHUNK = 64 * 1024

#: Longer lines are cut, so that input without line ends does not fill the memory.
MAX_LINE = 8 * 1024 * 1024


class Source(Protocol):
    """A stream of bytes."""

    #: Whether there is nothing more to read.
    ended: bool

    async def read(self) -> bytes:
        """Return the next bytes, and wait for them; ``b""`` at the end."""
        ...

    def stop(self) -> None:
        """End the stream after the bytes that have arrived."""
        ...


class PipeSource:
    """A pipe that another process writes to; ``transport`` fills ``reader``."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        self.ended = False
        self._reader = reader
        self._transport = transport

    async def read(self) -> bytes:
        chunk = await self._reader.read(_CHUNK)
        self.ended = self.ended or not chunk
        return chunk

    def stop(self) -> None:
        """Close the pipe; bytes that have arrived can still be read."""
        self.ended = True
        self._transport.close()


class FileSource:
    """A file or a device, which is read in a thread."""

    def __init__(self, file: FileIO) -> None:
        self.ended = False
        self._file = file

    async def read(self) -> bytes:
        chunk = b"" if self.ended else await asyncio.to_thread(self._file.read, _CHUNK)
        self.ended = self.ended or not chunk
        return chunk

    def stop(self) -> None:
        self.ended = True


@asynccontextmanager
async def open_source(path: Path, stdin: int) -> AsyncIterator[Source]:
    """Open a file, or standard input for ``-``; raises OperatorError."""
    try:
        file = _open(stdin, closefd=False) if path == Path("-") else _open(path, closefd=True)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if os.isatty(file.fileno()):
            raise OperatorError(
                "standard input is a terminal: pipe the output in or specify a file"
            )
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            async with open_pipe(file) as source:
                yield source
        else:
            yield FileSource(file)


def _open(file: int | Path, *, closefd: bool) -> FileIO:
    return FileIO(file, "rb", closefd=closefd)


@asynccontextmanager
async def open_pipe(file: FileIO) -> AsyncIterator[PipeSource]:
    """Read from the read end of a pipe, and close it afterwards."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        yield PipeSource(reader, transport)
    finally:
        transport.close()


class LineSplitter:
    """Splits chunks into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, without line ends."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def last(self) -> list[bytes]:
        """Return the last line if it had no end."""
        lines = [self._rest] if self._rest else []
        self._rest = b""
        return lines


def read_secret(file: Path) -> str:
    """Return the text of a file, or of standard input for ``-``; raises OperatorError."""
    name = "standard input" if file == Path("-") else str(file)
    try:
        content = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        text = content.decode().strip()
    except OSError as error:
        raise OperatorError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError:
        # The cause would show a part of the secret.
        raise OperatorError(f"{name} is not UTF-8 text") from None
    if not text:
        raise OperatorError(f"{name} is empty")
    return text
