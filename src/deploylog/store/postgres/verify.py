"""Verification: find what contradicts the recorded events, and mend what is derived from them.

Everything is read in one transaction, so that a running service does not interfere. Stacks and
deployments are derived again, in a SQLite database in memory, and compared, except those whose
first events are no longer retained.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import apsw
import msgspec

from deploylog.deployments.projection import project
from deploylog.errors import DeploylogError, OperatorError
from deploylog.events.event import Event
from deploylog.events.index.blobs import DamagedSegment, verified
from deploylog.events.index.entries import unpack_entries
from deploylog.events.index.identities import digest_of
from deploylog.events.index.sealed import Sealed, seal, unpack_bitmap, unpack_page
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.store.catalog import CatalogChanges, catalog_lookups
from deploylog.store.contract import Finding, Verified
from deploylog.store.findings import Findings
from deploylog.store.live_index import grown_from_rows
from deploylog.store.migrations import migrations
from deploylog.store.postgres.connection import (
    CORRUPT,
    LOCKS,
    Connection,
    all_rows,
    change,
    connect,
    first_line,
    store_errors,
)
from deploylog.store.postgres.index import PostgresIndexTables
from deploylog.store.postgres.pages import whole_of
from deploylog.store.postgres.rows import rows_at
from deploylog.store.postgres.schema import schema_version
from deploylog.store.postgres.sealing import replace_segment
from deploylog.store.rows import WHOLE, json_text
from deploylog.store.sqlite.deployments import load_catalog, write_catalog

#: Events read at once.
_PAGE = 1_000

_DAMAGE = {
    "checksum": "the content differs from what was recorded (checksum mismatch)",
    "unreadable": "the content cannot be read",
}


def verify_database(
    conninfo: str,
    *,
    found: Callable[[Finding], None],
    progress: Callable[[int, int], None],
    mend: bool,
) -> Verified:
    """Verify the store in the database; ``progress`` gets the events read, and all events."""
    with connect(conninfo) as connection, store_errors(), closing(apsw.Connection("")) as scratch:
        newest, version = migrations("postgres")[-1].number, schema_version(connection)
        if version != newest:
            raise OperatorError(
                f"the store has schema version {version}, and this program verifies {newest}:"
                " run deploylog migrate, or use the program that the service runs"
            )
        findings = Findings(found, mends=mend)
        for statement in _BEGIN_TO_MEND if mend else _BEGIN:
            connection.execute(statement)
        result = _Verification(connection, scratch, findings, progress).run()
        findings.mend()
        connection.execute("COMMIT")
        return result


class _Verification:
    """One verification."""

    def __init__(
        self,
        connection: Connection,
        scratch: apsw.Connection,
        findings: Findings,
        progress: Callable[[int, int], None],
    ) -> None:
        """``scratch`` is an empty database, to derive the catalog in."""
        self._connection = connection
        self._scratch = scratch
        self._find = findings.add
        self._findings = findings
        self._progress = progress
        self._events = self._unchecked = self._compared = self._recorded = 0
        self._damaged: set[int] = set()
        [(self._epoch, self._head, self._floor)] = all_rows(
            connection, "SELECT epoch, head, floor FROM log"
        )

    def run(self) -> Verified:
        """Run all checks, one after the other."""
        for step in migrations("sqlite"):
            self._scratch.execute(step.sql)
        # Without stacks whose events are no longer retained.
        self._scratch.execute("PRAGMA foreign_keys = OFF; BEGIN")
        for check in (
            self._read_events,
            self._segments,
            self._requests,
            partial(self._compare, "stack", _STACKS),
            partial(self._compare, "deployment", _DEPLOYMENTS),
        ):
            self._survive(check)
        [(number,)] = all_rows(self._connection, _COUNT)
        return Verified(
            events=self._events,
            unchecked=self._unchecked,
            compared=self._compared,
            not_compared=max(number - self._compared, 0),
            findings=self._findings.count,
            mended=self._findings.mended,
        )

    def _survive(self, check: Callable[[], None]) -> None:
        """Run a check; where the database is too broken to finish it, that is a finding."""
        try:
            with self._connection.transaction():
                check()
        except CORRUPT as error:
            self._find("database", "content", f"cannot be read to the end: {first_line(error)}")

    # Events

    def _read_events(self) -> None:
        total, last = self._head - self._floor, 0
        while rows := self._next(last):
            self._positions(last, [row[0] for row in rows])
            last = rows[-1][0]
            events, damaged = whole_of(rows, self._epoch)
            for each in damaged:
                self._damaged.add(each.position)
                self._find("event", each.position, _DAMAGE[each.reason])
            self._unchecked += sum(row[-1] is None for row in rows)
            self._events += len(rows)
            self._order(events)
            self._identities(events)
            self._replay(events)
            self._progress(self._events, total)
        if last < self._head and last:
            self._find("log", self._head, f"the newest event is {last}")

    def _next(self, last: int) -> list[tuple[Any, ...]]:
        """The next rows. Of those in a damaged page each is a finding."""
        try:
            with self._connection.transaction():
                return all_rows(self._connection, _NEXT, (last,))
        except CORRUPT:
            start = max(last, self._floor) + 1
            stop = min(start + _PAGE, self._head + 1)
            return [row for position in range(start, stop) for row in self._row(position)]

    def _row(self, position: int) -> list[tuple[Any, ...]]:
        try:
            with self._connection.transaction():
                return rows_at(self._connection, (position,))
        except CORRUPT as error:
            self._damaged.add(position)
            self._find("event", position, f"cannot be read: {first_line(error)}")
            return []

    def _positions(self, last: int, positions: Sequence[int]) -> None:
        """Positions have no gaps, so nothing can be missing unseen."""
        expected = last + 1 if last else positions[0]
        for position in positions:
            if position != expected and expected not in self._damaged:
                self._find("log", expected, f"there is no event before {position}")
            expected = position + 1
        if positions[0] <= self._floor:
            self._find("log", positions[0], f"is at or below the floor {self._floor}")
        if positions[-1] > self._head:
            self._find("log", positions[-1], f"is beyond the head {self._head}")

    def _order(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.recorded < self._recorded:
                self._find("event", event.position, "was recorded before the event before it")
            self._recorded = max(self._recorded, event.recorded)

    def _identities(self, events: Sequence[Event]) -> None:
        wanted = [
            (digest_of(event.source, event.producer_id), event.position)
            for event in events
            if event.producer_id is not None
        ]
        if wanted:
            values = [list(column) for column in zip(*wanted, strict=True)]
            for digest, position in all_rows(self._connection, _WITHOUT_IDENTITY, values):
                mend = partial(change, self._connection, _MEND_IDENTITY, (digest, position))
                self._find("identity", position, "its producer's id is not found", mend)

    def _replay(self, events: Sequence[Event]) -> None:
        changes = []
        for event in events:
            try:
                change = project(event)
            except DeploylogError as error:
                self._find("event", event.position, error.message)
            else:
                changes += [change] if change is not None else []
        catalog = CatalogChanges(load_catalog(self._scratch, catalog_lookups(changes)))
        catalog.replay(changes)
        write_catalog(self._scratch, catalog.writes())

    # The index and requests

    def _segments(self) -> None:
        for (number,) in all_rows(self._connection, "SELECT number FROM segments ORDER BY number"):
            first = number * SEGMENT_SIZE
            is_whole = not self._floor or self._floor < first
            if is_whole and not any(first <= p < first + SEGMENT_SIZE for p in self._damaged):
                expected = seal(grown_from_rows(PostgresIndexTables(), self._connection, number))
                mend = partial(replace_segment, self._connection, number)
                for what in self._differences(number, expected):
                    self._find("segment", number, what, mend)

    def _differences(self, number: int, expected: Sealed) -> Iterator[str]:
        parts: tuple[tuple[str, str, Any, Callable[[bytes], Any]], ...] = (
            ("term", _TERMS, expected.bitmaps, unpack_bitmap),
            ("bucket", _BUCKETS, expected.buckets, unpack_entries),
            ("page of terms", _PAGES, expected.pages, unpack_page),
        )
        for part, sql, pairs, unpack in parts:
            stored, right = dict(all_rows(self._connection, sql, (number,))), dict(pairs)
            for key in {**stored, **right}:
                if key not in stored or key not in right:
                    yield f"{part} {key!r} is wrong"
                elif stored[key] != right[key]:
                    yield from self._difference(f"{part} {key!r}", stored[key], right[key], unpack)
        [(times,)] = all_rows(
            self._connection, "SELECT times FROM segments WHERE number = %s", (number,)
        )
        if times != expected.times:
            yield "the times of its blocks are wrong"

    def _difference(
        self, what: str, stored: bytes, right: bytes, unpack: Callable[[bytes], Any]
    ) -> Iterator[str]:
        try:
            found = unpack(verified(stored, 0))
        except DamagedSegment:
            yield f"{what} is damaged (checksum mismatch)"
        else:
            if found != unpack(verified(right, 0)):
                yield f"{what} is wrong"

    def _requests(self) -> None:
        for key, positions, newest in all_rows(self._connection, _REQUESTS):
            if (right := max(positions, default=0)) != newest or newest > self._head:
                values = (min(right, self._head), key)
                mend = partial(change, self._connection, _MEND_REQUEST, values)
                self._find("request", key, "its newest position is wrong", mend)

    # Stacks and deployments

    def _compare(self, part: str, sql: str) -> None:
        """Compare what the events imply with what is stored."""
        cursor = self._scratch.execute(sql)
        for expected in cursor:
            self._compared += 1
            names = [each[0] for each in cursor.description]
            mend = partial(_put_row, self._connection, f"{part}s", names, expected)
            rows = all_rows(
                self._connection, f"SELECT * FROM ({sql}) AS c WHERE id = %s", (expected[0],)
            )
            if not rows:
                self._find(part, expected[0], "is missing", mend)
                continue
            stored = [json_text(value) if isinstance(value, list) else value for value in rows[0]]
            wrong = [n for n, a, b in zip(names, expected, stored, strict=True) if a != b]
            if wrong:
                what = f"contradicts its events: {', '.join(wrong)}"
                self._find(part, expected[0], what, mend)


def _put_row(
    connection: Connection, table: str, names: Sequence[str], row: Sequence[object]
) -> None:
    """Put the row of an id, as SQLite has it, into the place of what is stored."""
    values = [
        msgspec.json.decode(str(value)) if name in _ARRAYS else value
        for name, value in zip(names, row, strict=True)
    ]
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join(["%s"] * len(names))
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names)
    sql = f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET"
    change(connection, f"{sql} {changes}", values)


#: Columns that are arrays here, and JSON in SQLite.
_ARRAYS = ("scopes", "groups")

_BEGIN = ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",)

# The locks of those who append and of those who seal: what is read does not change.
_BEGIN_TO_MEND = (
    "BEGIN",
    f"SELECT pg_advisory_xact_lock({LOCKS}, 1)",
    f"SELECT pg_advisory_xact_lock({LOCKS}, 2)",
)


_NEXT = f"SELECT {WHOLE} FROM events AS e WHERE e.position > %s ORDER BY e.position LIMIT {_PAGE}"

_WITHOUT_IDENTITY = """
SELECT wanted.digest, wanted.position
FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (digest, position)
LEFT JOIN identities AS i ON i.digest = wanted.digest AND i.position = wanted.position
WHERE i.position IS NULL
"""

_MEND_IDENTITY = "INSERT INTO identities (digest, position) VALUES (%s, %s)"

_MEND_REQUEST = "UPDATE requests SET newest = %s WHERE key = %s"

_TERMS = "SELECT term, positions FROM segment_terms WHERE segment = %s"

_BUCKETS = "SELECT bucket, entries FROM segment_buckets WHERE segment = %s"

_PAGES = "SELECT first, terms FROM segment_pages WHERE segment = %s"

_REQUESTS = "SELECT key, positions, newest FROM requests"

_STACKS = 'SELECT id, project, name, created, deleted, scopes, "groups" FROM stacks'

_DEPLOYMENTS = """
SELECT id, project, stack_id, status, started, ended, tool, operation, environment, actor, message,
    added, changed, destroyed, failed, scopes, "groups", details FROM deployments
"""

_COUNT = "SELECT (SELECT count(*) FROM stacks) + (SELECT count(*) FROM deployments)"
