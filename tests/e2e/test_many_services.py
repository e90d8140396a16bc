"""Two services on one PostgreSQL database, each in a process of its own: as one service."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from support import postgres
from support.followers import Follower
from support.servers import EVENTS, STREAM, Spawned, line, spawned
from support.waiting import until

Pair = tuple[Spawned, Spawned]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return postgres.url_at(tmp_path / "log.db")


@pytest.fixture
async def services(store_url: str) -> AsyncIterator[Pair]:
    """Two, of which each lets a principal have one stream."""
    async with (
        spawned(store_url, max_streams_per_principal=1) as one,
        spawned(store_url, max_streams_per_principal=1) as two,
    ):
        yield one, two


async def test_what_one_service_recorded_the_other_has(services: Pair):
    for number in range(20):
        writer, reader = services[number % 2], services[(number + 1) % 2]
        [id] = await writer.append([line(subject=f"s{number}")])

        listed = await reader.get(f"{EVENTS}?limit=1")
        filtered = await reader.get(f"{EVENTS}?subject=s{number}")
        counted = await reader.get(f"{EVENTS}/count")
        found = await reader.get(f"{EVENTS}/{id}")

        assert (listed.ids, filtered.ids) == ([id], [id])
        assert (counted.json["count"], found.status) == (number + 1, 200)


async def test_a_stream_goes_on_at_the_other_service(services: Pair):
    one, two = services
    ids = await one.append([line(), line(), line()])
    async with one.stream("from=start") as stream:
        assert await stream.take(2) == ids[:2]

    async with two.stream(headers={"Last-Event-ID": ids[1]}) as stream:
        assert await stream.take(1) == ids[2:]
        recorded = await one.append([line()])
        assert await stream.take(1) == recorded


async def test_each_service_counts_the_streams_of_its_own(services: Pair):
    one, two = services
    async with one.stream():
        refused = await one.get(STREAM)

        async with two.stream() as stream:
            assert stream.response.status == 200
    assert refused.status == 429


async def test_nothing_is_missed_while_each_service_is_restarted(store_url: str):
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:

        async def start(port: int) -> Spawned:
            return await stack.enter_async_context(spawned(store_url, port=port))

        one, two = [await start(port) for port in ports]
        followers = [Follower(*pair) for pair in [(one, two), (two, one)] * 2]
        writing = asyncio.create_task(write(one, two, number=120))
        following = [asyncio.create_task(follower.follow(120)) for follower in followers]
        await until(lambda: all(follower.ids for follower in followers))

        for service, port in zip((one, two), ports, strict=True):
            await service.end()
            await start(port)
        ids = await writing
        await asyncio.gather(*following)

    assert len(set(ids)) == 120
    assert [follower.ids for follower in followers] == [ids] * len(followers)
    assert all(follower.connections > 1 for follower in followers)
    assert not any(follower.gaps for follower in followers)


async def write(*services: Spawned, number: int) -> list[str]:
    """Append events, each at the next service until one takes it; their ids."""
    ids: list[str] = []
    for key in map(str, range(number)):
        for turn in count(len(ids)):
            service = services[turn % len(services)]
            with suppress(aiohttp.ClientError, ConnectionError):
                headers = {"Idempotency-Key": key}
                answer = await service.post(line(subject=key), headers=headers)
                if answer.status == 201:
                    ids += answer.ids
                    break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
    return ids


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
