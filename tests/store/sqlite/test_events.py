"""Events in SQLite: what only this backend can be made to do."""

import asyncio
from pathlib import Path

import pytest

from deploylog.errors import (
    StoreUnavailable,
)
from deploylog.events.access import ALL
from deploylog.events.filters import EVERYTHING
from deploylog.events.hub import Hub, Reader
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.store.contract import Store
from deploylog.store.sqlite import open_sqlite
from deploylog.store.sqlite.writer import Writer
from support.factories import (
    Commits,
    new_event,
    new_events,
    now,
)


async def test_ids_rise_also_when_the_clock_is_set_back(tmp_path: Path, commits: Commits):
    times = iter([now(), now() - 10**12, now() - 10**15])
    async with open_sqlite(
        tmp_path / "log.db", observer=commits, clock=lambda: next(times)
    ) as store:
        events = [(await store.log.append([new_event()]))[0] for _ in range(3)]

    assert [e.id for e in events] == sorted({e.id for e in events})
    assert [e.recorded for e in events] == sorted(e.recorded for e in events)


async def test_an_event_larger_than_a_page_is_a_page(store: Store, monkeypatch):
    monkeypatch.setattr("deploylog.store.pages.PAGE_BYTES", 10)
    first, second = await store.log.append(new_events(2))

    page = await store.log.read(Query(order="oldest"))

    assert (page, page.next) == ([first], first.position)
    assert await store.log.read(Query(order="oldest", after=page.next)) == [second]


EVERYTHING_THERE_IS = StreamFilter(scope=ROOT, filter=EVERYTHING, visibility=ALL)


async def positions(reader: Reader, number: int) -> list[int]:
    """Those of the next events."""
    found: list[int] = []
    async with asyncio.timeout(10):
        while len(found) < number:
            batch = await reader.next()
            assert batch is not None
            found += [each.position for each in batch.events]
    return found


async def test_a_commit_that_failed_hides_no_later_event_from_a_reader(tmp_path: Path):
    async with open_sqlite(tmp_path / "log.db", observer=Commits()) as store:
        hub = Hub(store.log)
        async with hub.following(heartbeat=60):
            with hub.reader(EVERYTHING_THERE_IS, after=0) as reader:
                writer = store.log._writer
                assert isinstance(writer, Writer)
                connection = writer._connection
                connection.set_commit_hook(lambda: True)
                with pytest.raises(StoreUnavailable):
                    await store.log.append(new_events(5))
                connection.set_commit_hook(None)
                # A commit without events tells the newest position, too.
                await store.deliveries.claim("somebody", now=1, until=2)

                await store.log.append(new_events(4))

                assert await positions(reader, 4) == [1, 2, 3, 4]
