"""Copies of stores in PostgreSQL: what is read and written."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from graphlib import TopologicalSorter
from itertools import count
from typing import Any

import msgspec
import psycopg
from psycopg import errors

from deploylog.errors import OperatorError
from deploylog.events.index.identities import digest_of
from deploylog.store.copying import EVENTS, MARK, Cell, Mark, Row, Tables, unfinished
from deploylog.store.migrations import migrations
from deploylog.store.postgres.append import INTO_IDENTITIES, Into, copy_rows
from deploylog.store.postgres.connection import (
    LOCKS,
    Connection,
    all_rows,
    change,
    connect,
    first_line,
    name_of,
    one_row,
    one_value,
    store_errors,
)
from deploylog.store.postgres.index import PostgresIndexTables
from deploylog.store.postgres.partitions import SIZE, create_partition
from deploylog.store.postgres.schema import schema_version
from deploylog.store.postgres.sealing import write_segment
from deploylog.store.sealing import seal_full_segments

#: What is derived from other tables.
_INDEX = ("segments", "segment_terms", "segment_buckets", "segment_pages")

#: That, the mark, and what says which migrations the schema had.
_NOT_COPIED = {MARK, "identities", "migrations", *_INDEX}

#: Seconds for which a connection may take to end.
_CLOSING_SECONDS = 2.0

#: Rows that the server sends at once.
_FETCHED = 500


class PostgresCopy:
    """A store in PostgreSQL, as the source or the target of a copy."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection
        self._cursors = count()

    def tables(self) -> Tables:
        return {name: sorted(types) for name, types in self._types.items()}

    @cached_property
    def _types(self) -> Mapping[str, Mapping[str, str]]:
        """The type of each column of each table."""
        tables: dict[str, dict[str, str]] = {}
        for table, column, type_ in all_rows(self._connection, _COLUMNS):
            if table not in _NOT_COPIED:
                tables.setdefault(table, {})[column] = type_
        return tables

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        [(key,)] = all_rows(self._connection, _KEY, (table,))
        order = f"ORDER BY {_quoted(key)}" if key else ""
        return self._select(f"SELECT {_quoted(columns)} FROM {table} {order}", ())

    def events(self, columns: Sequence[str], low: int, high: int) -> Iterator[Row]:
        where = "WHERE position > %s AND position <= %s ORDER BY position"
        return self._select(f"SELECT {_quoted(columns)} FROM {EVENTS} {where}", (low, high))

    def _select(self, sql: str, values: Sequence[object]) -> Iterator[Row]:
        """The rows, of which the server holds those that were not asked for yet."""
        name = f"copy_{next(self._cursors)}"
        with (
            self._connection.transaction(),
            self._connection.cursor(name, binary=True) as cursor,
        ):
            cursor.itersize = _FETCHED
            for row in cursor.execute(sql, values):
                yield tuple(map(_cell, row))

    def transaction(self) -> AbstractContextManager[object]:
        return self._connection.transaction()

    def mark(self) -> Mark | None:
        row = one_row(self._connection, "SELECT epoch, whole FROM copied")
        return Mark(epoch=row[0], whole=row[1]) if row is not None else None

    def set_mark(self, mark: Mark) -> None:
        change(self._connection, "DELETE FROM copied")
        change(self._connection, "INSERT INTO copied VALUES (%s, %s)", (mark.epoch, mark.whole))

    def newest(self) -> int:
        return int(one_value(self._connection, "SELECT coalesce(max(position), 0) FROM events"))

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        types = [self._types[table][column] for column in columns]
        into = Into(table, _quoted(columns), types)
        if table == EVENTS:
            self._prepare_for(columns, rows)
        try:
            copy_rows(self._connection, into, [tuple(map(_value, row, types)) for row in rows])
        except errors.DataError as error:
            raise OperatorError(f"cannot copy the {table}: {first_line(error)}") from error

    def _prepare_for(self, columns: Sequence[str], events: Sequence[Row]) -> None:
        """Create the partitions of the events, and insert their identities."""
        keys = [columns.index(name) for name in ("position", "source", "producer_id")]
        identities = []
        for event in events:
            position, source, producer_id = (event[key] for key in keys)
            assert isinstance(position, int)
            if isinstance(source, str) and isinstance(producer_id, str):
                identities.append((digest_of(source, producer_id), position))
        positions = [int(event[keys[0]] or 0) for event in events]
        for number in range(positions[0] // SIZE, positions[-1] // SIZE + 1):
            create_partition(self._connection, number)
        copy_rows(self._connection, INTO_IDENTITIES, identities)

    def delete_events(self, low: int, high: int) -> None:
        for table in (EVENTS, "identities"):
            sql = f"DELETE FROM {table} WHERE position > %s AND position <= %s"
            change(self._connection, sql, (low, high))

    def drop_index(self) -> None:
        for name in _INDEX:
            change(self._connection, f"DELETE FROM {name}")

    def replace(self, tables: Tables, rows: Callable[[str], Iterable[Sequence[Row]]]) -> None:
        ordered = [name for name in self._referenced_first() if name in tables]
        for name in reversed(ordered):
            change(self._connection, f"DELETE FROM {name}")
        for name in ordered:
            for batch in rows(name):
                self.insert(name, tables[name], batch)
        for table, column in all_rows(self._connection, _IDENTITIES):
            # What is added from now on is numbered after what is there.
            change(self._connection, _CONTINUE.format(table=table, column=column))

    def _referenced_first(self) -> Iterator[str]:
        order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(self._types, ()))
        for table, referenced in all_rows(self._connection, _REFERENCES):
            order.add(table, referenced)
        return iter(tuple(order.static_order()))

    def seal(self) -> None:
        tables, connection = PostgresIndexTables(), self._connection
        seal_full_segments(tables, connection, partial(write_segment, connection))


@contextmanager
def reading_copy(conninfo: str) -> Iterator[PostgresCopy]:
    """The store, which services may use meanwhile, as it is at one moment."""
    with store_errors(), connect(conninfo) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        name = name_of(conninfo)
        if schema_version(connection) != migrations("postgres")[-1].number:
            raise OperatorError(f"{name} has another schema: run deploylog migrate first")
        yield PostgresCopy(name, connection)


@contextmanager
def writing_copy(conninfo: str) -> Iterator[PostgresCopy]:
    """The store, which nobody else may use meanwhile. Raises OperatorError when one does."""
    name = name_of(conninfo)
    with store_errors(), connect(conninfo) as connection:
        try:
            connection.execute(f"SELECT pg_advisory_lock({LOCKS}, 3)")
        except psycopg.errors.LockNotAvailable as error:
            raise OperatorError(f"another deploylog copy to {name} is running") from error
        if _is_used(connection):
            raise OperatorError(f"{name} is in use: stop every program that has it open")
        yield PostgresCopy(name, connection)


def accept_copy(conninfo: str, connection: Connection) -> None:
    """Let a copy be a store of its own from now on. Raises OperatorError unless it is whole."""
    with connection.transaction():
        mark = PostgresCopy("", connection).mark()
        if mark is not None and not mark.whole:
            raise unfinished(name_of(conninfo))
        if mark is not None:
            change(connection, "DELETE FROM copied")


def _is_used(connection: Connection) -> bool:
    """Whether another connection stays for longer than one that is just being closed."""
    end = time.monotonic() + _CLOSING_SECONDS
    while is_used := bool(one_value(connection, _IS_USED)):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return is_used


def _cell(value: Any) -> Cell:
    """A value as SQLite has it."""
    if isinstance(value, list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return int(value)
    cell: Cell = value
    return cell


def _value(cell: Cell, type_: str) -> object:
    """A value of this type."""
    if cell is None:
        return None
    if type_.endswith("[]"):
        assert isinstance(cell, str)
        return msgspec.json.decode(cell)
    return bool(cell) if type_ == "boolean" else cell


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


_COLUMNS = """
SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname
"""

_KEY = """
SELECT ARRAY(
    SELECT a.attname::text FROM pg_index AS i, unnest(i.indkey) WITH ORDINALITY AS key (number, n)
    JOIN pg_attribute AS a ON a.attrelid = to_regclass(%s) AND a.attnum = key.number
    WHERE i.indrelid = a.attrelid AND i.indisprimary ORDER BY key.n
)
"""

_REFERENCES = """
SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
"""

_IDENTITIES = """
SELECT attrelid::regclass::text, attname::text FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
WHERE a.attidentity <> '' AND c.relnamespace = current_schema()::regnamespace
"""

_CONTINUE = """
SELECT setval(pg_get_serial_sequence('{table}', '{column}'), coalesce(max({column}), 1),
    max({column}) IS NOT NULL)
FROM {table}
"""

_IS_USED = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'deploylog' AND pid <> pg_backend_pid()
"""
