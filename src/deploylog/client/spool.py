"""The spool: a bounded buffer on disk between a deployment tool and the server.

One file a deployment, ``<deployment>.spool``: a line that says how to open the deployment and
on which server, then one event a line, as it is sent. An event is in the file before it is on
its way, so it outlives this process; the file is gone once everything is acknowledged. While
its process lives the file is locked; what a process that died has left is ``abandoned_spools``.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploylog.client import NewDeployment
from deploylog.errors import DeploylogError

#: Bytes of events in one spool.
DEFAULT_LIMIT = 64 * 1024 * 1024

_SUFFIX = ".spool"
_REFUSED = ".refused"


class SpoolError(DeploylogError):
    """The spool cannot be read or written."""


class SpoolHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A spool's first line: whose events these are, and where they go."""

    server: str
    opening: NewDeployment


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest events that are not acknowledged."""

    #: One event a line.
    body: bytes
    count: int


class Spool:
    """Events on their way: one task adds them, one takes them."""

    def __init__(
        self, file: int, path: Path, heading: SpoolHeader, events: Sequence[bytes], *, limit: int
    ) -> None:
        """``file`` is open and locked, and holds the ``heading`` and ``events``."""
        self.path = path
        self.heading = heading
        #: How many events are not acknowledged.
        self.waiting = len(events)
        self._file = file
        self._limit = limit
        self._start = self._acknowledged = len(_line(heading))
        self._written = self._start + sum(len(event) + 1 for event in events)
        self._ended = self._abandoned = self._sealed = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    async def append(self, events: Sequence[bytes]) -> None:
        """Add events, each without a newline; wait while the file is full."""
        data = b"".join(event + b"\n" for event in events)
        while not self._fits(len(data)):
            if self._abandoned:
                # What came after a gap would be sent as if there were none.
                self._sealed = True
                return
            self._room.clear()
            await self._room.wait()
        self._write(data, len(events))

    def end(self, events: Sequence[bytes]) -> None:
        """Add the last events, also when the file is full: nothing will be added any more."""
        if not self._sealed:
            self._write(b"".join(event + b"\n" for event in events), len(events))
        self._ended = True
        self._more.set()

    def _write(self, data: bytes, count: int) -> None:
        with _spooling(self.path):
            _write_at(self._file, data, self._written)
        self._written += len(data)
        self.waiting += count
        self._more.set()

    def _fits(self, size: int) -> bool:
        if self._sealed:
            return False
        return self._written == self._start or self._written - self._start + size <= self._limit

    def abandon(self) -> None:
        """Nothing will be taken any more: what does not fit from now on is left out."""
        self._abandoned = True
        self._room.set()

    async def next(self, *, count: int, size: int) -> Batch | None:
        """The oldest events, at most so many and so large, but one at least; waits for it.

        ``None`` says that everything is acknowledged, and nothing more will come.
        """
        while self._acknowledged == self._written:
            if self._ended:
                return None
            self._more.clear()
            await self._more.wait()
        lines = self._read(size)[:count]
        return Batch(body=b"".join(line + b"\n" for line in lines), count=len(lines))

    def _read(self, size: int) -> list[bytes]:
        there = self._written - self._acknowledged
        with _spooling(self.path):
            data = os.pread(self._file, min(size, there), self._acknowledged)
            if b"\n" not in data:
                data = os.pread(self._file, there, self._acknowledged).partition(b"\n")[0] + b"\n"
        return data.split(b"\n")[:-1]

    def acknowledge(self, batch: Batch) -> None:
        """Forget what the server has recorded."""
        self._acknowledged += len(batch.body)
        self.waiting -= batch.count
        if self._acknowledged < self._written:
            return
        with _spooling(self.path):
            if self._ended:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._file, self._start)
        self._acknowledged = self._written = self._start
        self._room.set()

    def set_aside(self) -> None:
        """Give the file a name under which it is no leftover."""
        with _spooling(self.path):
            self.path = self.path.rename(self.path.with_suffix(_REFUSED))

    def close(self) -> None:
        """Let go of the file; what is in it is left over, for whoever comes next."""
        os.close(self._file)


def create_spool(directory: Path, heading: SpoolHeader, *, limit: int = DEFAULT_LIMIT) -> Spool:
    """A new spool; raises SpoolError."""
    path = directory / f"{heading.opening.id}{_SUFFIX}"
    unnamed = path.with_suffix(".new")
    with _spooling(path):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # Named only when it is locked and has its heading, so that nobody takes it for a leftover.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_at(file, _line(heading), 0)
        # A name for what is not on disk yet would outlive a power cut, and be empty.
        os.fsync(file)
        unnamed.rename(path)
    return Spool(file, path, heading, (), limit=limit)


def abandoned_spools(directory: Path) -> Iterator[tuple[Spool, list[bytes]]]:
    """Every spool that a process which ended has left, locked, with its events."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with _spooling(path):
            found = _take_over(path)
        if found is not None:
            yield found


def _take_over(path: Path) -> tuple[Spool, list[bytes]] | None:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    if not _lock(file):
        os.close(file)
        return None
    # A line without an end was never promised to anybody.
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        os.close(file)
        return None
    first, *events = lines
    heading = msgspec.json.decode(first, type=SpoolHeader)
    return Spool(file, path, heading, events, limit=DEFAULT_LIMIT), events


def _lock(file: int) -> bool:
    """Whether the file was nobody's and still has its name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def _line(heading: SpoolHeader) -> bytes:
    return msgspec.json.encode(heading) + b"\n"


def _write_at(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


@contextmanager
def _spooling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(f"spool {path}: {(error.strerror or str(error)).lower()}") from error
    except msgspec.DecodeError as error:
        raise SpoolError(f"spool {path} is not a spool: {error}") from error
