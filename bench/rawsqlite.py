"""Raw SQLite as a peer: the rows of a store, inserted into a fresh file as fast as possible.

One process, no HTTP and no parsing: the limit of the disk and of SQLite. Durability and caches are
those of Deploylog: WAL, ``synchronous=FULL``, 128 MiB of cache, a checkpoint every 4,000 pages.
Tables and indexes are frozen in ``frozen_schema.sql``: those of Deploylog before its index.
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

_FROZEN = Path(__file__).with_name("frozen_schema.sql")

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
    """Read every row of a store that no process writes to, as the frozen schema holds it."""
    frozen, connection = sqlite3.connect(":memory:"), sqlite3.connect(store)
    try:
        frozen.executescript(_FROZEN.read_text(encoding="utf-8"))
        statements = _schema(frozen, "table")
        events = _read_table(frozen, connection, "events")
        derived = _derive(events)
        others = {
            table: derived.get(table) or _read_table(frozen, connection, table)
            for table in statements
            if table not in ("events", "postings")
        }
        return Rows(
            tables=tuple(statements.values()),
            indexes=tuple(_schema(frozen, "index").values()),
            events=events,
            postings=derived["postings"],
            others=[(_insert(table, rows), rows) for table, rows in others.items() if rows],
        )
    finally:
        frozen.close()
        connection.close()


def _read_table(
    frozen: sqlite3.Connection, connection: sqlite3.Connection, table: str
) -> list[Row]:
    """The rows of a table of the store, in the frozen order of columns; none if it has no such
    table.
    """
    if table not in (*_schema(connection, "table"), *_schema(connection, "view")):
        return []
    columns = [row[1] for row in frozen.execute(f'PRAGMA table_info("{table}")')]
    names = ", ".join(f'"{column}"' for column in columns)
    return connection.execute(f'SELECT {names} FROM "{table}" ORDER BY 1').fetchall()


def _derive(events: Sequence[Row]) -> dict[str, list[Row]]:
    """What the frozen schema had of events beside their rows: a posting for each prefix of each
    scope, the groups, and the times that each block of 1,024 positions spans.
    """
    ids: dict[str, int] = {}
    postings: list[Row] = []
    groups: list[Row] = []
    spans: dict[int, tuple[int, int]] = {}
    for event in events:
        position, time, scopes, names = event[0], event[2], event[7], event[8]
        paths = {path for scope in msgspec.json.decode(scopes) for path in _prefixes(scope)}
        postings += sorted((ids.setdefault(path, len(ids) + 1), position) for path in paths)
        groups += [(group, position) for group in msgspec.json.decode(names or "[]")]
        earliest, latest = spans.get(position >> 10, (time, time))
        spans[position >> 10] = min(earliest, time), max(latest, time)
    return {
        "scopes": [(id, path) for path, id in ids.items()],
        "postings": postings,
        "event_groups": groups,
        "spans": [(block, *times) for block, times in spans.items()],
    }


def _prefixes(scope: str) -> list[str]:
    parts = scope.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


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
