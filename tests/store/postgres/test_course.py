"""A standby without the newest events takes over: all readers are told, and none skips silently."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.errors import LogReset
from deploylog.store.contract import Store
from deploylog.store.postgres import open_postgres
from support import postgres
from support.factories import Commits, new_event, new_events
from support.servers import EVENTS, Spawned, line, spawned
from support.subscribers import LOOPBACK, encryption_key_file, subscribe
from support.waiting import until


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return postgres.url_at(tmp_path / "log.db")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_postgres(store_url, observer=Commits()) as store:
        yield store


def fail_over(url: str, *, lost: int = 0, others: int = 0) -> None:
    """What is left when a standby that lacks ``lost`` events takes over.

    Another process has recorded ``others`` there already.
    """
    [(head,)] = postgres.run(url, "SELECT head FROM log")
    postgres.run(url, "DELETE FROM events WHERE position > %s", head - lost)
    postgres.run(url, "UPDATE log SET head = %s", head - lost + others)
    for position in range(head - lost + 1, head - lost + others + 1):
        postgres.run(url, _ANOTHER, position)
    postgres.run(url, _CUT)


_ANOTHER = """
INSERT INTO events (position, recorded, time, source, type, scopes, checksum)
VALUES (%s, 1, 1, 'another', 'a', '["project/acme"]', 1)
"""

_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


async def record(store: Store, number: int) -> None:
    """Record events in transactions of their own: a standby has a transaction or lacks it."""
    for event in new_events(number):
        await store.log.append([event])


async def next_head(store: Store, beyond: int) -> int:
    async for head in store.log.heads():
        if head > beyond:
            return head
    raise AssertionError


async def test_a_failover_that_loses_nothing_goes_unnoticed(store: Store, store_url: str):
    await record(store, 3)
    following = asyncio.create_task(next_head(store, 3))

    fail_over(store_url)
    [after] = await store.log.append([new_event()])

    async with asyncio.timeout(10):
        assert await following == after.position == 4


@pytest.mark.parametrize("others", [0, 2, 5])
async def test_lost_events_end_every_follower(store: Store, store_url: str, others: int):
    await record(store, 5)
    following = asyncio.create_task(next_head(store, 100))

    fail_over(store_url, lost=2, others=others)

    async with asyncio.timeout(10):
        with pytest.raises(LogReset) as told:
            await following
    assert told.value.is_first
    assert postgres.run(store_url, "SELECT epoch FROM log") != [(store.log.epoch,)]


async def test_one_process_finds_out_and_the_others_follow(store: Store, store_url: str):
    await record(store, 5)
    async with open_postgres(store_url, observer=Commits()) as other:
        following = [asyncio.create_task(next_head(each, 100)) for each in (store, other)]
        await until(lambda: not any(each.done() for each in following))

        fail_over(store_url, lost=2)

        async with asyncio.timeout(10):
            told = await asyncio.gather(*following, return_exceptions=True)
    assert all(isinstance(each, LogReset) for each in told)
    assert [each.is_first for each in told if isinstance(each, LogReset)].count(True) == 1


async def ids(service: Spawned) -> list[str]:
    return (await service.get(f"{EVENTS}?order=oldest&source=terraform")).ids


async def test_a_stream_is_told_and_old_ids_are_refused(store_url: str):
    async with spawned(store_url) as service:
        seen = [(await service.append([line()]))[0] for _ in range(3)]
        async with service.stream("from=start") as stream:
            assert await stream.take(3) == seen
            fail_over(store_url, lost=1)
            assert await stream.block() is None

        async def is_reset() -> bool:
            return len(left := await ids(service)) == 2 and left[0] != seen[0]

        await until(is_reset)
        [new] = await service.append([line()])
        async with service.stream(headers={"Last-Event-ID": seen[-1]}) as again:
            gap = await again.block()
            while gap is not None and gap.event is None:
                gap = await again.block()
            assert gap is not None
            assert gap.event == "gap"
            assert (await again.take(3))[-1] == new
        refused = await service.get(f"{EVENTS}?order=oldest&after={seen[-1]}")
        code, said = await service.end()

    assert refused.status == 400
    assert code == 0
    assert "lost in a failover" in said


async def test_the_owner_of_a_subscription_finds_the_loss_in_the_log(
    store_url: str, tmp_path: Path
):
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
    }
    async with spawned(store_url, **options) as service:
        await subscribe(service, "http://127.0.0.1:9/", source="terraform")
        for _ in range(2):
            await service.append([line()])

        fail_over(store_url, lost=1)

        async def is_told() -> bool:
            found = await service.get(f"{EVENTS}?type=subscription.gap")
            return found.status == 200 and len(found.json["events"]) == 1

        await until(is_told)
