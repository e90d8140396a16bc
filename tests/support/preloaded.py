"""Runs ``deploylog`` in processes forked from one that has already imported it.

Each has an environment, a folder and standard streams of its own, as with ``python -m deploylog``,
but does not import the program again, which takes most of a second.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from threading import Thread
from typing import NoReturn

TIMEOUT_SECONDS = 30

#: Bytes of a number that is told.
_NUMBER = 16


class Preloaded:
    """The process that the commands are forked from. It ends with the one that started it."""

    def __init__(self) -> None:
        self._address = str(Path(tempfile.mkdtemp(prefix="preloaded-")) / "socket")
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        # The end of its standard input ends it.
        atexit.register(self._process.communicate)

    def fork(
        self,
        args: Sequence[str],
        streams: Sequence[int],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        program: str = "",
    ) -> tuple[socket.socket, int]:
        """Fork a process, which takes over the standard ``streams``; a socket on which its exit
        code comes, and the process.

        It runs ``deploylog``, or the ``program`` in Python.
        """
        asked = {"args": list(args), "environ": dict(environ), "cwd": str(cwd), "program": program}
        request = json.dumps(asked).encode()
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(self._address)
        socket.send_fds(connection, [f"{len(request):>8}".encode()], streams)
        connection.sendall(request)
        for descriptor in streams:
            os.close(descriptor)
        return connection, int(connection.recv(_NUMBER, socket.MSG_WAITALL))

    def run(
        self, args: Sequence[str], *, environ: Mapping[str, str], cwd: Path, stdin: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end; the exit code, and what it printed."""
        theirs_in, ours_in = os.pipe()
        (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe()
        theirs = [theirs_in, theirs_out, theirs_err]
        connection, _ = self.fork(args, theirs, environ=environ, cwd=cwd)
        with connection:
            output: dict[int, bytes] = {}
            threads = [
                Thread(target=_write, args=(ours_in, stdin)),
                *(Thread(target=_read, args=(each, output)) for each in (ours_out, ours_err)),
            ]
            for thread in threads:
                thread.start()
            code = connection.recv(_NUMBER)
            for thread in threads:
                thread.join(TIMEOUT_SECONDS)
        return int(code), output[ours_out], output[ours_err]


@cache
def preloaded() -> Preloaded:
    return Preloaded()


def _write(descriptor: int, content: bytes) -> None:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(content)
    except BrokenPipeError:
        pass


def _read(descriptor: int, output: dict[int, bytes]) -> None:
    with os.fdopen(descriptor, "rb") as pipe:
        output[descriptor] = pipe.read()


def _serve(address: str) -> None:
    import deploylog

    for module in walk_packages(deploylog.__path__, "deploylog."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    # The first command imports what typer needs to parse its arguments.
    sys.argv = ["deploylog", "keys", "list", "--store", "nowhere"]
    with suppress(SystemExit), open(os.devnull, "w") as null, redirect_stderr(null):
        import_module("deploylog.cli").main()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _handle(connection)
        connection.close()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _handle(connection: socket.socket) -> None:
    """Fork the process; send its number, and its exit code when it has ended."""
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int(length):
        request += connection.recv(65536)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(request), streams)
    for descriptor in streams:
        os.close(descriptor)
    _tell(connection, pid)
    _, status = os.waitpid(pid, 0)
    _tell(connection, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _tell(connection: socket.socket, number: int) -> None:
    """Tell it, unless the test has ended."""
    with suppress(BrokenPipeError):
        connection.sendall(f"{number:>{_NUMBER}}".encode())


def _become(request: dict[str, object], streams: list[int]) -> NoReturn:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["environ"])  # type: ignore[call-overload]
    sys.argv = ["deploylog", *request["args"]]  # type: ignore[misc]
    try:
        if request["program"]:
            exec(str(request["program"]), {"__name__": "__main__"})
        else:
            runpy.run_module("deploylog", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        _leave(end.code or 0)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but free nothing: each page that is written to is copied."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
