"""Processes that run beside a test, forked from one that has already imported the program."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from support.preloaded import preloaded


class Forked:
    """A process of ``deploylog``, with the methods of ``asyncio.subprocess.Process``."""

    def __init__(
        self,
        pid: int,
        exited: "asyncio.Task[int]",
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self._exited = exited
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    @property
    def returncode(self) -> int | None:
        return self._exited.result() if self._exited.done() else None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        code = await asyncio.shield(self._exited)
        self.stdin.close()
        return code

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it prints from now on, once it has ended."""
        out, err, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, err


async def fork(
    *args: str | Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: str = "",
) -> Forked:
    """Start ``deploylog``, or the ``program`` in Python, as ``python -m deploylog`` would be."""
    # Here, as two threads would load it twice.
    parent = preloaded()
    theirs_in, ours_in = os.pipe()
    (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe()
    connection, pid = await asyncio.to_thread(
        parent.fork,
        [str(arg) for arg in args],
        [theirs_in, theirs_out, theirs_err],
        environ=os.environ if environ is None else environ,
        cwd=cwd or Path.cwd(),
        program=program,
    )
    exited = asyncio.create_task(_exit_code(connection))
    stdin = await _writer(ours_in)
    return Forked(pid, exited, stdin, await _reader(ours_out), await _reader(ours_err))


async def _exit_code(connection: socket.socket) -> int:
    connection.setblocking(False)
    with connection:
        return int(await asyncio.get_running_loop().sock_recv(connection, 16))


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()),
        os.fdopen(descriptor, "wb", 0),
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
