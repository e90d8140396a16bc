"""The backends that the tests run on: how to make a store of each, and how to damage one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import apsw

from support import postgres, sqlite

#: Why a reader finds that an event is damaged.
Reason = Literal["checksum", "unreadable"]


class Backend(NamedTuple):
    """What tests need of a backend beside its stores."""

    #: The package of its migrations, below ``deploylog.store``.
    package: str
    #: The URL of a store that no other path has; it may be migrated already.
    url_at: Callable[[Path], str]
    #: The same, where there is no store yet.
    empty_url_at: Callable[[Path], str]
    #: Changes the events at these positions of that store behind its back.
    damage: Callable[[Path, Sequence[int], Reason], None]
    #: Moves the newest position of that store, which nobody has open, so that few events fill a
    #: segment of the index.
    move_head: Callable[[Path, int], None]
    #: The numbers of the sealed segments of that store, in order.
    sealed: Callable[[Path], list[int]]
    #: Runs a statement on that store behind its back.
    execute: Callable[[Path, str], None]
    #: Flips bits of the fifth byte of every blob of a table's column.
    flip: Callable[[Path, str, str], None]


def _damage_sqlite(path: Path, positions: Sequence[int], reason: Reason) -> None:
    message = {"checksum": "'another'", "unreadable": "CAST(x'ff' AS TEXT)"}[reason]
    connection = apsw.Connection(str(path))
    sql = f"UPDATE event_rows SET message = {message} WHERE position = ?"
    connection.executemany(sql, [(position,) for position in positions])
    connection.close()


def _move_sqlite_head(path: Path, head: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE log SET head = ?", (head,))
    connection.close()


def _sealed_in_sqlite(path: Path) -> list[int]:
    connection = apsw.Connection(str(path))
    numbers = [row[0] for row in connection.execute("SELECT number FROM segments ORDER BY number")]
    connection.close()
    return numbers


def _execute_in_sqlite(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


def _flip_in_sqlite(path: Path, table: str, column: str) -> None:
    flipped = f"CAST(substr({column}, 1, 4) || x'fe' || substr({column}, 6) AS BLOB)"
    _execute_in_sqlite(path, f"UPDATE {table} SET {column} = {flipped}")


def _damage_postgres(path: Path, positions: Sequence[int], reason: Reason) -> None:
    # A text is always UTF-8 here; what is not JSON is found unless a checksum tells it before.
    change = {"checksum": "message = 'another'", "unreadable": "data = '{', checksum = NULL"}
    for position in positions:
        sql = f"UPDATE events SET {change[reason]} WHERE position = %s"
        postgres.run(postgres.url_at(path), sql, position)


def _move_postgres_head(path: Path, head: int) -> None:
    postgres.run(postgres.url_at(path), "UPDATE log SET head = %s", head)


def _sealed_in_postgres(path: Path) -> list[int]:
    sql = "SELECT number FROM segments ORDER BY number"
    return [row[0] for row in postgres.run(postgres.url_at(path), sql)]


def _execute_in_postgres(path: Path, sql: str) -> None:
    postgres.run(postgres.url_at(path), sql)


def _flip_in_postgres(path: Path, table: str, column: str) -> None:
    flipped = f"set_byte({column}, 4, get_byte({column}, 4) # 1)"
    _execute_in_postgres(path, f"UPDATE {table} SET {column} = {flipped}")


class Damage(Protocol):
    """Damages events of the store that a test uses."""

    def __call__(self, *positions: int, reason: Reason = "unreadable") -> None: ...


#: By the scheme of its URLs. What every store must do is tested on each.
BACKENDS = {
    "sqlite": Backend(
        "sqlite",
        sqlite.url_at,
        sqlite.empty_url_at,
        _damage_sqlite,
        _move_sqlite_head,
        _sealed_in_sqlite,
        _execute_in_sqlite,
        _flip_in_sqlite,
    ),
    "postgresql": Backend(
        "postgres",
        postgres.url_at,
        postgres.empty_url_at,
        _damage_postgres,
        _move_postgres_head,
        _sealed_in_postgres,
        _execute_in_postgres,
        _flip_in_postgres,
    ),
}


#: The backend of tests that are about something else.
DEFAULT = "sqlite"

#: The URL of a store for them.
store_url_at = BACKENDS[DEFAULT].url_at

#: The same, where there is no store yet.
empty_store_url_at = BACKENDS[DEFAULT].empty_url_at
