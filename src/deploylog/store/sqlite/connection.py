"""Connections: open the file, and raise the driver's errors as ours."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import addressof, c_int
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import quote

import apsw

from deploylog.errors import OperatorError, StoreFull, StoreUnavailable

SqlValue = None | int | float | str | bytes

#: How long to wait for another process that writes, in milliseconds.
BUSY_TIMEOUT = 10_000

#: Pages of 4 KiB in the write-ahead log before they are copied to the file.
CHECKPOINT_PAGES = 4_000

#: How many rows one statement inserts; one more statement inserts the rest. Few statements mean few
#: waits for the interpreter's lock. Few sizes mean that each statement is prepared once.
_INSERT_SIZES = (1024, 256, 64)


def connect(path: Path) -> apsw.Connection:
    """Open the file, or create it, so that a commit is on disk when it returns.

    Raises OperatorError when it cannot be a store.
    """
    with store_errors(), opening(path):
        connection = _open_or_create(path)
        if connection.readonly("main"):
            raise OperatorError(f"cannot open the store {path}: it is read-only")
        connection.set_busy_timeout(BUSY_TIMEOUT)
        _enable_write_ahead_log(connection)
        _check_in_place(connection, path)
        for pragma in (
            "synchronous = FULL",
            "cache_size = -131072",
            "foreign_keys = ON",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def _open_or_create(path: Path) -> apsw.Connection:
    # Checked before the database, which is there first when another process creates the store.
    wal = Path(f"{path}-wal")
    has_wal = wal.exists()
    if path.exists():
        return apsw_open(path)
    if has_wal:
        # SQLite would delete it, with the newest events of a store whose database is elsewhere.
        raise OperatorError(
            f"cannot open the store {path}: it is gone, but {wal.name} is there;"
            " move the store back or restore a backup"
        )
    return create(path)


def apsw_open(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> apsw.Connection:
    """Open a file that exists."""
    return apsw.Connection(str(path), flags=flags, statementcachesize=400)


def create(path: Path) -> apsw.Connection:
    """Create the file, readable by its owner only, and open it.

    SQLite creates it. A descriptor of ours must never touch the file: POSIX drops every lock that
    a process holds on a file when it closes any descriptor of it. Without those locks another
    program that closes the store takes itself for the last one, and deletes the write-ahead log
    while this process continues to write to it.
    """
    # SQLite copies the mode of a temporary file, which only its owner can read.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as pattern:
        address = f"{path.absolute().as_uri()}?modeof={quote(pattern.name)}"
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        return apsw.Connection(address, flags=flags, statementcachesize=400)


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Raise OperatorError for what shows that ``path`` cannot be a store."""
    try:
        yield
    except apsw.NotADBError as error:
        raise OperatorError(f"{path} is not a Deploylog store") from error
    except apsw.CantOpenError as error:
        reason = "it is a directory" if path.is_dir() else str(error)
        raise OperatorError(f"cannot open the store {path}: {reason}") from error
    except OSError as error:
        raise OperatorError(f"cannot open the store {path}: {error.strerror}") from error


def _check_in_place(connection: apsw.Connection, path: Path) -> None:
    """Raise OperatorError when another file took the place of the one that SQLite has open."""
    moved = c_int()
    connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, addressof(moved))
    if moved.value:
        connection.close()
        raise OperatorError(f"cannot open the store {path}: it was replaced meanwhile")


def _enable_write_ahead_log(connection: apsw.Connection) -> None:
    """Set the journal mode of the file, which persists."""
    end = time.monotonic() + BUSY_TIMEOUT / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            # Of programs that open a new file together one makes the change, and the others fail
            # at once: the busy timeout does not apply.
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise the driver's errors as StoreUnavailable."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFull(f"the store is full: {error}") from error
    except apsw.Error as error:
        raise StoreUnavailable(f"the store does not answer: {error}") from error


def all_rows(
    connection: apsw.Connection, sql: str, values: Sequence[SqlValue] | dict[str, SqlValue] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement; return all rows."""
    return connection.execute(sql, values).fetchall()


def one_row(
    connection: apsw.Connection, sql: str, values: Sequence[SqlValue] = ()
) -> tuple[Any, ...] | None:
    """Run a statement; return the first row, if there is one."""
    return next(iter(all_rows(connection, sql, values)), None)


def one_value(connection: apsw.Connection, sql: str, values: Sequence[SqlValue] = ()) -> Any:
    """The first column of the only row."""
    [(value,)] = all_rows(connection, sql, values)
    return value


def insert_rows(
    connection: apsw.Connection, into: str, columns: int, values: Sequence[SqlValue]
) -> None:
    """Insert rows of ``columns`` values each with as few statements as possible.

    ``into`` is ``INSERT INTO table``; ``values`` are the values of all rows, row after row.
    """
    start, rows = 0, len(values) // columns
    while rows:
        size = next((size for size in _INSERT_SIZES if size <= rows), rows)
        end = start + size * columns
        connection.execute(_insert_sql(into, columns, size), values[start:end])
        start, rows = end, rows - size


@cache
def _insert_sql(into: str, columns: int, rows: int) -> str:
    row = "(" + ", ".join("?" * columns) + ")"
    return f"{into} VALUES {', '.join([row] * rows)}"
