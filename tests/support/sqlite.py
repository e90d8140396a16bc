"""SQLite files for the tests: each new store is a copy of one that is migrated."""

import os
import tempfile
from functools import cache
from pathlib import Path

import apsw

from deploylog.store import migrate_store


def url_at(path: Path) -> str:
    """The URL of the store in the file, which is migrated if it was not there."""
    if not path.exists():
        content, key = _migrated()
        path.touch(mode=0o600)
        # Each store draws what is its own.
        path.write_bytes(content.replace(key, os.urandom(len(key))))
    return empty_url_at(path)


def empty_url_at(path: Path) -> str:
    """The URL of the store in the file, which need not be there."""
    return f"sqlite:///{path}"


@cache
def _migrated() -> tuple[bytes, bytes]:
    """A migrated file whose log is not begun, and the key that it drew for page tokens."""
    with tempfile.TemporaryDirectory(prefix="deploylog-") as folder:
        file = Path(folder) / "log.db"
        migrate_store(empty_url_at(file))
        connection = apsw.Connection(str(file))
        connection.execute("DELETE FROM log")
        [(key,)] = connection.execute("SELECT value FROM token_key")
        connection.close()
        return file.read_bytes(), key
