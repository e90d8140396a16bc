"""Damaged events: each is reported as one bad row, and the others are served."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import apsw
import pytest

from deploylog.errors import EventDamaged, EventNotFound
from deploylog.events.access import ALL, Visibility
from deploylog.events.event import Event
from deploylog.events.filters import EVERYTHING, Filter, any_of
from deploylog.events.hub import Hub, Reader
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT, Scope
from deploylog.events.store import Query, following
from deploylog.store.contract import Store
from deploylog.store.sqlite import SqliteStore, open_sqlite
from support.factories import Commits, new_event, new_events
from support.servers import running
from support.waiting import until

EVERYTHING_THERE_IS = StreamFilter(scope=ROOT, filter=EVERYTHING, visibility=ALL)

#: What happens to a row, and the reason that a reader is given.
DAMAGES = {
    "a flipped letter": ("message = 'hellp'", "checksum"),
    "another position in time": ("time = time + 1", "checksum"),
    "another moment of recording": ("recorded = recorded + 1", "checksum"),
    "another scope": ("scopes = '[\"project/other\"]', context = NULL", "checksum"),
    "text that is not UTF-8": ("message = CAST(x'68ff6c' AS TEXT)", "unreadable"),
    "a blob in the place of text": ("message = x'68ff6c'", "unreadable"),
    "a name that is no list": ("scopes = '{', context = NULL", "checksum"),
    "a context that is not there": ("context = 9", "unreadable"),
    "a kind that is not there": ("kind = 9", "unreadable"),
    "text in the place of a number": ("elapsed = 'long'", "unreadable"),
    "data that is not JSON": ("data = '{\"a\":'", "checksum"),
    "a checksum of another event": ("checksum = checksum + 1", "checksum"),
}


@pytest.fixture
def observer() -> Commits:
    return Commits()


@pytest.fixture
async def store(file: Path, observer: Commits) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(file, observer=observer) as store:
        yield store


def damage(file: Path, change: str, where: str) -> None:
    """Change rows behind the service's back."""
    execute(file, f"UPDATE event_rows SET {change} WHERE {where}")


def execute(file: Path, sql: str) -> list[tuple[object, ...]]:
    # Not with sqlite3, which is another copy of SQLite: its close would drop the service's locks.
    connection = apsw.Connection(str(file))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def filled(store: Store, number: int = 9) -> list[Event]:
    return await store.log.append(new_events(number, message="hello", data={"a": 1}, elapsed=1))


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(("change", "reason"), DAMAGES.values(), ids=DAMAGES)
async def test_a_page_names_the_damaged_event_and_holds_the_others(
    store: Store, file: Path, change: str, reason: str, order: Literal["newest", "oldest"]
):
    events = await filled(store)
    damage(file, change, "position = 4")

    page = await store.log.read(Query(order=order))

    assert sorted(page, key=lambda event: event.position) == [*events[:3], *events[4:]]
    assert [(each.position, each.reason) for each in page.damaged] == [(4, reason)]


async def test_damaged_events_do_not_count_for_the_limit(store: Store, file: Path):
    events = await filled(store)
    damage(file, "message = 'x'", "position IN (3, 4, 7)")

    first = await store.log.read(Query(order="oldest", limit=4))
    assert first.next is not None
    second = await store.log.read(following(Query(order="oldest", limit=4), first.next))

    assert [event.position for event in first] == [1, 2, 5, 6]
    assert [event.position for event in second] == [8, 9]
    assert [each.position for each in (*first.damaged, *second.damaged)] == [3, 4, 7]
    assert second.next is None
    assert first + second == [e for e in events if e.position not in (3, 4, 7)]


async def test_a_page_lists_a_limited_number_of_damaged_events_and_continues(
    store: Store, file: Path, monkeypatch
):
    monkeypatch.setattr("deploylog.store.pages.MAX_DAMAGED", 5)
    await filled(store, 20)
    damage(file, "message = 'x'", "position > 1")

    page = await store.log.read(Query(order="oldest", limit=5))
    later = await store.log.read(Query(order="oldest", limit=5, after=page.next))

    assert page.next is not None
    assert len(page) + len(later) == 1
    assert len(page.damaged) >= 5
    assert later.damaged


async def test_filter_and_visibility_apply_to_damaged_events(store: Store, file: Path):
    await store.log.append(
        [
            new_event("deployment.log", scopes=("project/acme",)),
            new_event("deployment.log", scopes=("project/other",)),
            new_event("deployment.error", scopes=("project/acme",)),
        ]
    )
    damage(file, "message = 'x'", "1")
    query = Query(
        filter=Filter(all_of=(any_of("type", ("deployment.log",)),)),
        visibility=Visibility(scopes=(Scope("project/acme"),), groups=None),
    )

    page = await store.log.read(query)

    assert [each.position for each in page.damaged] == [1]


async def test_one_damaged_event_is_asked_for(store: Store, file: Path):
    await filled(store)
    damage(file, "message = CAST(x'ff' AS TEXT)", "position = 4")

    with pytest.raises(EventDamaged):
        await store.log.get(4)
    with pytest.raises(EventNotFound):
        await store.log.get(40)


async def test_a_damaged_event_is_logged_and_counted_once(
    store: Store, file: Path, observer: Commits, caplog
):
    await filled(store)
    damage(file, "message = 'x'", "position IN (4, 5)")

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await store.log.read(Query())

    assert [record.getMessage() for record in caplog.records] == [
        "the event at position 5 is damaged (checksum); skipping it",
        "the event at position 4 is damaged (checksum); skipping it",
    ]
    assert observer.damages == ["checksum", "checksum"]


async def test_a_retry_of_a_damaged_event_brings_it_back(store: Store, file: Path):
    sent = new_events(3, message="hello")
    first = await store.log.append(sent)
    damage(file, "message = CAST(x'ff' AS TEXT)", "position = 2")

    again = await store.log.append(sent)

    assert [again[0], again[2]] == [first[0], first[2]]
    assert (again[1].position, again[1].message) == (4, "hello")


async def read_to(reader: Reader, position: int) -> list[object]:
    """The positions that a reader is given, and the gaps."""
    seen: list[object] = []
    async with asyncio.timeout(10):
        while reader.position < position:
            batch = await reader.next()
            assert batch is not None
            if batch.gap is not None:
                seen.append((batch.gap.after, batch.gap.floor, batch.gap.reason))
            seen.extend(event.position for event in batch.events)
    return seen


IN_PLACE = [1, 2, 3, (3, 5, "damaged"), 6, 7, (7, 8, "damaged"), 9]


async def test_a_reader_gets_a_damaged_event_in_its_place(store: Store, file: Path):
    hub = Hub(store.log)
    await filled(store)
    damage(file, "message = CAST(x'ff' AS TEXT)", "position IN (4, 5, 8)")

    async with hub.following(heartbeat=60):
        with hub.reader(EVERYTHING_THERE_IS, after=0) as reader:
            seen = await read_to(reader, 9)

    assert seen == IN_PLACE


async def test_a_live_reader_gets_a_damaged_event_in_its_place(store: Store, file: Path):
    hub = Hub(store.log)
    with hub.reader(EVERYTHING_THERE_IS, after=0) as reader:
        await filled(store)
        damage(file, "message = CAST(x'ff' AS TEXT)", "position IN (4, 5, 8)")

        # As when it follows the log, but for the damage that is done just in time.
        await hub._advance(9)

        assert await read_to(reader, 9) == IN_PLACE


async def test_events_of_old_get_their_checksum_and_damage_gets_none(
    store: Store, file: Path, monkeypatch
):
    monkeypatch.setattr("deploylog.store.sqlite.events.CHECKED_AT_ONCE", 4)
    events = await filled(store)
    damage(file, "checksum = NULL", "1")
    damage(file, "message = CAST(x'ff' AS TEXT)", "position = 4")
    execute(file, "UPDATE log SET unchecked = head")

    while await store.log.add_checksums():
        pass

    without = execute(file, "SELECT position FROM events WHERE checksum IS NULL")
    page = await store.log.read(Query(order="oldest"))
    assert without == [(4,)]
    assert page == [*events[:3], *events[4:]]
    assert [each.position for each in page.damaged] == [4]


async def test_an_event_without_a_checksum_is_served_if_it_can_be_read(store: Store, file: Path):
    events = await filled(store)
    damage(file, "checksum = NULL", "1")
    damage(file, "data = '{\"a\":'", "position = 4")

    page = await store.log.read(Query(order="oldest"))

    assert page == [*events[:3], *events[4:]]
    assert [(each.position, each.reason) for each in page.damaged] == [(4, "unreadable")]


async def test_a_filter_by_prefix_passes_a_type_that_is_not_text(store: Store, file: Path):
    await filled(store, 3)
    damage(file, "type = CAST(x'7265736f757263652eff' AS TEXT), kind = NULL", "position = 2")

    page = await store.log.read(
        Query(filter=Filter(all_of=(any_of("type", ("resource.*",)),)), order="oldest")
    )

    assert [event.position for event in page] == [1, 3]
    assert [each.position for each in page.damaged] == [2]


async def test_the_service_gives_events_of_old_their_checksum(store: Store, file: Path):
    await store.log.append(new_events(3))
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE event_rows SET checksum = NULL; UPDATE log SET unchecked = head")

    async def is_done() -> bool:
        return connection.execute("SELECT unchecked FROM log").fetchall() == [(0,)]

    async with running(store):
        await until(is_done)

    left = connection.execute("SELECT 1 FROM events WHERE checksum IS NULL").fetchall()
    connection.close()
    assert left == []
