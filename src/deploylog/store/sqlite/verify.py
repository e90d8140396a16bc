"""Verification: find what contradicts the recorded events, and mend what is derived from them.

Everything is read in one transaction, so that a running service does not interfere. What is
derived from events is derived again and compared, except for stacks and deployments whose first
events are no longer retained.
"""

import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import msgspec

from deploylog.deployments.changeset import decode_changes
from deploylog.deployments.projection import project
from deploylog.errors import DeploylogError, OperatorError
from deploylog.events.event import Event
from deploylog.events.store import PAGE_BYTES
from deploylog.store.catalog import CatalogChanges, catalog_lookups
from deploylog.store.contract import Finding, Verified
from deploylog.store.findings import Findings
from deploylog.store.migrations import migrations
from deploylog.store.pages import SIZE, Filling, Match
from deploylog.store.rows import json_text
from deploylog.store.sqlite.connection import (
    BUSY_TIMEOUT,
    SqlValue,
    all_rows,
    apsw_open,
    connect,
    one_value,
    opening,
    store_errors,
)
from deploylog.store.sqlite.deployments import load_catalog, write_catalog
from deploylog.store.sqlite.dictionary import drop_unused, unused
from deploylog.store.sqlite.pages import read_rows
from deploylog.store.sqlite.sealing import reseal_segment
from deploylog.store.sqlite.verify_index import SegmentDifference

#: Events read at once.
_PAGE = 500

#: How many findings of one kind are reported where one query finds them all.
_NAMED = 1_000


def verify_file(
    file: Path,
    *,
    found: Callable[[Finding], None],
    progress: Callable[[int, int], None],
    mend: bool,
) -> Verified:
    """Verify the store in ``file``; ``progress`` gets the events read, and all events."""
    with store_errors(), closing(connect(file) if mend else _open(file)) as connection:
        newest = migrations("sqlite")[-1].number
        version = one_value(connection, "PRAGMA user_version")
        if version != newest:
            raise OperatorError(
                f"the store has schema version {version}, and this program verifies {newest}:"
                " run deploylog migrate, or use the program that the service runs"
            )
        findings = Findings(found, mends=mend)
        with closing(apsw.Connection("")) as scratch:
            connection.execute("BEGIN IMMEDIATE" if mend else "BEGIN")
            verified = _Verification(connection, scratch, findings, progress).run()
            if mend:
                findings.mend()
                connection.execute("COMMIT")
            return verified


def _open(file: Path) -> apsw.Connection:
    with opening(file):
        connection = apsw_open(file, apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(BUSY_TIMEOUT)
    return connection


class _Verification:
    """One verification."""

    def __init__(
        self,
        connection: apsw.Connection,
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
        self._events = 0
        self._damaged: set[int] = set()
        self._unchecked = 0
        self._recorded = 0
        self._compared = 0
        [(self._epoch, self._head, self._floor, self._watermark)] = all_rows(
            connection, "SELECT epoch, head, floor, unchecked FROM log"
        )

    def run(self) -> Verified:
        """Run all checks, one after the other."""
        for check in (
            self._prepare,
            self._file,
            self._read_events,
            self._dictionary,
            self._identities,
            self._index,
            self._requests,
            lambda: self._compare("stack", _STACKS),
            lambda: self._compare("deployment", _DEPLOYMENTS),
            self._changesets,
        ):
            self._survive(check)
        [(stacks, deployments)] = all_rows(
            self._connection,
            "SELECT (SELECT count(*) FROM stacks), (SELECT count(*) FROM deployments)",
        )
        return Verified(
            events=self._events,
            unchecked=self._unchecked,
            compared=self._compared,
            not_compared=max(stacks + deployments - self._compared, 0),
            findings=self._findings.count,
            mended=self._findings.mended,
        )

    def _survive(self, check: Callable[[], None]) -> None:
        """Run a check; where the file is too broken to finish it, that is a finding."""
        try:
            check()
        except (apsw.CorruptError, apsw.SQLError, UnicodeDecodeError) as error:
            self._find("file", "content", f"cannot be read to the end: {error}")

    def _prepare(self) -> None:
        for step in migrations("sqlite"):
            self._scratch.execute(step.sql)
        # Without stacks whose events are no longer retained.
        self._scratch.execute("PRAGMA foreign_keys = OFF; BEGIN")
        columns = ", ".join(_CHANGESET_COLUMNS)
        marks = ", ".join("?" * len(_CHANGESET_COLUMNS))
        for row in self._connection.execute(f"SELECT {columns} FROM changesets"):
            self._scratch.execute(
                f"INSERT INTO changesets ({columns}, status) VALUES ({marks}, 'staging')", row
            )

    # The file

    def _file(self) -> None:
        for (message,) in self._connection.execute(f"PRAGMA integrity_check({_NAMED})"):
            if message != "ok":
                # Of the wrong entries of an index, the index itself can be made again.
                mend = (
                    partial(self._connection.execute, "REINDEX") if " index " in message else None
                )
                self._find("file", "integrity_check", str(message), mend)
        for table, row, parent, _ in self._connection.execute("PRAGMA foreign_key_check"):
            self._find("file", f"{table} {row}", f"refers to nothing in {parent}")

    # Events

    def _read_events(self) -> None:
        [(total,)] = all_rows(self._connection, "SELECT count(*) FROM event_rows")
        [(low, high)] = all_rows(
            self._connection, "SELECT min(position), max(position) FROM event_rows"
        )
        if low is not None and low <= self._floor:
            self._find("log", low, f"events at or below the floor {self._floor} are still there")
        if high is not None and high > self._head:
            self._find("log", high, f"there are events beyond the head {self._head}")
        after: int | None = -1
        while after is not None:
            after = self._read_page(after)
            self._progress(self._events, total)

    def _read_page(self, after: int) -> int | None:
        """Verify the next events; return the position to continue after."""
        matches: list[Match] = all_rows(self._connection, _NEXT, (after,))
        filling = Filling(
            partial(read_rows, self._connection, epoch=self._epoch), limit=_PAGE, size=PAGE_BYTES
        )
        filling.add(matches)
        page = filling.page
        for each in page.damaged:
            self._damaged.add(each.position)
            self._find("event", each.position, _DAMAGE[each.reason])
        self._events += len(page) + len(page.damaged)
        last = page.next if page.next is not None else matches[-1][0] if matches else after
        self._checksums(after, last)
        self._order(page)
        self._replay(page)
        return last if matches else None

    def _checksums(self, after: int, last: int) -> None:
        for (position,) in all_rows(self._connection, _WITHOUT_CHECKSUM, (after, last)):
            self._unchecked += 1
            if position > self._watermark:
                self._find("event", position, "has no checksum")

    def _order(self, page: Sequence[Event]) -> None:
        for event in page:
            if event.recorded < self._recorded:
                self._find("event", event.position, "was recorded before the event before it")
            self._recorded = max(self._recorded, event.recorded)

    def _replay(self, page: Sequence[Event]) -> None:
        changes = []
        for event in page:
            try:
                change = project(event)
            except DeploylogError as error:
                self._find("event", event.position, error.message)
            else:
                changes += [change] if change is not None else []
        catalog = CatalogChanges(load_catalog(self._scratch, catalog_lookups(changes)))
        catalog.replay(changes)
        write_catalog(self._scratch, catalog.writes())

    # The dictionary, the index and requests

    def _dictionary(self) -> None:
        low, high = self._floor + 1, self._head
        mend = partial(drop_unused, self._connection, low, high)
        for table, id in islice(unused(self._connection), _NAMED):
            self._find("dictionary", f"{table} {id}", "no event refers to it", mend)

    def _identities(self) -> None:
        for producer_id, source, positions in self._connection.execute(_IDENTITIES):
            whole = [p for p in msgspec.json.decode(positions) if p not in self._damaged]
            rows = all_rows(self._connection, _SCOPES_AT, (json_text(whole),))
            seen: dict[str, int] = {}
            for position, scopes in rows:
                if scopes in seen:
                    what = f"{source} {producer_id!r} is recorded at {seen[scopes]} already"
                    self._find("identity", position, what)
                seen.setdefault(scopes, position)

    def _index(self) -> None:
        for (number,) in all_rows(self._connection, "SELECT number FROM segments ORDER BY number"):
            difference = SegmentDifference(self._connection, number)
            mend = partial(reseal_segment, self._connection, number)
            for what in islice(difference.findings(self._damaged), _NAMED):
                self._find("segment", number, what, mend)

    def _requests(self) -> None:
        for key, positions, newest in self._connection.execute(
            "SELECT key, positions, newest FROM requests"
        ):
            try:
                decoded = msgspec.json.decode(positions, type=list[int])
            except (msgspec.MsgspecError, TypeError):
                self._find("request", key, "its positions cannot be read")
                continue
            if (right := max(decoded, default=0)) != newest or newest > self._head:
                values = (min(right, self._head), key)
                mend = partial(self._connection.execute, _MEND_REQUEST, values)
                self._find("request", key, "its newest position is wrong", mend)

    # Stacks, deployments and change sets

    def _compare(self, part: str, sql: str) -> None:
        """Compare what the events imply with what is stored."""
        cursor = self._scratch.execute(sql)
        for expected in cursor:
            self._compared += 1
            names = [each[0] for each in cursor.description]
            mend = partial(put_row, self._connection, f"{part}s", names, expected)
            stored = all_rows(
                self._connection, f"SELECT * FROM ({sql}) WHERE id = ?", (expected[0],)
            )
            if not stored:
                self._find(part, expected[0], "is missing", mend)
                continue
            wrong = [n for n, a, b in zip(names, expected, stored[0], strict=True) if a != b]
            if wrong:
                what = f"contradicts its events: {', '.join(wrong)}"
                self._find(part, expected[0], what, mend)
        if self._floor == 0 and not self._damaged:
            self._report_uncreated(part, sql)

    def _report_uncreated(self, part: str, sql: str) -> None:
        for (id,) in self._connection.execute(f"SELECT id FROM ({sql})"):
            if not all_rows(self._scratch, f"SELECT 1 FROM ({sql}) WHERE id = ?", (id,)):
                self._find(part, id, "no event created it")

    def _changesets(self) -> None:
        for id, status, ended, document in self._connection.execute(_CHANGESETS):
            expected = all_rows(self._scratch, _EXPECTED_CHANGESET, (id,))[0]
            if expected[0] != "staging" and expected != (status, ended):
                what = f"is {status}; its events say {expected[0]}"
                values = (*expected, id)
                mend = partial(self._connection.execute, _MEND_CHANGESET, values)
                self._find("changeset", id, what, mend)
            elif expected[0] == "staging" != status and self._floor == 0 and not self._damaged:
                self._find("changeset", id, f"is {status}, but no event ended it")
            if not _is_document(document):
                self._find("changeset", id, "its changes cannot be read")


def _is_document(document: Any) -> bool:
    try:
        decode_changes(zlib.decompress(document))
    except (zlib.error, msgspec.MsgspecError, TypeError, ValueError):
        return False
    return True


_DAMAGE = {
    "checksum": "the content differs from what was recorded (checksum mismatch)",
    "unreadable": "the content cannot be read",
}

_NEXT = f"""
SELECT e.position, {SIZE} FROM events AS e WHERE e.position > ? ORDER BY e.position LIMIT {_PAGE}
"""

_WITHOUT_CHECKSUM = """
SELECT position FROM events WHERE position > ? AND position <= ? AND checksum IS NULL
"""

_IDENTITIES = """
SELECT producer_id, source, json_group_array(position) FROM events
WHERE producer_id IS NOT NULL GROUP BY producer_id, source HAVING count(*) > 1
"""

_SCOPES_AT = """
SELECT e.position, e.scopes FROM json_each(?) AS position
CROSS JOIN events AS e WHERE e.position = position.value ORDER BY e.position
"""


def put_row(
    connection: apsw.Connection, table: str, names: Sequence[str], row: Sequence[SqlValue]
) -> None:
    """Put the row of an id into the place of what is stored."""
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" * len(names))
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names)
    connection.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        f" ON CONFLICT (id) DO UPDATE SET {changes}",
        row,
    )


_MEND_REQUEST = "UPDATE requests SET newest = ? WHERE key = ?"

_MEND_CHANGESET = "UPDATE changesets SET status = ?, ended = ? WHERE id = ?"

_STACKS = 'SELECT id, project, name, created, deleted, scopes, "groups" FROM stacks'

_DEPLOYMENTS = """
SELECT id, project, stack_id, status, started, ended, tool, operation, environment, actor, message,
    added, changed, destroyed, failed, scopes, "groups", details FROM deployments
"""

_CHANGESET_COLUMNS = (
    "number", "id", "project", "destroy", "location", "tool", "created", "totals", "scopes",
    '"groups"', "request", "fingerprint",
)  # fmt: skip

_CHANGESETS = """
SELECT c.id, c.status, c.ended, d.document
FROM changesets AS c LEFT JOIN changeset_changes AS d ON d.number = c.number
"""

_EXPECTED_CHANGESET = "SELECT status, ended FROM changesets WHERE id = ?"
