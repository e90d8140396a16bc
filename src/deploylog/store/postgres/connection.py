"""Connections: open the database, and raise the driver's errors as ours."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from deploylog.errors import InvalidSettings, OperatorError, StoreFull, StoreUnavailable

Connection = psycopg.Connection[tuple[Any, ...]]

#: The oldest version of PostgreSQL that this program knows.
OLDEST = 15

#: The first of the two numbers of each advisory lock of ours.
LOCKS = 0x6465706C

#: Seconds to wait for a lock, such as the one of the appenders.
LOCK_SECONDS = 10

#: What a connection gets unless the URL says otherwise. A host that is gone is noticed in seconds,
#: and of several hosts the primary is chosen.
_DEFAULTS = {
    "application_name": "deploylog",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    # Not read-write: of a primary that takes no writes for now, everything can be read.
    "target_session_attrs": "primary",
    "tcp_user_timeout": "10000",
}

# One plan for each statement, which an index supports whatever the tables hold: planning over many
# partitions takes milliseconds, and statistics of a new table say nothing.
_SET_UP = f"""
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET jit = off;
SET lock_timeout = '{LOCK_SECONDS}s';
SET synchronous_commit = on
"""

_SET_UP_APPENDER = "SET idle_in_transaction_session_timeout = '5s'"


def conninfo_of(url: str) -> str:
    """What the driver connects with. Raises InvalidSettings."""
    try:
        wanted = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise InvalidSettings(f"the store's URL is not valid: {first_line(error)}") from error
    return make_conninfo(
        url, **{name: value for name, value in _DEFAULTS.items() if name not in wanted}
    )


def name_of(conninfo: str) -> str:
    """The database, without the password."""
    parts = conninfo_to_dict(conninfo)
    host, name = parts.get("host") or "", parts.get("dbname") or parts.get("user") or ""
    return f"postgresql://{host if not str(host).startswith('/') else ''}/{name}"


def connect(conninfo: str) -> Connection:
    """Connect. Raises StoreUnavailable."""
    with store_errors():
        connection = psycopg.connect(conninfo, autocommit=True, row_factory=tuple_row)
        try:
            connection.execute(_SET_UP)
        except BaseException:
            connection.close()
            raise
        return connection


async def connect_listener(conninfo: str) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
    """Connect to hear of commits. Raises psycopg.Error."""
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    try:
        # Of a new table nothing is known: each look at the head would read all of it.
        await connection.execute(_SET_UP)
    except BaseException:
        await connection.close()
        raise
    return connection


def connect_appender(conninfo: str) -> Connection:
    """Connect to append: a process that stalls must not hold the lock.

    It never gets a ``statement_timeout``, and is never cancelled: a COMMIT that is cancelled while
    it waits for a standby is visible here, and may be lost after a failover.
    """
    connection = connect(conninfo)
    with store_errors():
        connection.execute(_SET_UP_APPENDER)
    return connection


def check_server(connection: Connection) -> None:
    """Raise OperatorError when the server cannot have a store."""
    version = connection.info.server_version
    if version < OLDEST * 10_000:
        raise OperatorError(
            f"the store needs PostgreSQL {OLDEST} or newer; the server is {version // 10_000}"
        )
    encoding = one_value(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        raise OperatorError(f"the store needs a database in UTF8; this one is in {encoding}")


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise the driver's errors as StoreUnavailable."""
    try:
        yield
    except errors.DiskFull as error:
        raise StoreFull(f"the store is full: {first_line(error)}") from error
    except psycopg.Error as error:
        raise StoreUnavailable(f"the store does not answer: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The driver's own words, without the hints and contexts that follow them."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


#: What a statement raises when a page of a table or of an index is damaged.
CORRUPT = (errors.DataCorrupted, errors.IndexCorrupted, errors.InternalError_)


def all_rows(
    connection: Connection, sql: str, values: Sequence[object] | dict[str, object] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement; return all rows: none when a value holds a NUL, which no text here does."""
    if _hold_nul(values.values() if isinstance(values, dict) else values):
        return []
    cursor = connection.execute(sql, values, binary=True)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


#: A statement, and its values.
Statement = tuple[str, Sequence[object]]


def rows_of_each(
    connection: Connection, statements: Sequence[Statement]
) -> list[list[tuple[Any, ...]]]:
    """Run some statements in one round trip; return the rows of each, as ``all_rows`` does."""
    with connection.pipeline():
        cursors = [
            None if _hold_nul(values) else connection.execute(sql, values, binary=True)
            for sql, values in statements
        ]
    return [cursor.fetchall() if cursor is not None else [] for cursor in cursors]


def _hold_nul(values: Iterable[object]) -> bool:
    for value in values:
        if isinstance(value, str):
            if "\0" in value:
                return True
        elif isinstance(value, list) and value and isinstance(value[0], str) and _hold_nul(value):
            return True
    return False


def without_nul(text: str | None) -> str | None:
    """``text`` as it can be stored: what others answer may hold anything."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text is not None else None


def one_row(
    connection: Connection, sql: str, values: Sequence[object] | dict[str, object] = ()
) -> tuple[Any, ...] | None:
    """Run a statement; return the first row, if there is one."""
    return next(iter(all_rows(connection, sql, values)), None)


def one_value(connection: Connection, sql: str, values: Sequence[object] = ()) -> Any:
    """The first column of the only row."""
    [(value,)] = all_rows(connection, sql, values)
    return value


def change(
    connection: Connection, sql: str, values: Sequence[object] | dict[str, object] = ()
) -> int:
    """Run a statement that returns no rows; return how many it changed."""
    return connection.execute(sql, values).rowcount
