"""The command line in a process of its own."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from support.backends import empty_store_url_at
from support.forked import Forked, fork
from support.paths import SAMPLES
from support.preloaded import preloaded

APPLY = SAMPLES / "02-apply-create.jsonl"
FAILING = SAMPLES / "05-apply-provisioner-failure.jsonl"

#: An address where no server listens.
NOWHERE = "http://127.0.0.1:1"


class Result(msgspec.Struct, frozen=True):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def fields(self) -> dict[str, str]:
        """The ``name: value`` lines of the output."""
        return dict(line.split(": ") for line in self.out.splitlines())


async def deploylog(*args: str | Path) -> Result:
    """Run a command to its end, as a user of this machine would."""
    code, out, err = await asyncio.to_thread(
        preloaded().run, [str(arg) for arg in args], environ=os.environ, cwd=Path.cwd()
    )
    return Result(code, out.decode(), err.decode())


class Cli:
    """The command line, in a process of its own."""

    def __init__(self, directory: Path, server: str) -> None:
        self.spool = directory / "spool"
        self._directory = directory
        self.environ = {
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(directory),
            "COLUMNS": "200",
            "DEPLOYLOG_SERVER": server,
            "DEPLOYLOG_SPOOL": str(self.spool),
            "DEPLOYLOG_PROJECT": "acme",
            "DEPLOYLOG_STACK": "web",
            "DEPLOYLOG_STORE": empty_store_url_at(directory / "log.db"),
        }

    async def __call__(self, *args: str | Path, stdin: bytes = b"") -> Result:
        """Run a command to its end."""
        code, out, err = await asyncio.to_thread(
            preloaded().run,
            [str(arg) for arg in args],
            stdin=stdin,
            cwd=self._directory,
            environ=self.environ,
        )
        return Result(code, out.decode(), err.decode())

    async def start(self, *args: str | Path) -> Forked:
        """Start a command with its standard streams as pipes."""
        return await fork(*args, environ=self.environ, cwd=self._directory)

    def tool(self, name: str, script: str) -> Path:
        """Put an executable on the PATH that runs a Python script."""
        path = self._directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport signal, sys\n{script}\n")
        path.chmod(0o755)
        return path


async def line_with(stream: asyncio.StreamReader | None, words: str) -> str:
    """Return the next line of ``stream`` that contains ``words``."""
    assert stream is not None
    async with asyncio.timeout(20):
        while line := (await stream.readline()).decode():
            if words in line:
                return line
    raise AssertionError(f"no line contains {words!r}")
