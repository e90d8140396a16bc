"""The dictionary: what events share is stored once, and every event comes back whole."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from deploylog.events.event import NewEvent
from deploylog.events.store import Query
from deploylog.store import open_store, verify_store
from deploylog.store.contract import Finding
from deploylog.store.migrations import migrations
from deploylog.store.prepared_event import prepare_event
from deploylog.store.sqlite.connection import SqlValue, all_rows
from deploylog.store.sqlite.dictionary import BLOCK_SIZE, Dictionary, drop_unused
from support.factories import Commits, new_event, now, unique

FIRST = BLOCK_SIZE * 3

WHOLE = "SELECT * FROM events ORDER BY position"


def test_a_context_that_occurs_twice_is_stored_once():
    connection = a_store()
    rows = rows_at(FIRST, [new_event(actor="alice") for _ in range(5)])

    Dictionary(connection).insert(rows)

    assert connection.execute(WHOLE).fetchall() == rows
    assert entries(connection) == [(FIRST, "alice")]
    assert numbers(connection) == [None, 0, 0, 0, 0]


def test_a_context_that_occurs_once_is_in_its_row():
    connection = a_store()
    rows = rows_at(FIRST, [new_event(actor=unique(), type=unique("t.")) for _ in range(5)])

    Dictionary(connection).insert(rows)

    assert connection.execute(WHOLE).fetchall() == rows
    assert entries(connection) == []


def test_a_long_context_is_in_its_row():
    connection = a_store()
    rows = rows_at(FIRST, [new_event(actor="x" * 2_000) for _ in range(5)])

    Dictionary(connection).insert(rows)

    assert connection.execute(WHOLE).fetchall() == rows
    assert entries(connection) == []


def test_each_block_begins_anew():
    connection = a_store()
    rows = rows_at(FIRST - 3, [new_event(actor="alice") for _ in range(6)])

    Dictionary(connection).insert(rows)

    assert connection.execute(WHOLE).fetchall() == rows
    assert entries(connection) == [(FIRST - BLOCK_SIZE, "alice"), (FIRST, "alice")]
    assert numbers(connection) == [None, 0, 0, None, 0, 0]


def test_what_was_rolled_back_is_not_referred_to():
    connection = a_store()
    dictionary = Dictionary(connection)
    rows = rows_at(FIRST, [new_event(actor="alice") for _ in range(3)])
    connection.execute("BEGIN")
    dictionary.catch_up(FIRST - 1, 0)
    dictionary.insert(rows)
    connection.execute("ROLLBACK")
    dictionary.forget()

    dictionary.catch_up(FIRST - 1, 0)
    dictionary.insert(rows)

    assert connection.execute(WHOLE).fetchall() == rows


def test_two_writers_in_turn_give_no_number_twice():
    connection = a_store()
    one, other = Dictionary(connection), Dictionary(connection)
    rows = rows_at(FIRST, [new_event(actor=actor) for actor in "aabbaabbccaaccbb"])

    for turn in range(0, len(rows), 2):
        writer = (one, other)[turn // 2 % 2]
        writer.catch_up(FIRST + turn - 1, 0)
        writer.insert(rows[turn : turn + 2])

    assert connection.execute(WHOLE).fetchall() == rows
    assert sorted(actor for _, actor in entries(connection)) == ["a", "b", "c"]


def test_an_entry_goes_with_the_last_event_that_refers_to_it():
    connection = a_store()
    Dictionary(connection).insert(
        rows_at(FIRST, [new_event(actor=actor) for actor in ["alice", "alice", "bob", "bob"]])
    )

    connection.execute("DELETE FROM event_rows WHERE position <= ?", (FIRST + 1,))
    drop_unused(connection, FIRST, FIRST + 1)

    assert [actor for _, actor in entries(connection)] == ["bob"]


async def test_what_was_pruned_is_stored_again_when_it_recurs(file: Path, url: str):
    async with (
        open_store(url, observer=Commits()) as store,
        open_store(url, observer=Commits()) as other,
    ):
        await store.log.append([new_event(actor="alice") for _ in range(4)])
        await other.log.prune(now() + 1)
        assert entries(apsw.Connection(str(file))) == []

        recorded = await store.log.append([new_event(actor="alice") for _ in range(4)])

        assert await store.log.read(Query(order="oldest")) == recorded
    assert verified(url) == []


def a_store() -> apsw.Connection:
    connection = apsw.Connection("")
    for step in migrations("sqlite"):
        connection.execute(step.sql)
    return connection


def rows_at(first: int, events: Sequence[NewEvent]) -> list[tuple[SqlValue, ...]]:
    """The columns of the events at these positions, and their checksums."""
    return [
        (position, 1, *prepare_event(event).values, 7)
        for position, event in enumerate(events, first)
    ]


def entries(connection: apsw.Connection) -> list[tuple[int, str]]:
    return all_rows(connection, "SELECT id, actor FROM event_contexts ORDER BY id")


def numbers(connection: apsw.Connection) -> list[int | None]:
    rows = all_rows(connection, "SELECT context FROM event_rows ORDER BY position")
    return [row[0] for row in rows]


def verified(url: str) -> list[Finding]:
    findings: list[Finding] = []
    verify_store(url, found=findings.append, progress=lambda *_: None, mend=False)
    return findings
