"""The hub over a real store: rings, the batches that readers share, and reads from the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploylog.errors import StoreUnavailable
from deploylog.events.access import ALL, Visibility
from deploylog.events.batch import Batch, Gap
from deploylog.events.filters import EVERYTHING, Filter, any_of
from deploylog.events.hub import PAGE, Hub, Reader
from deploylog.events.ring import RING_SIZE, StreamFilter
from deploylog.events.scope import ROOT, Scope
from deploylog.events.store import Page, Query
from deploylog.store.contract import Store
from support.factories import event, new_event, new_events, now
from support.waiting import until


def matching(
    scope: Scope = ROOT, filter: Filter = EVERYTHING, visibility: Visibility = ALL
) -> StreamFilter:
    return StreamFilter(scope=scope, filter=filter, visibility=visibility)


async def next_of(reader: Reader) -> Batch | None:
    async with asyncio.timeout(10):
        return await reader.next()


async def until_head(hub: Hub, head: int) -> None:
    await until(lambda: hub.head >= head)


async def positions(reader: Reader, number: int) -> list[int]:
    """The positions of the next ``number`` events."""
    found: list[int] = []
    while len(found) < number:
        batch = await next_of(reader)
        assert batch is not None
        found += [e.position for e in batch.events]
    return found


async def test_readers_with_the_same_filter_share_a_batch(store: Store, hub: Hub):
    with hub.reader(matching(), after=0) as one, hub.reader(matching(), after=0) as other:
        await store.log.append(new_events(3))

        first, second = await next_of(one), await next_of(other)

    assert first is second
    assert first is not None
    assert len(first.events) == 3


def test_a_batch_is_rendered_once_for_each_api():
    batch = Batch([event(1), event(2)])
    rendered: list[int] = []

    def render(event: object) -> bytes:
        rendered.append(1)
        return b"x"

    def render_otherwise(event: object) -> bytes:
        return b"y"

    assert (batch.joined(render), batch.joined(render)) == (b"xx", b"xx")
    assert list(batch.frames(render)) == [b"x", b"x"]
    assert batch.joined(render_otherwise) == b"yy"
    assert len(rendered) == 2


async def test_readers_with_different_filters_get_different_batches(store: Store, hub: Hub):
    of_b = matching(filter=Filter(all_of=(any_of("type", ("b",)),)))
    with hub.reader(matching(), after=0) as everything, hub.reader(of_b, after=0) as some:
        await store.log.append([new_event("a"), new_event("b"), new_event("a")])

        assert await positions(everything, 3) == [1, 2, 3]
        assert await positions(some, 1) == [2]


async def test_a_reader_starts_in_the_log_and_continues_in_its_ring(store: Store, hub: Hub):
    await store.log.append(new_events(PAGE + 10))
    await until_head(hub, PAGE + 10)

    with hub.reader(matching(), after=5) as reader:
        history = await positions(reader, PAGE + 5)
        await store.log.append(new_events(3))
        live = await positions(reader, 3)

    assert history + live == list(range(6, PAGE + 14))


async def test_more_events_than_a_ring_holds_are_read_from_the_log(store: Store, hub: Hub):
    number = RING_SIZE + PAGE
    with hub.reader(matching(), after=0) as reader:
        await store.log.append(new_events(number))
        await until_head(hub, number)

        assert await positions(reader, number) == list(range(1, number + 1))


async def test_a_ring_drops_its_oldest_events_and_the_log_has_them(store: Store, hub: Hub):
    rounds, each = 6, RING_SIZE // 4
    with hub.reader(matching(), after=0) as slow:
        for number in range(rounds):
            await store.log.append(new_events(each))
            await until_head(hub, (number + 1) * each)

        [ring] = hub._rings.values()
        assert len(ring._events) == RING_SIZE
        assert ring.floor == rounds * each - RING_SIZE
        assert await positions(slow, rounds * each) == list(range(1, rounds * each + 1))


async def test_a_reader_that_joins_an_old_ring_below_its_floor_reads_the_log(
    store: Store, hub: Hub
):
    await store.log.append(new_events(10))
    await until_head(hub, 10)
    with hub.reader(matching(), after=10):
        await store.log.append(new_events(10))
        await until_head(hub, 20)

        with (
            hub.reader(matching(), after=3) as late,
            hub.reader(matching(), after=15) as later,
        ):
            assert await positions(late, 17) == list(range(4, 21))
            assert await positions(later, 5) == list(range(16, 21))


async def test_a_reader_ahead_of_the_hub_waits_until_it_catches_up(store: Store, hub: Hub):
    with hub.reader(matching(), after=5) as reader:
        await store.log.append(new_events(8))

        assert await positions(reader, 3) == [6, 7, 8]


async def test_events_that_do_not_match_move_the_reader_on_silently(store: Store, hub: Hub):
    elsewhere = matching(scope=Scope("project/other"))
    with hub.reader(elsewhere, after=0) as reader:
        waiting = asyncio.create_task(next_of(reader))
        await store.log.append(new_events(5))
        [wanted] = await store.log.append([new_event(scopes=("project/other",))])

        batch = await waiting

    assert batch is not None
    assert [e.position for e in batch.events] == [wanted.position]


async def test_a_reader_gets_a_gap_for_events_deleted_before_it_read_them(store: Store, hub: Hub):
    await store.log.append(new_events(PAGE * 2))
    await until_head(hub, PAGE * 2)
    with hub.reader(matching(), after=0) as reader:
        *_, last = await positions(reader, PAGE)
        await store.log.prune(now() + 10**12)
        later = await store.log.append(new_events(2))

        batch = await next_of(reader)

        assert batch is not None
        assert batch.gap == Gap(after=last, floor=PAGE * 2, reason="expired")
        assert batch.events == ()
        assert await positions(reader, 2) == [e.position for e in later]


async def test_a_reader_gets_no_gap_for_deleted_events_that_it_has_read(store: Store, hub: Hub):
    await store.log.append(new_events(10))
    await until_head(hub, 10)
    with hub.reader(matching(), after=0) as reader:
        await positions(reader, 10)
        await store.log.prune(now() + 10**12)
        await store.log.append(new_events(1))

        batch = await next_of(reader)

    assert batch is not None
    assert (batch.gap, len(batch.events)) == (None, 1)


async def test_closing_the_hub_closes_every_reader(hub: Hub):
    with hub.reader(matching(), after=0) as one, hub.reader(matching(), after=0) as other:
        waiting = [asyncio.create_task(next_of(reader)) for reader in (one, other)]
        await asyncio.sleep(0)

        hub.close()

        assert [await each for each in waiting] == [None, None]
        assert await next_of(one) is None


async def test_closing_one_reader_closes_only_that_one(store: Store, hub: Hub):
    with hub.reader(matching(), after=0) as one, hub.reader(matching(), after=0) as other:
        waiting = asyncio.create_task(next_of(one))
        await asyncio.sleep(0)

        one.close()
        await store.log.append(new_events(1))

        assert await waiting is None
        assert await positions(other, 1) == [1]


async def test_a_ring_is_dropped_with_its_last_reader(hub: Hub):
    with hub.reader(matching(), after=0):
        with hub.reader(matching(), after=0):
            assert (hub.readers, len(hub._rings)) == (2, 1)
        assert (hub.readers, len(hub._rings)) == (1, 1)

    assert (hub.readers, len(hub._rings)) == (0, 0)


async def test_a_quiet_log_sends_heartbeats(store: Store):
    hub = Hub(store.log)
    async with hub.following(heartbeat=0.02):
        with hub.reader(matching(), after=0) as reader:
            for _ in range(3):
                batch = await next_of(reader)
                assert batch is not None
                assert (batch.events, batch.gap) == ((), None)


async def test_a_heartbeat_replaces_no_event(store: Store):
    hub = Hub(store.log)
    async with hub.following(heartbeat=0.001):
        with hub.reader(matching(), after=0) as reader:
            for _ in range(30):
                await store.log.append(new_events(2))

            assert await positions(reader, 60) == list(range(1, 61))


@asynccontextmanager
async def failing_at_first(store: Store) -> AsyncIterator[Hub]:
    """A hub whose log fails the first time that the hub follows it."""

    class Flaky:
        failures = 1

        def __getattr__(self, name: str) -> object:
            return getattr(store.log, name)

        async def heads(self) -> AsyncIterator[int]:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable
            async for head in store.log.heads():
                yield head

    hub = Hub(Flaky(), retry_seconds=0.01)  # type: ignore[arg-type]
    async with hub.following(heartbeat=60):
        yield hub


async def test_a_store_that_fails_for_a_while_loses_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
):
    async with failing_at_first(store) as hub:
        with hub.reader(matching(), after=0) as reader:
            await store.log.append(new_events(3))

            assert await positions(reader, 3) == [1, 2, 3]

    assert "cannot follow the log" in caplog.text


async def test_many_readers_of_one_log_agree_with_it(store: Store, hub: Hub):
    async def read(after: int) -> list[int]:
        with hub.reader(matching(), after=after) as reader:
            return await positions(reader, 400 - after)

    async def write() -> None:
        for _ in range(100):
            await store.log.append(new_events(4))

    answers = await asyncio.gather(write(), *(read(after) for after in range(0, 300, 10)))

    everything = [e.position for e in await store.log.read(Query(order="oldest", limit=1000))]
    for after, seen in zip(range(0, 300, 10), answers[1:], strict=True):
        assert seen == [position for position in everything if position > after]


async def test_a_batch_shared_while_the_hub_reads_hides_no_event_from_other_readers(
    store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    reads, may_read, read = asyncio.Event(), asyncio.Event(), store.log.read

    async def read_later(query: Query) -> Page:
        reads.set()
        await may_read.wait()
        return await read(query)

    with hub.reader(matching(), after=0) as one, hub.reader(matching(), after=0) as other:
        await store.log.append(new_events(2))
        await until_head(hub, 2)
        monkeypatch.setattr(store.log, "read", read_later)
        await store.log.append(new_events(2))
        async with asyncio.timeout(10):
            await reads.wait()

        assert await positions(one, 2) == [1, 2]
        may_read.set()
        await until_head(hub, 4)

        assert await positions(other, 4) == [1, 2, 3, 4]
