"""The hub's memory: a limit in bytes on what it stores and sends, without losing an event."""

import asyncio

import msgspec

from deploylog.events.access import ALL
from deploylog.events.event import size_of
from deploylog.events.filters import EVERYTHING
from deploylog.events.hub import Hub
from deploylog.events.ring import BATCH_BYTES, StreamFilter
from deploylog.events.scope import ROOT
from deploylog.store.contract import Store
from support.factories import new_events
from support.waiting import until

MEMORY = 2 * 1024 * 1024

EVERY_EVENT = StreamFilter(scope=ROOT, filter=EVERYTHING, visibility=ALL)


def large_events(number: int, *, size: int = 60_000) -> list:
    data = msgspec.Raw(msgspec.json.encode("x" * size))
    return [msgspec.structs.replace(event, data=data) for event in new_events(number)]


async def test_a_ring_is_limited_in_bytes_and_the_log_has_the_rest(store: Store):
    hub = Hub(store.log, memory=MEMORY)
    async with hub.following(heartbeat=60):
        with hub.reader(EVERY_EVENT, after=0) as reader:
            for number in range(1, 9):
                await store.log.append(large_events(10))
                await until(lambda head=number * 10: hub.head >= head)  # type: ignore[misc]
            [ring] = hub._rings.values()
            stored = sum(map(size_of, ring._events))
            found: list[int] = []
            async with asyncio.timeout(20):
                while len(found) < 80:
                    batch = await reader.next()
                    assert batch is not None
                    found += [event.position for event in batch.events]

    assert 0 < stored <= MEMORY
    assert found == list(range(1, 81))


async def test_a_batch_is_small_or_one_event(store: Store):
    hub = Hub(store.log, memory=MEMORY)
    async with hub.following(heartbeat=60):
        await store.log.append([*new_events(1_000), *large_events(3, size=200_000)])
        await until(lambda: hub.head == 1_003)
        with hub.reader(EVERY_EVENT, after=0) as reader:
            position = 0
            async with asyncio.timeout(20):
                while position < 1_003:
                    batch = await reader.next()
                    assert batch is not None
                    assert batch.size <= BATCH_BYTES or len(batch.events) == 1
                    position = reader.position


async def test_a_large_event_waits_for_room_and_is_sent(store: Store):
    hub = Hub(store.log, memory=MEMORY)
    async with hub.following(heartbeat=60):
        await store.log.append(large_events(1, size=200_000))
        await until(lambda: hub.head == 1)
        taken = await hub.sending.acquire("ann", MEMORY)
        with hub.reader(EVERY_EVENT, after=0, caller="ann") as reader:
            waiting = asyncio.create_task(reader.next())
            await until(lambda: hub.sending._waiting)
            assert reader.position == 0
            hub.sending.release("ann", taken)
            async with asyncio.timeout(20):
                batch = await waiting

            assert batch is not None
            assert [event.position for event in batch.events] == [1]
            assert hub.sending.in_use
        assert not hub.sending.in_use
