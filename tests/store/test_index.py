"""The index: what a store finds, in sealed segments and in the newest events alike."""

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
from support.factories import Commits, OpenStoreAgain, new_event, new_events, now
from support.waiting import until

#: Events to append, and whether half of what there is then is pruned.
_steps = st.lists(
    st.tuples(st.lists(queries.events, min_size=1, max_size=12), st.booleans()),
    min_size=1,
    max_size=3,
)

#: What is done while a store is open, and whether little was missing before to fill a segment.
_sessions = st.lists(st.tuples(st.booleans(), _steps), min_size=1, max_size=3)

_filters = st.builds(
    StreamFilter, scope=queries.scopes, filter=queries.filters, visibility=queries.visibilities
)


@pytest.fixture
async def path(store_url: str, tmp_path: Path) -> Path:
    """Where a store is."""
    async with open_store(store_url, observer=Commits()):
        pass
    return tmp_path / "log.db"


@pytest.fixture
def retained() -> list[Event]:
    """What the examples of a property have recorded and not pruned."""
    return []


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sessions=_sessions,
    asked=st.lists(st.tuples(_filters, st.booleans()), min_size=1, max_size=4),
    limit=st.integers(1, 40),
)
async def test_a_store_finds_what_memory_does(
    sessions: list[tuple[bool, list[tuple[list[NewEvent], bool]]]],
    asked: list[tuple[StreamFilter, bool]],
    limit: int,
    backend: Backend,
    open_again: OpenStoreAgain,
    path: Path,
    retained: list[Event],
):
    """All examples share a store: each asks for what is after the ones before it, or for all."""
    start = retained[-1].position if retained else 0
    for is_filled, steps in sessions:
        if is_filled:
            backend.move_head(path, _before_the_end(retained))
        async with open_again() as store:
            for events, is_pruned in steps:
                retained += await store.log.append(events)
                if is_pruned:
                    await _prune_half(store, retained, start)
                for each, is_all in asked:
                    after = 0 if is_all else start
                    expected = [e for e in retained if e.position > after and each.matches(e)]
                    query = _query_of(each, after=after, limit=limit)
                    assert await store.log.read(query) == expected[:limit]


async def _prune_half(store: Store, retained: list[Event], start: int) -> None:
    """Prune all up to the middle of what is after ``start``."""
    newest = [event for event in retained if event.position > start]
    await store.log.prune(newest[len(newest) // 2].recorded)
    floor = await store.log.floor()
    retained[:] = [event for event in retained if event.position > floor]


def _query_of(asked: StreamFilter, *, after: int, limit: int) -> Query:
    return Query(
        scope=asked.scope,
        filter=asked.filter,
        visibility=asked.visibility,
        after=after,
        order="oldest",
        limit=limit,
    )


def _before_the_end(retained: list[Event]) -> int:
    """The head after which a few events more fill a segment."""
    head = retained[-1].position if retained else 0
    return max(head, (head // SEGMENT_SIZE + 1) * SEGMENT_SIZE - 5)


@pytest.fixture
def nearly_full(backend: Backend, path: Path) -> Path:
    """Where a store is whose first segment is full after 500 events."""
    backend.move_head(path, SEGMENT_SIZE - 501)
    return path


CI = Filter(all_of=(any_of("actor", ("ci",)),))


async def test_a_full_segment_is_sealed_while_the_store_is_used(
    backend: Backend, store_url: str, nearly_full: Path
):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(1_000, actor="ci"))
        await until(lambda: backend.sealed(nearly_full) == [0])

        found = await store.log.read(Query(filter=CI, limit=2_000))

    assert len(found) == 1_000


async def test_a_histogram_counts_neighbours_by_their_own_times(store: Store):
    await store.log.append([new_event(time=1_000 + second) for second in range(20)])

    counts = await store.log.histogram(Query(), [1_000, 1_005, 1_015, 1_018])

    assert counts == [5, 10, 3]


async def test_sealed_events_are_not_recorded_again(
    backend: Backend, store_url: str, nearly_full: Path
):
    events = new_events(1_000)
    async with open_store(store_url, observer=Commits()) as store:
        recorded = await store.log.append(events)
        await until(lambda: backend.sealed(nearly_full) == [0])

        again = await store.log.append(events[::-1])

    assert again == recorded[::-1]
    async with open_store(store_url, observer=Commits()) as store:
        assert await store.log.append(events) == recorded


async def test_events_that_another_process_recorded_and_sealed_are_not_recorded_again(
    backend: Backend, store_url: str, nearly_full: Path
):
    events = new_events(1_000)
    async with (
        open_store(store_url, observer=Commits()) as store,
        open_store(store_url, observer=Commits()) as other,
    ):
        await other.log.append(new_events(1))
        recorded = await store.log.append(events)
        newest = await store.log.append(new_events(3, actor="late"))
        await until(lambda: backend.sealed(nearly_full) == [0])

        again = await other.log.append(events)

        assert again == recorded
        assert await other.log.head() == newest[-1].position


async def test_a_full_segment_is_sealed_when_the_store_is_opened(
    backend: Backend, store_url: str, nearly_full: Path
):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(400, actor="ci"))
    assert backend.sealed(nearly_full) == []
    backend.move_head(nearly_full, SEGMENT_SIZE + 10)

    async with open_store(store_url, observer=Commits()) as store:
        found = await store.log.read(Query(filter=CI, limit=2_000))

    assert backend.sealed(nearly_full) == [0]
    assert len(found) == 400


async def test_pruned_segments_are_dropped(backend: Backend, store_url: str, nearly_full: Path):
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append(new_events(600))
        await until(lambda: backend.sealed(nearly_full) == [0])

        await store.log.prune(now())

        assert backend.sealed(nearly_full) == []
        assert await store.log.read(Query()) == []


async def test_two_processes_find_what_the_other_records(store_url: str, nearly_full: Path):
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
