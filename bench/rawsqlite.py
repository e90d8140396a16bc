"""Raw SQLite as a peer: the rows of a store, inserted into a fresh file as fast as possible.

One process, no HTTP and no parsing: the limit of the disk and of SQLite. Durability and caches are
those of Deploylog: WAL, ``synchronous=FULL``, 128 MiB of cache, a checkpoint every 4,000 pages.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec

Row = tuple[Any, ...]

#: The statements of one transaction, each with its rows.
_Commit = list[tuple[str, list[Row]]]

_Connection = apsw.Connection | sqlite3.Connection
_Connect = Callable[[str], _Connection]

_EVENTS_A_COMMIT = 1000
_BARE_POSTINGS = 3
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-131072",
    "PRAGMA wal_autocheckpoint=4000",
)


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a store, events in order of position."""

    tables: tuple[str, ...]
    indexes: tuple[str, ...]
    events: list[Row]
    #: ``(scope_id, position)``, by position.
    postings: list[Row]
    #: Of the tables that have few rows, the insert and its rows.
    others: list[tuple[str, list[Row]]]


def read_rows(store: Path) -> Rows:
    """Read the schema and every row of a store that no process writes to."""
    connection = sqlite3.connect(store)
    try:
        statements = _schema(connection, "table")
        return Rows(
            tables=tuple(statements.values()),
            indexes=tuple(_schema(connection, "index").values()),
            events=connection.execute("SELECT * FROM events ORDER BY position").fetchall(),
            postings=connection.execute(
                "SELECT scope_id, position FROM postings ORDER BY position, scope_id"
            ).fetchall(),
            others=[
                (_insert(table, rows), rows)
                for table in statements
                if table not in ("events", "postings")
                and (rows := connection.execute(f'SELECT * FROM "{table}"').fetchall())
            ],
        )
    finally:
        connection.close()


def bare(rows: Rows) -> Rows:
    """The events and three postings of each, and no index but the primary keys."""
    reduced: list[Row] = []
    for _, postings in _by_position(rows.postings):
        reduced += postings[-_BARE_POSTINGS:]
    return msgspec.structs.replace(rows, indexes=(), postings=reduced, others=[])


def bulk_rate(rows: Rows, directory: Path) -> float:
    """Events a second at 1,000 a commit, with the faster of the two drivers."""
    commits = list(_commits(rows, _EVENTS_A_COMMIT))
    took = (_timed(commits, rows, directory, connect) for connect in _DRIVERS)
    return len(rows.events) / min(took)


def single_rate(rows: Rows, directory: Path, events: int) -> float:
    """Events a second at one a commit, of the first ``events``."""
    commits = list(islice(_commits(rows, 1), events))
    took = (_timed(commits, rows, directory, connect) for connect in _DRIVERS)
    return len(commits) / min(took)


def _commits(rows: Rows, events_a_commit: int) -> Iterator[_Commit]:
    insert_event, insert_posting = _insert("events", rows.events), _insert("postings", [(0, 0)])
    postings = (found for _, found in _by_position(rows.postings))
    first = rows.others
    for start in range(0, len(rows.events), events_a_commit):
        events = rows.events[start : start + events_a_commit]
        own_postings = [row for found in islice(postings, len(events)) for row in found]
        yield [*first, (insert_event, events), (insert_posting, own_postings)]
        first = []


def _by_position(postings: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    found: dict[int, list[Row]] = {}
    for row in postings:
        found.setdefault(row[1], []).append(row)
    yield from found.items()


def _schema(connection: sqlite3.Connection, kind: str) -> dict[str, str]:
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master"
        " WHERE type = ? AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
        (kind,),
    )
    return dict(found.fetchall())


def _insert(table: str, rows: list[Row]) -> str:
    return f'INSERT INTO "{table}" VALUES ({",".join("?" * len(rows[0]))})'


def _timed(commits: list[_Commit], rows: Rows, directory: Path, connect: _Connect) -> float:
    with TemporaryDirectory(dir=directory) as fresh:
        connection = connect(str(Path(fresh, "peer.db")))
        try:
            for statement in (*_PRAGMAS, *rows.tables, *rows.indexes):
                connection.execute(statement)
            start = time.perf_counter()
            for commit in commits:
                _insert_all(connection, commit)
            return time.perf_counter() - start
        finally:
            connection.close()


def _insert_all(connection: _Connection, commit: _Commit) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement, rows in commit:
        connection.executemany(statement, rows)
    connection.execute("COMMIT")


def _connect_sqlite3(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


_DRIVERS: tuple[_Connect, ...] = (apsw.Connection, _connect_sqlite3)
