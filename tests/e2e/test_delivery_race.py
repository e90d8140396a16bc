"""Two real processes deliver from one store: each event once, in order, also when one is killed."""

import asyncio
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from support.receivers import Receiver, receiving
from support.servers import EVENTS, Spawned, line, spawned
from support.subscribers import LOOPBACK, caught_up, headers_of, sealing_key, standing, subscribe
from support.waiting import until

SUBSCRIPTIONS = 10

#: Requests that record, and events of each.
REQUESTS = 40
EVENTS_EACH = 10

#: A killed process is replaced once its lease has ended.
PACING = {"lease_seconds": 3, "margin_seconds": 1, "poll_seconds": 0.2}


class World(msgspec.Struct):
    """Two processes on one store, and who is called."""

    services: list[Spawned]
    receiver: Receiver
    subscriptions: list[str]

    async def record(self, requests: int) -> None:
        """Through all processes at once."""
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
        answer = await self.services[-1].get(f"{EVENTS}?source=race&order=oldest&limit=1000")
        return answer.ids

    def arrived(self) -> dict[str, list[str]]:
        """The ids that came for each subscription, in the order in which they came."""
        found: dict[str, list[str]] = defaultdict(list)
        for head, _ in self.receiver.requests:
            headers = headers_of(head)
            found[headers["deploylog-subscription"]].append(headers["webhook-id"])
        return dict(found)

    async def held_by(self, service: Spawned) -> list[str]:
        """The subscriptions that a process delivers."""
        said = (await service.get("/metrics")).body.decode()
        return re.findall(
            r'^deploylog_delivery_lag_positions\{subscription="(.*)"', said, re.MULTILINE
        )


@pytest.fixture
async def world(store_url: str, tmp_path: Path) -> AsyncIterator[World]:
    options = {"secret_key_file": sealing_key(tmp_path), "delivery_allowed_networks": LOOPBACK}
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        services = [
            await stack.enter_async_context(spawned(store_url, pacing=PACING, **options))
            for _ in range(2)
        ]
        ids = [
            (await subscribe(services[number % 2], receiver.url, source="race"))["id"]
            for number in range(SUBSCRIPTIONS)
        ]
        yield World(services, receiver, ids)


async def test_of_two_processes_each_event_comes_once_and_in_order(world: World):
    await world.record(REQUESTS)

    await world.caught_up()

    log = await world.log()
    assert len(log) == REQUESTS * EVENTS_EACH
    assert world.arrived() == dict.fromkeys(world.subscriptions, log)


async def test_when_one_is_killed_the_other_goes_on_where_it_left_off(world: World):
    await world.record(2)
    await world.caught_up()
    held = {service: await world.held_by(service) for service in world.services}
    killed = max(held, key=lambda service: len(held[service]))
    recording = asyncio.create_task(world.record(REQUESTS))
    await until(lambda: len(world.receiver.requests) > SUBSCRIPTIONS * 50)
    killed.process.send_signal(signal.SIGKILL)
    await killed.process.wait()

    await asyncio.gather(recording, return_exceptions=True)
    world.services.remove(killed)
    left_off = {id: await recorded_of(world, id) for id in held[killed]}
    before = world.arrived()
    await world.record(10)
    await world.caught_up()

    log, arrived = await world.log(), world.arrived()
    assert sorted(id for ids in held.values() for id in ids) == sorted(world.subscriptions)
    for id in held[killed]:
        # Again comes what was not recorded, under the same ids, and nothing else.
        assert left_off[id] <= len(before[id]) < len(log)
        assert before[id] == log[: len(before[id])]
        assert arrived[id] == [*before[id], *log[left_off[id] :]]
    for id in {*world.subscriptions} - {*held[killed]}:
        assert arrived[id] == log


async def recorded_of(world: World, id: str) -> int:
    """How many events are recorded as delivered."""
    shown = await standing(world.services[0], id)
    answer = await world.services[0].get(f"{EVENTS}?source=race&order=oldest&limit=1000")
    positions = [int(event["position"]) for event in answer.json["events"]]
    return sum(position <= int(shown["checkpoint"]) for position in positions)
