"""A connection that is lost: nothing is recorded twice, and nothing is lost."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args

import pytest

from deploylog.errors import OperatorError, StoreUnavailable
from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.contract import Store
from deploylog.store.postgres import open_postgres
from store.postgres.cutting_proxy import CuttingProxy, Lost, cutting_proxy
from support import postgres
from support.factories import Commits, new_event, new_events, subscription


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return postgres.url_at(tmp_path / "log.db")


@pytest.fixture
def proxied(store_url: str) -> Iterator[tuple[str, CuttingProxy]]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory() as folder, cutting_proxy(store_url, Path(folder)) as found:
        yield found


@pytest.fixture
async def cut(proxied: tuple[str, CuttingProxy]) -> AsyncIterator[tuple[Store, CuttingProxy]]:
    """A store behind a proxy."""
    conninfo, proxy = proxied
    async with open_postgres(conninfo, observer=Commits()) as store:
        yield store, proxy


@pytest.mark.parametrize("lost", get_args(Lost))
async def test_events_whose_commit_was_not_answered_are_recorded_once(
    cut: tuple[Store, CuttingProxy], lost: Lost
):
    """These have neither an id of their producer nor a request: only the store can tell."""
    store, proxy = cut
    await store.log.append([new_event()])

    proxy.cut_next(lost)
    appended = await store.log.append([new_event(), new_event()])

    assert proxy.cuts == 1
    assert [event.position for event in appended] == [2, 3]
    assert (await store.log.read(Query(order="oldest")))[1:] == appended


@pytest.mark.parametrize("lost", get_args(Lost))
async def test_another_change_whose_commit_was_not_answered_is_made_once(
    cut: tuple[Store, CuttingProxy], lost: Lost
):
    store, proxy = cut
    await store.subscriptions.add(new := subscription())

    proxy.cut_next(lost)
    changed = await store.subscriptions.change(new)

    assert (proxy.cuts, changed.version) == (1, 2)
    assert await store.subscriptions.get(new.id) == changed


async def test_many_requests_at_many_cuts_are_recorded_once_each(
    cut: tuple[Store, CuttingProxy],
):
    store, proxy = cut
    sent = [new_events(3) for _ in range(60)]

    async def append(number: int) -> None:
        if number % 10 == 0:
            proxy.cut_next(get_args(Lost)[number // 10 % 2])
        await store.log.append(sent[number])

    await asyncio.gather(*(append(number) for number in range(len(sent))))

    found = [event.producer_id for event in await store.log.read(Query(limit=1_000))]
    assert sorted(map(str, found)) == sorted(str(e.producer_id) for batch in sent for e in batch)
    assert proxy.cuts > 0


async def test_a_store_goes_on_when_the_server_ends_its_connections(store_url: str):
    async with open_store(store_url, observer=Commits()) as store:
        changes = store.log.heads()
        await store.log.append(new_events(2))
        assert len(await store.log.read(Query())) == 2
        await anext(changes)

        ended = postgres.run(store_url, _END_OTHERS)
        await store.log.append(new_events(3))

        assert len(await store.log.read(Query())) == 5
        assert len(ended) >= 2
        async with asyncio.timeout(20), open_store(store_url, observer=Commits()) as other:
            [event] = await other.log.append([new_event()])
            async for head in changes:
                if head == event.position:
                    break


_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def test_a_server_that_cannot_be_reached_is_one_line_without_the_password():
    url = "postgresql://me:secret@127.0.0.1:1/log?connect_timeout=2"

    with pytest.raises(OperatorError) as failed:
        async with open_store(url, observer=Commits()):
            pass

    assert failed.value.message.startswith("cannot open the store postgresql://127.0.0.1/log: ")
    assert "secret" not in failed.value.message
    assert "\n" not in failed.value.message


async def test_a_store_records_again_after_statements_that_failed(store_url: str):
    """What a failed pipeline left out, the driver takes to be prepared."""
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append([new_event()])
        postgres.run(store_url, "ALTER TABLE events ADD CONSTRAINT full_ CHECK (false) NOT VALID")
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await store.log.append([new_event()])
        postgres.run(store_url, "ALTER TABLE events DROP CONSTRAINT full_")

        [event] = await store.log.append([new_event()])

        assert event.position == 2
        assert len(await store.log.read(Query())) == 2
