"""The index: what a store finds, in sealed segments and in the newest events alike."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.ring import StreamFilter
from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.contract import Store
from support import queries
from support.backends import Backend
from support.factories import Commits, new_event, new_events, now
from support.waiting import until

_steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "fill", "fill", "prune"]),
        st.lists(queries.events, min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=5,
)

_filters = st.builds(
    StreamFilter, scope=queries.scopes, filter=queries.filters, visibility=queries.visibilities
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_steps, asked=st.lists(_filters, min_size=1, max_size=4), limit=st.integers(1, 40))
def test_a_store_finds_what_memory_does(
    steps: list[tuple[str, list[NewEvent]]],
    asked: list[StreamFilter],
    limit: int,
    backend: Backend,
    tmp_path_factory: pytest.TempPathFactory,
):
    path = tmp_path_factory.mktemp("store") / "log.db"

    async def run() -> None:
        recorded: list[Event] = []
        async with open_store(backend.url_at(path), observer=Commits()):
            pass
        for kind, events in steps:
            if kind == "fill":
                backend.move_head(path, _before_the_end(recorded))
            async with open_store(backend.url_at(path), observer=Commits()) as store:
                recorded += await store.log.append(events)
                if kind == "prune":
                    await store.log.prune(recorded[len(recorded) // 2].recorded)
                    floor = await store.log.floor()
                    recorded = [event for event in recorded if event.position > floor]
                for each in asked:
                    query = Query(
                        scope=each.scope,
                        filter=each.filter,
                        visibility=each.visibility,
                        order="oldest",
                        limit=limit,
                    )
                    expected = [event for event in recorded if each.matches(event)]
                    assert await store.log.read(query) == expected[:limit]

    asyncio.run(run())


def _before_the_end(recorded: list[Event]) -> int:
    """The head after which a few events more fill a segment."""
    head = recorded[-1].position if recorded else 0
    return max(head, (head // SEGMENT_SIZE + 1) * SEGMENT_SIZE - 5)


@pytest.fixture
async def path(backend: Backend, store_url: str, tmp_path: Path) -> Path:
    """Where a store is whose first segment is full after 500 events."""
    async with open_store(store_url, observer=Commits()):
        pass
    path = tmp_path / "log.db"
    backend.move_head(path, SEGMENT_SIZE - 501)
    return path


CI = Filter(all_of=(any_of("actor", ("ci",)),))


async def test_a_full_segment_is_sealed_while_the_store_is_used(
    backend: Backend, store_url: str, path: Path
):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(1_000, actor="ci"))
        await until(lambda: backend.sealed(path) == [0])

        found = await store.log.read(Query(filter=CI, limit=2_000))

    assert len(found) == 1_000


async def test_a_histogram_counts_neighbours_by_their_own_times(store: Store):
    await store.log.append([new_event(time=1_000 + second) for second in range(20)])

    counts = await store.log.histogram(Query(), [1_000, 1_005, 1_015, 1_018])

    assert counts == [5, 10, 3]


async def test_sealed_events_are_not_recorded_again(backend: Backend, store_url: str, path: Path):
    events = new_events(1_000)
    async with open_store(store_url, observer=Commits()) as store:
        recorded = await store.log.append(events)
        await until(lambda: backend.sealed(path) == [0])

        again = await store.log.append(events[::-1])

    assert again == recorded[::-1]
    async with open_store(store_url, observer=Commits()) as store:
        assert await store.log.append(events) == recorded


async def test_events_that_another_process_recorded_and_sealed_are_not_recorded_again(
    backend: Backend, store_url: str, path: Path
):
    events = new_events(1_000)
    async with (
        open_store(store_url, observer=Commits()) as store,
        open_store(store_url, observer=Commits()) as other,
    ):
        await other.log.append(new_events(1))
        recorded = await store.log.append(events)
        newest = await store.log.append(new_events(3, actor="late"))
        await until(lambda: backend.sealed(path) == [0])

        again = await other.log.append(events)

        assert again == recorded
        assert await other.log.head() == newest[-1].position


async def test_a_full_segment_is_sealed_when_the_store_is_opened(
    backend: Backend, store_url: str, path: Path
):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(400, actor="ci"))
    assert backend.sealed(path) == []
    backend.move_head(path, SEGMENT_SIZE + 10)

    async with open_store(store_url, observer=Commits()) as store:
        found = await store.log.read(Query(filter=CI, limit=2_000))

    assert backend.sealed(path) == [0]
    assert len(found) == 400


async def test_pruned_segments_are_dropped(backend: Backend, store_url: str, path: Path):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(600))
        await until(lambda: backend.sealed(path) == [0])

        await store.log.prune(now())

        assert backend.sealed(path) == []
        assert await store.log.read(Query()) == []


async def test_two_processes_find_what_the_other_records(store_url: str, path: Path):
    """Each feeds its newest events from the rows of the other, over the end of a segment."""
    async with (
        open_store(store_url, observer=Commits()) as one,
        open_store(store_url, observer=Commits()) as other,
    ):
        for number in range(1, 13):
            await (one if number % 2 else other).log.append(new_events(50, actor="ci"))

            for store in (one, other):
                found = await store.log.read(Query(filter=CI, limit=2_000))
                assert len(found) == 50 * number
