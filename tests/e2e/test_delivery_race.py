"""Two processes deliver from one store: each event once and in order, even if one is killed."""

import asyncio
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.receivers import Receiver, receiving
from support.servers import EVENTS, Spawned, line, spawned
from support.subscribers import (
    LOOPBACK,
    caught_up,
    encryption_key_file,
    headers_of,
    standing,
    subscribe,
)
from support.waiting import until

SUBSCRIPTIONS = 10

#: Requests that append events, and the events of each.
REQUESTS = 40
EVENTS_EACH = 10

#: A killed process is replaced once its lease has ended.
PACING = {"lease_seconds": 3, "margin_seconds": 1, "poll_seconds": 0.2}


class Processes(msgspec.Struct):
    """Two processes on one store, and the receiver of their deliveries."""

    services: list[Spawned]
    receiver: Receiver
    subscriptions: list[str]

    async def record(self, requests: int) -> None:
        """Append events through all processes concurrently."""
        await asyncio.gather(
            *(
                self.services[number % len(self.services)].append(
                    [line(source="race")] * EVENTS_EACH
                )
                for number in range(requests)
            )
        )

    async def caught_up(self) -> None:
        for id in self.subscriptions:
            await caught_up(self.services[-1], id, seconds=60)

    async def log(self) -> list[str]:
        """The ids of all events, in the order of the log."""
        first, ids = f"{EVENTS}?source=race&order=oldest&limit=1000", list[str]()
        path = first
        while page := (await self.services[-1].get(path)).ids:
            ids += page
            path = f"{first}&after={page[-1]}"
        return ids

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """In the block, the next event is appended as soon as one has arrived."""
        is_over = asyncio.Event()

        async def record() -> None:
            while not is_over.is_set():
                arrived = len(self.receiver.requests)
                await self.services[-1].append([line(source="race")])
                await until(partial(self._has_more, arrived))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(record())
            yield
            is_over.set()

    def arrived(self) -> dict[str, list[str]]:
        """The ids that arrived for each subscription, in order."""
        found: dict[str, list[str]] = defaultdict(list)
        for head, _ in self.receiver.requests:
            headers = headers_of(head)
            found[headers["deploylog-subscription"]].append(headers["webhook-id"])
        return dict(found)

    async def held_by(self, service: Spawned) -> list[str]:
        """The subscriptions that a process delivers."""
        metrics = (await service.get("/metrics")).body.decode()
        return re.findall(
            r'^deploylog_delivery_lag_positions\{subscription="(.*)"', metrics, re.MULTILINE
        )

    def _has_more(self, arrived: int) -> bool:
        return len(self.receiver.requests) > arrived

    async def share(self) -> None:
        """Wait until each process delivers its share."""
        number = len(self.services)
        each = {len(self.subscriptions) // number, -(-len(self.subscriptions) // number)}

        async def is_shared() -> bool:
            held = [await self.held_by(service) for service in self.services]
            delivered = sorted(id for ids in held for id in ids)
            return {len(ids) for ids in held} <= each and delivered == sorted(self.subscriptions)

        await until(is_shared)


@pytest.fixture
def another(store_url: str, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Spawned]]:
    """Starts a process on the store."""
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
    }
    return lambda: spawned(store_url, pacing=PACING, **options)


@pytest.fixture
async def processes(
    another: Callable[[], AbstractAsyncContextManager[Spawned]],
) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        services = [await stack.enter_async_context(another()) for _ in range(2)]
        ids = [
            (await subscribe(services[number % 2], receiver.url, source="race"))["id"]
            for number in range(SUBSCRIPTIONS)
        ]
        yield Processes(services, receiver, ids)


async def test_two_processes_deliver_each_event_once_and_in_order(processes: Processes):
    await processes.record(REQUESTS)

    await processes.caught_up()

    log = await processes.log()
    assert len(log) == REQUESTS * EVENTS_EACH
    assert processes.arrived() == dict.fromkeys(processes.subscriptions, log)


async def test_the_other_process_takes_over_from_a_killed_one(processes: Processes):
    await processes.record(2)
    await processes.caught_up()
    await processes.share()
    held = {service: await processes.held_by(service) for service in processes.services}
    killed = max(held, key=lambda service: len(held[service]))
    recording = asyncio.create_task(processes.record(REQUESTS))
    await until(lambda: len(processes.receiver.requests) > SUBSCRIPTIONS * 50)
    killed.process.send_signal(signal.SIGKILL)
    await killed.process.wait()

    await asyncio.gather(recording, return_exceptions=True)
    processes.services.remove(killed)
    recorded = {id: await recorded_of(processes, id) for id in held[killed]}
    before = processes.arrived()
    await processes.record(10)
    await processes.caught_up()

    log, arrived = await processes.log(), processes.arrived()
    assert sorted(id for ids in held.values() for id in ids) == sorted(processes.subscriptions)
    for id in held[killed]:
        # Only unrecorded deliveries are repeated, under the same ids.
        assert recorded[id] <= len(before[id]) < len(log)
        assert before[id] == log[: len(before[id])]
        assert arrived[id] == [*before[id], *log[recorded[id] :]]
    for id in {*processes.subscriptions} - {*held[killed]}:
        assert arrived[id] == log


async def recorded_of(processes: Processes, id: str) -> int:
    """How many events are recorded as delivered."""
    shown = await standing(processes.services[0], id)
    answer = await processes.services[0].get(f"{EVENTS}?source=race&order=oldest&limit=1000")
    positions = [int(event["position"]) for event in answer.json["events"]]
    return sum(position <= int(shown["checkpoint"]) for position in positions)


async def test_processes_that_come_and_go_get_their_share_and_nothing_is_sent_twice(
    processes: Processes, another: Callable[[], AbstractAsyncContextManager[Spawned]]
):
    async with processes.delivering():
        await processes.share()
        async with another() as third:
            processes.services.insert(0, third)
            await processes.share()
            processes.services.remove(third)
            third.process.send_signal(signal.SIGTERM)
            await third.process.wait()
        await processes.share()

    await processes.caught_up()
    log = await processes.log()
    assert processes.arrived() == dict.fromkeys(processes.subscriptions, log)
