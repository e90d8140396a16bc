"""The spool: a bounded buffer on disk between a deployment tool and the server.

There is one file per deployment, ``<deployment>.spool``: a header line that names the deployment
and its server, then one event per line, as it is sent. An event is in the file before it is sent,
so it survives this process. The file is deleted once the server has acknowledged everything. A
process locks its file for as long as it lives; ``abandoned_spools`` finds the files without a lock.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploylog.client.models import NewDeployment
from deploylog.errors import DeploylogError

#: Bytes of events in one spool.
DEFAULT_MAX_BYTES = 64 * 1024 * 1024

_SUFFIX = ".spool"
_REFUSED = ".refused"


class SpoolError(DeploylogError):
    """The spool cannot be read or written."""


class SpoolHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a spool: the deployment of its events, and the server to send them to."""

    server: str
    deployment: NewDeployment = msgspec.field(name="opening")


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest events that are not acknowledged."""

    #: One event per line.
    body: bytes
    count: int


class Spool:
    """A queue of events in a file; one task appends to it, one task reads from it."""

    def __init__(
        self, file: int, path: Path, header: SpoolHeader, events: Sequence[bytes], *, max_bytes: int
    ) -> None:
        """``file`` is open and locked, and contains ``header`` and ``events``."""
        self.path = path
        self.header = header
        #: The number of events that are not acknowledged.
        self.pending = len(events)
        self._file = file
        self._max_bytes = max_bytes
        self._start = self._acknowledged = len(_line(header))
        self._written = self._start + sum(len(event) + 1 for event in events)
        self._finished = self._abandoned = self._sealed = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    async def append(self, events: Sequence[bytes]) -> None:
        """Append events, each without a newline; waits while the file is full."""
        data = b"".join(event + b"\n" for event in events)
        while not self._fits(len(data)):
            if self._abandoned:
                # The events after a gap would be sent as if there were none.
                self._sealed = True
                return
            self._room.clear()
            await self._room.wait()
        self._write(data, len(events))

    def finish(self, events: Sequence[bytes]) -> None:
        """Append the last events, even when the file is full."""
        if not self._sealed:
            self._write(b"".join(event + b"\n" for event in events), len(events))
        self._finished = True
        self._more.set()

    def _write(self, data: bytes, count: int) -> None:
        with _spool_errors(self.path):
            _write_at(self._file, data, self._written)
        self._written += len(data)
        self.pending += count
        self._more.set()

    def _fits(self, size: int) -> bool:
        if self._sealed:
            return False
        return self._written == self._start or self._written - self._start + size <= self._max_bytes

    def abandon(self) -> None:
        """Stop making room: from the first event that does not fit, events are dropped."""
        self._abandoned = True
        self._room.set()

    async def next(self, *, max_events: int, max_bytes: int) -> Batch | None:
        """Return the oldest events, at least one; waits for it.

        ``None`` means that the spool is finished and everything is acknowledged.
        """
        while self._acknowledged == self._written:
            if self._finished:
                return None
            self._more.clear()
            await self._more.wait()
        lines = self._read(max_bytes)[:max_events]
        return Batch(body=b"".join(line + b"\n" for line in lines), count=len(lines))

    def _read(self, max_bytes: int) -> list[bytes]:
        available = self._written - self._acknowledged
        with _spool_errors(self.path):
            data = os.pread(self._file, min(max_bytes, available), self._acknowledged)
            if b"\n" not in data:
                data = os.pread(self._file, available, self._acknowledged)
                data = data.partition(b"\n")[0] + b"\n"
        return data.split(b"\n")[:-1]

    def acknowledge(self, batch: Batch) -> None:
        """Remove a batch that the server has recorded."""
        self._acknowledged += len(batch.body)
        self.pending -= batch.count
        if self._acknowledged < self._written:
            return
        with _spool_errors(self.path):
            if self._finished:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._file, self._start)
        self._acknowledged = self._written = self._start
        self._room.set()

    def quarantine(self) -> None:
        """Rename the file so that ``abandoned_spools`` does not find it."""
        with _spool_errors(self.path):
            self.path = self.path.rename(self.path.with_suffix(_REFUSED))

    def close(self) -> None:
        """Close and unlock the file; ``abandoned_spools`` finds what is pending."""
        os.close(self._file)


def create_spool(
    directory: Path, header: SpoolHeader, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> Spool:
    """Create an empty spool; raises SpoolError."""
    path = directory / f"{header.deployment.id}{_SUFFIX}"
    unnamed = path.with_suffix(".new")
    with _spool_errors(path):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # Renamed only when it is locked and has its header, so that it never looks abandoned.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_at(file, _line(header), 0)
        # Without this the name could survive a power cut that the content does not.
        os.fsync(file)
        unnamed.rename(path)
    return Spool(file, path, header, (), max_bytes=max_bytes)


def abandoned_spools(directory: Path) -> Iterator[tuple[Spool, list[bytes]]]:
    """Lock and yield every spool of a process that has ended, with its events."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with _spool_errors(path):
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
    # An incomplete last line was never reported as buffered.
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        os.close(file)
        return None
    first, *events = lines
    header = msgspec.json.decode(first, type=SpoolHeader)
    return Spool(file, path, header, events, max_bytes=DEFAULT_MAX_BYTES), events


def _lock(file: int) -> bool:
    """Lock the file; ``False`` if a process holds the lock or the file was deleted."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def _line(header: SpoolHeader) -> bytes:
    return msgspec.json.encode(header) + b"\n"


def _write_at(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


@contextmanager
def _spool_errors(path: Path) -> Iterator[None]:
    """Raise SpoolError for every error of the file."""
    try:
        yield
    except OSError as error:
        raise SpoolError(f"spool {path}: {(error.strerror or str(error)).lower()}") from error
    except msgspec.DecodeError as error:
        raise SpoolError(f"spool {path} is not a spool: {error}") from error
