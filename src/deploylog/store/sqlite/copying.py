"""Copies of stores in SQLite: what is read and written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path

import apsw

from deploylog.errors import OperatorError
from deploylog.store.copying import EVENTS, MARK, Mark, Row, Tables, unfinished
from deploylog.store.migrations import migrations
from deploylog.store.rows import COLUMNS
from deploylog.store.sealing import seal_full_segments
from deploylog.store.sqlite.connection import all_rows, connect, one_row, one_value, store_errors
from deploylog.store.sqlite.dictionary import Dictionary, drop_unused
from deploylog.store.sqlite.index import SqliteIndexTables
from deploylog.store.sqlite.sealing import seal_segment

#: What is derived from the events.
_INDEX = {
    "segments",
    "segment_terms",
    "segment_buckets",
    "segment_pages",
    "segment_identities",
}

#: Nor are the tables that the view of the events is made of.
_NOT_COPIED = {MARK, *_INDEX, "event_rows", "event_contexts", "event_kinds"}

#: How long to wait for a program that has the target open, in milliseconds.
_BUSY_TIMEOUT = 1_000


class SqliteCopy:
    """A store in SQLite, as the source or the target of a copy."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.name = f"sqlite:///{path}"
        self._connection = connection

    def tables(self) -> Tables:
        names = [row[0] for row in all_rows(self._connection, _TABLES)]
        return {name: self._columns(name) for name in names if name not in _NOT_COPIED}

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        yield from self._connection.execute(f"{_select(table, columns)} {self._order(table)}")

    def events(self, columns: Sequence[str], low: int, high: int) -> Iterator[Row]:
        where = "WHERE position > ? AND position <= ? ORDER BY position"
        yield from self._connection.execute(f"{_select(EVENTS, columns)} {where}", (low, high))

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection

    def mark(self) -> Mark | None:
        row = one_row(self._connection, "SELECT epoch, whole FROM copied")
        return Mark(epoch=row[0], whole=bool(row[1])) if row is not None else None

    def set_mark(self, mark: Mark) -> None:
        self._connection.execute("DELETE FROM copied")
        self._connection.execute("INSERT INTO copied VALUES (?, ?)", (mark.epoch, mark.whole))

    def newest(self) -> int:
        return int(one_value(self._connection, "SELECT coalesce(max(position), 0) FROM event_rows"))

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if table == EVENTS:
            self._insert_events(columns, rows)
            return
        values = ", ".join("?" * len(columns))
        into = f"INSERT INTO {table} ({_quoted(columns)}) VALUES ({values})"
        self._connection.executemany(into, rows)

    def _insert_events(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        in_order = itemgetter(*(columns.index(name) for name in (*COLUMNS, "checksum")))
        dictionary = Dictionary(self._connection)
        dictionary.insert([in_order(row) for row in rows])

    def delete_events(self, low: int, high: int) -> None:
        sql = "DELETE FROM event_rows WHERE position > ? AND position <= ?"
        self._connection.execute(sql, (low, high))
        drop_unused(self._connection, low, high)

    def drop_index(self) -> None:
        for name in _INDEX:
            self._connection.execute(f"DELETE FROM {name}")

    def replace(self, tables: Tables, rows: Callable[[str], Iterable[Sequence[Row]]]) -> None:
        self._connection.execute("PRAGMA defer_foreign_keys = ON")
        for name, columns in tables.items():
            self._connection.execute(f"DELETE FROM {name}")
            for batch in rows(name):
                self.insert(name, columns, batch)

    def seal(self) -> None:
        tables, connection = SqliteIndexTables(), self._connection
        seal_full_segments(tables, connection, partial(seal_segment, connection))

    def _columns(self, table: str) -> list[str]:
        return sorted(row[1] for row in all_rows(self._connection, f"PRAGMA table_info({table})"))

    def _order(self, table: str) -> str:
        rows = all_rows(self._connection, f"PRAGMA table_info({table})")
        key = [row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5]]
        return f"ORDER BY {_quoted(key)}" if key else ""


@contextmanager
def reading_copy(path: Path) -> Iterator[SqliteCopy]:
    """The store, which services may use meanwhile, as it is at one moment."""
    with store_errors(), closing(connect(path)) as connection:
        connection.execute("BEGIN")
        _check_schema(path, connection)
        try:
            yield SqliteCopy(path, connection)
        except UnicodeDecodeError as error:
            raise OperatorError(f"{path} is damaged: run deploylog verify") from error


@contextmanager
def writing_copy(path: Path) -> Iterator[SqliteCopy]:
    """The store, which nobody else may open meanwhile. Raises OperatorError when one has."""
    with store_errors(), closing(connect(path)) as connection:
        connection.set_busy_timeout(_BUSY_TIMEOUT)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            with connection:
                connection.execute("DELETE FROM copied WHERE false")
        except apsw.BusyError as error:
            raise OperatorError(f"{path} is in use: stop every program that has it open") from error
        yield SqliteCopy(path, connection)


def accept_copy(path: Path, connection: apsw.Connection) -> None:
    """Let a copy be a store of its own from now on. Raises OperatorError unless it is whole."""
    with connection:
        mark = SqliteCopy(path, connection).mark()
        if mark is not None and not mark.whole:
            raise unfinished(str(path))
        if mark is not None:
            connection.execute("DELETE FROM copied")


def _check_schema(path: Path, connection: apsw.Connection) -> None:
    if int(one_value(connection, "PRAGMA user_version")) != len(migrations("sqlite")):
        raise OperatorError(f"{path} has another schema: run deploylog migrate first")


def _select(table: str, columns: Sequence[str]) -> str:
    return f"SELECT {_quoted(columns)} FROM {table}"


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


_TABLES = """
SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'
"""
