"""Where a tool's output comes from: a pipe, or a file."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Protocol

from deploylog.errors import OperatorError

_CHUNK = 64 * 1024

#: Longer lines are taken in parts, so that input without line ends does not fill the memory.
MAX_LINE = 8 * 1024 * 1024


class Source(Protocol):
    """Bytes, as they come."""

    #: Whether nothing more will come.
    ended: bool

    async def read(self) -> bytes:
        """What has come, waiting for it; nothing at the end."""
        ...

    def stop(self) -> None:
        """Let what has come be the end."""
        ...


class PipeSource:
    """A pipe, which somebody else writes to."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        """Read from ``reader``, which ``transport`` fills."""
        self.ended = False
        self._reader = reader
        self._transport = transport

    async def read(self) -> bytes:
        """What has come."""
        chunk = await self._reader.read(_CHUNK)
        self.ended = self.ended or not chunk
        return chunk

    def stop(self) -> None:
        """Close the pipe; what has come is read all the same."""
        self.ended = True
        self._transport.close()


class FileSource:
    """A file, or a device: reading it takes no time worth an event loop's."""

    def __init__(self, file: FileIO) -> None:
        """Read ``file`` to its end."""
        self.ended = False
        self._file = file

    async def read(self) -> bytes:
        """What comes next."""
        chunk = b"" if self.ended else await asyncio.to_thread(self._file.read, _CHUNK)
        self.ended = self.ended or not chunk
        return chunk

    def stop(self) -> None:
        """Read no further."""
        self.ended = True


@asynccontextmanager
async def open_source(path: Path, stdin: int) -> AsyncIterator[Source]:
    """The file, or standard input for ``-``; raises OperatorError."""
    try:
        file = _open(stdin, closefd=False) if path == Path("-") else _open(path, closefd=True)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if os.isatty(file.fileno()):
            raise OperatorError("standard input is a terminal: pipe the output in, or name a file")
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            async with open_pipe(file) as source:
                yield source
        else:
            yield FileSource(file)


def _open(file: int | Path, *, closefd: bool) -> FileIO:
    return FileIO(file, "rb", closefd=closefd)


@asynccontextmanager
async def open_pipe(file: FileIO) -> AsyncIterator[PipeSource]:
    """The reading end of a pipe; closed at the end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        yield PipeSource(reader, transport)
    finally:
        transport.close()


class LineSplitter:
    """Cuts chunks into lines."""

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes, without their ends."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def last(self) -> list[bytes]:
        """The line that nothing ended, if there is one."""
        lines = [self._rest] if self._rest else []
        self._rest = b""
        return lines
