"""What every store must do with events: ``EventLog``, sentence by sentence."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.errors import (
    EventNotFound,
    RequestReused,
)
from deploylog.events.access import Visibility
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import FIELDS, AnyOf, Filter, any_of
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT, Scope, parse_scope
from deploylog.events.store import PAGE_BYTES, IdempotencyKey, Query, following
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.backends import Backend
from support.factories import (
    Commits,
    OpenStoreAgain,
    new_event,
    new_events,
    now,
)
from support.processes import new_processes
from support.waiting import until
from support.writers import write_numbers

KEY = IdempotencyKey(key="k", fingerprint=b"f")


async def test_an_empty_log_has_no_head(store: Store):
    assert await store.log.head() == 0
    assert await store.log.floor() == 0
    assert await store.log.read(Query()) == []


async def test_appended_events_come_back_as_they_were(store: Store):
    sent = new_event(
        scopes=("project/acme/stack/1", "state/acme/prod/web"),
        producer_id="1",
        subject="web",
        groups=("ops", "web"),
        actor="alice",
        resource="vpc",
        elapsed=8_000_000_000,
        message="ünï\ncode",
        data={"a": [1, None, "x"]},
    )

    [recorded] = await store.log.append([sent])

    assert await store.log.get(recorded.position) == recorded
    assert await store.log.read(Query()) == [recorded]
    for field in NewEvent.__struct_fields__:
        assert getattr(recorded, field) == getattr(sent, field)


async def test_positions_and_ids_rise(store: Store):
    events = await store.log.append(new_events(10))
    events += await store.log.append(new_events(10))

    assert [e.position for e in events] == sorted({e.position for e in events})
    assert [e.id for e in events] == sorted({e.id for e in events})
    assert await store.log.head() == events[-1].position


async def test_the_same_id_is_recorded_once(store: Store):
    event = new_event(producer_id="1")
    [first] = await store.log.append([event])

    [again] = await store.log.append([event])

    assert again == first
    assert await store.log.read(Query()) == [first]


async def test_the_same_id_of_another_source_is_another_event(store: Store):
    await store.log.append([new_event(producer_id="1", source="a")])
    await store.log.append([new_event(producer_id="1", source="b")])

    assert len(await store.log.read(Query())) == 2


async def test_the_same_id_in_other_scopes_is_another_event(store: Store):
    """Otherwise a writer of one project could use up the ids of another."""
    [theirs] = await store.log.append([new_event(producer_id="1", scopes=("project/evil",))])

    [ours] = await store.log.append([new_event(producer_id="1", scopes=("project/acme",))])

    assert ours.position > theirs.position
    assert await store.log.read(Query(scope=Scope("project/acme"))) == [ours]


async def test_an_id_twice_in_one_batch_is_recorded_once(store: Store):
    event = new_event(producer_id="1")

    [first, again] = await store.log.append([event, event])

    assert again == first
    assert await store.log.read(Query()) == [first]


async def test_events_without_an_id_are_all_recorded(store: Store):
    event = new_event()

    await store.log.append([event, event])

    assert len(await store.log.read(Query())) == 2


async def test_a_batch_of_old_and_new_answers_in_its_own_order(store: Store):
    old, new = new_event(producer_id="old"), new_event(producer_id="new")
    [first] = await store.log.append([old])

    [second, again] = await store.log.append([new, old])

    assert again == first
    assert second.position > first.position


async def test_concurrent_retries_are_recorded_once(store: Store):
    batch = new_events(20)

    answers = await asyncio.gather(*(store.log.append(batch) for _ in range(10)))

    assert all(answer == answers[0] for answer in answers)
    assert len(await store.log.read(Query())) == 20


async def test_requests_share_a_commit(store: Store, commits: Commits):
    await asyncio.gather(*(store.log.append(new_events(1)) for _ in range(200)))

    assert commits.events == 200
    assert commits.commits < 100


async def test_acknowledged_events_survive_reopening(open_again: OpenStoreAgain):
    async with open_again() as store:
        recorded = await store.log.append(new_events(3))
    async with open_again() as store:
        assert await store.log.read(Query(order="oldest")) == recorded
        [next_one] = await store.log.append([new_event()])

    assert next_one.position > recorded[-1].position
    assert next_one.id > recorded[-1].id


async def test_a_retried_request_returns_the_same_events(store: Store):
    request = IdempotencyKey(key="k", fingerprint=b"1")
    first = await store.log.append([new_event(), new_event()], request=request)

    again = await store.log.append([new_event(), new_event()], request=request)

    assert again == first
    assert len(await store.log.read(Query())) == 2


async def test_a_request_key_used_for_something_else_is_refused(store: Store):
    await store.log.append([new_event()], request=IdempotencyKey(key="k", fingerprint=b"1"))

    with pytest.raises(RequestReused):
        await store.log.append([new_event()], request=IdempotencyKey(key="k", fingerprint=b"2"))

    assert len(await store.log.read(Query())) == 1


async def test_the_same_request_at_the_same_moment_is_recorded_once(store: Store):
    request = IdempotencyKey(key="k", fingerprint=b"1")

    answers = await asyncio.gather(
        *(store.log.append([new_event(), new_event()], request=request) for _ in range(5))
    )

    assert all(answer == answers[0] for answer in answers)
    assert len(await store.log.read(Query())) == 2


async def test_a_retry_whose_older_events_are_pruned_fails_no_other_request(store: Store):
    """Some events of the request were recorded before it, so they go before the others."""
    old = new_event(producer_id="old")
    [first] = await store.log.append([old])
    await until(lambda: now() > first.recorded)
    batch = [old, new_event(producer_id="new")]
    [_, second] = await store.log.append(batch, request=KEY)
    await store.log.prune(second.recorded)

    retry, other = await asyncio.gather(
        store.log.append(batch, request=KEY),
        store.log.append(new_events(1)),
        return_exceptions=True,
    )

    assert isinstance(other, list), other
    assert isinstance(retry, list), retry
    assert second in retry


async def test_an_event_is_found_under_every_prefix_of_each_scope(store: Store):
    scopes = ("project/acme/stack/1/deployment/2", "state/acme/prod/web")
    recorded = await store.log.append([new_event(scopes=scopes)])

    for scope in ("", "project", "project/acme", "project/acme/stack", scopes[0], "state/acme"):
        assert await store.log.read(Query(scope=parse_scope(scope))) == recorded
    for scope in ("project/ac", "project/acme/stack/2", "acme", scopes[0] + "/x"):
        assert await store.log.read(Query(scope=parse_scope(scope))) == []


async def test_pages_of_both_directions_are_full_and_meet(store: Store):
    events = await store.log.append(new_events(25))
    positions = [event.position for event in events]

    newest = await store.log.read(Query(limit=10))
    older = await store.log.read(Query(limit=10, before=newest[-1].position))
    oldest = await store.log.read(Query(limit=10, order="oldest"))
    between = await store.log.read(
        Query(order="oldest", after=positions[4], before=positions[8], limit=10)
    )

    assert [e.position for e in newest] == positions[:14:-1]
    assert [e.position for e in older] == positions[14:4:-1]
    assert [e.position for e in oldest] == positions[:10]
    assert [e.position for e in between] == positions[5:8]


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_page_of_large_events_ends_at_the_limit_of_bytes_and_has_a_next(
    store: Store, order: Literal["newest", "oldest"]
):
    large = new_events(70, data="x" * 250_000)
    recorded = await store.log.append(large)

    pages = [await store.log.read(Query(order=order, limit=1000))]
    while (position := pages[-1].next) is not None:
        pages.append(await store.log.read(following(Query(order=order, limit=1000), position)))

    assert [len(page) for page in pages] == [33, 33, 4]
    assert all(page.size <= PAGE_BYTES for page in pages)
    joined = [event for page in pages for event in page]
    assert joined == (recorded[::-1] if order == "newest" else recorded)


async def test_the_last_page_has_no_next(store: Store):
    await store.log.append(new_events(5))

    assert (await store.log.read(Query(limit=6))).next is None
    assert (await store.log.read(Query(limit=2))).next == 4


async def test_a_filtered_page_is_full_unless_the_end_is_reached(store: Store):
    rare = "resource.create.failed"
    await store.log.append(
        [new_event(rare if i % 50 == 0 else "deployment.log") for i in range(1000)]
    )
    query = Query(filter=Filter(all_of=(any_of("type", (rare,)),)), limit=15)

    first = await store.log.read(query)
    second = await store.log.read(Query(filter=query.filter, limit=15, before=first[-1].position))

    assert (len(first), len(second)) == (15, 5)
    assert {event.type for event in first + second} == {rare}


async def test_a_filter_that_names_no_value_matches_nothing(store: Store):
    await store.log.append([new_event()])

    assert await store.log.read(Query(filter=Filter(all_of=(AnyOf(field="type"),)))) == []


async def test_a_time_range_is_found_wherever_it_was_recorded(store: Store):
    old = await store.log.append([new_event(time=1_000 + i) for i in range(5)])
    await store.log.append(new_events(3000))
    late = await store.log.append([new_event(time=1_002)])

    found = await store.log.read(Query(filter=Filter(since=1_002, until=1_004), order="oldest"))

    assert found == [old[2], old[3], *late]


async def test_a_principal_of_a_thousand_groups_and_grants_reads_its_events(store: Store):
    mine = new_event(groups=("g500",), scopes=("project/p500",))
    await store.log.append([new_event(groups=("other",), scopes=("project/p500",)), mine])
    visibility = Visibility(
        scopes=tuple(Scope(f"project/p{n}") for n in range(1000)),
        groups=frozenset(f"g{n}" for n in range(1000)),
    )

    found = await store.log.read(Query(visibility=visibility))

    assert [event.groups for event in found] == [("g500",)]


async def test_a_position_that_holds_nothing_is_not_found(store: Store):
    with pytest.raises(EventNotFound):
        await store.log.get(1)


async def test_the_position_before_a_time_is_found(open_again: OpenStoreAgain):
    async with open_again() as store:
        events = [(await store.log.append([new_event()]))[0] for _ in range(20)]

        for event in events:
            before = await store.log.position_before(event.recorded)
            assert all(e.recorded < event.recorded for e in events if e.position <= before)
            assert all(e.recorded >= event.recorded for e in events if e.position > before)
        assert await store.log.position_before(now()) == events[-1].position


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_an_event_that_does_not_fit_ends_the_page_wherever_the_search_meets_it(
    store: Store, order: Literal["newest", "oldest"]
):
    # The search looks at more and more positions in a step; the large one begins a step.
    wanted, large = range(50, 4_001, 50), {50, 550, 3_450, 4_000}
    events = [
        new_event("a", subject="wanted" if n in wanted else "other", message="x" * 40_000)
        if n in large
        else new_event("a", subject="wanted" if n in wanted else "other")
        for n in range(1, 4_001)
    ]
    await store.log.append(events)
    query = Query(
        filter=Filter(all_of=(any_of("subject", ("wanted",)),)),
        order=order, limit=500, bytes=64 * 1024,
    )  # fmt: skip

    page = await store.log.read(query)
    found = [event.position for event in page]
    while page.next is not None:
        page = await store.log.read(following(query, page.next))
        found += [event.position for event in page]

    assert found == list(wanted)[:: 1 if order == "oldest" else -1]


async def test_a_prefix_finds_its_values_and_none_beside_them(store: Store):
    types = ["app", "app.", "app.a", "app.b.c", "app/a", "apq", "b.a", "zz"]
    await store.log.append([new_event(type) for type in types])
    await store.log.append([new_event(f"many.n{number}") for number in range(600)])

    async def found(*prefixes: str) -> list[str]:
        query = Query(
            filter=Filter(all_of=(any_of("type", prefixes),)), order="oldest", limit=1_000
        )
        return [event.type for event in await store.log.read(query)]

    assert await found("app.*") == ["app.", "app.a", "app.b.c"]
    assert await found("app.*", "zz") == ["app.", "app.a", "app.b.c", "zz"]
    assert await found("none.*") == []
    # Too many to be looked up one by one.
    assert len(await found("many.*", "b.*")) == 601


_names = st.sampled_from(["a", "b", "resource.create.started", "resource.create.failed", "x y"])


_scopes = st.sampled_from(
    ["project/a", "project/a/stack/1", "project/b/stack/2/deployment/3", "state/a/b/c", "image/1"]
)


_events = st.lists(
    st.builds(
        new_event,
        _names.filter(lambda name: " " not in name),
        scopes=st.lists(_scopes, min_size=1, max_size=2, unique=True).map(tuple),
        groups=st.lists(st.sampled_from(["*", "g", "h"]), max_size=2, unique=True).map(
            lambda groups: tuple(sorted(groups))
        ),
        actor=st.none() | _names,
        subject=st.none() | _names,
        resource=st.none() | _names,
        time=st.integers(0, 20),
    ),
    min_size=1,
    max_size=30,
)


_conditions = st.builds(
    AnyOf,
    field=st.sampled_from(FIELDS),
    values=st.lists(_names, max_size=3).map(tuple),
    prefixes=st.lists(st.sampled_from(["resource.", "a.", "resource.create."]), max_size=2).map(
        tuple
    ),
)


_filters = st.builds(
    Filter,
    all_of=st.lists(_conditions, max_size=2).map(tuple),
    scopes=st.lists(_scopes.map(Scope) | st.just(ROOT), max_size=2).map(tuple),
    since=st.none() | st.integers(0, 20),
    until=st.none() | st.integers(0, 20),
)


_visibilities = st.builds(
    Visibility,
    scopes=st.lists(_scopes.map(Scope) | st.just(ROOT), max_size=3).map(tuple),
    groups=st.none() | st.frozensets(st.sampled_from(["g", "h", "i"])),
)


_interests = st.builds(
    StreamFilter,
    scope=_scopes.map(Scope) | st.just(ROOT),
    filter=_filters,
    visibility=_visibilities,
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    events=_events,
    interests=st.lists(_interests, min_size=1, max_size=5),
    limit=st.integers(1, 40),
)
async def test_a_store_and_memory_agree_on_what_a_query_finds(
    events: list[NewEvent], interests: list[StreamFilter], limit: int, store: Store
):
    """All examples share a store: each asks for what is after the ones before it."""
    before = await store.log.head()
    recorded = await store.log.append(events)

    for interest in interests:
        query = Query(
            scope=interest.scope,
            filter=interest.filter,
            visibility=interest.visibility,
            after=before,
            order="oldest",
            limit=limit,
        )
        expected = [event for event in recorded if interest.matches(event)]
        assert await store.log.read(query) == expected[:limit]


async def test_a_tailing_reader_misses_nothing_that_many_processes_write(
    store: Store, store_url: str
):
    """Invariant: who has seen position N never later sees a new event at or below N."""
    writers, each = 6, 150
    processes = new_processes()
    running = [
        processes.Process(target=write_numbers, args=(store_url, writer, each))
        for writer in range(writers)
    ]
    for process in running:
        process.start()
    seen: list[Event] = []
    try:
        async with asyncio.timeout(60):
            async for head in store.log.heads():
                after = seen[-1].position if seen else 0
                seen += await store.log.read(
                    Query(after=after, before=head + 1, order="oldest", limit=10_000)
                )
                if len(seen) >= writers * each:
                    break
    finally:
        for process in running:
            await asyncio.to_thread(process.join)

    everything = await store.log.read(Query(order="oldest", limit=100_000))
    assert seen == everything
    for writer in range(writers):
        own = [int(e.subject or "") for e in seen if e.actor == f"writer-{writer}"]
        assert own == list(range(each))


async def test_a_commit_of_this_process_moves_the_head_at_once(store: Store):
    changes = store.log.heads()
    first = await anext(changes)

    [event] = await store.log.append([new_event()])

    async with asyncio.timeout(5):
        assert (first, await anext(changes)) == (0, event.position)


async def test_pruned_events_are_gone_from_every_list(store: Store):
    old = await store.log.append(new_events(3000, groups=("g",), resource="vpc"))
    retained = await store.log.append(new_events(5))
    cut = retained[0].recorded

    pruned = await store.log.prune(cut)

    assert pruned == 3000
    assert await store.log.floor() == old[-1].position
    assert await store.log.read(Query(limit=10_000, order="oldest")) == retained
    assert await store.log.read(Query(scope=Scope("project/acme"), order="oldest")) == retained
    with pytest.raises(EventNotFound):
        await store.log.get(old[0].position)


async def test_a_process_that_prunes_late_does_not_move_the_floor_back(
    store: Store, open_again: OpenStoreAgain, monkeypatch: pytest.MonkeyPatch
):
    end = (await store.log.append(new_events(2_500)))[-1].position
    cut = now() + 10**12
    async with open_again() as late:
        floor, seen = late.log.floor, []

        async def overtaken() -> int:
            seen.append(await floor())
            if len(seen) == 1:
                await store.log.prune(cut)
            return seen[-1]

        monkeypatch.setattr(late.log, "floor", overtaken)
        await late.log.prune(cut)

    assert seen == [0, end]


async def test_positions_go_on_after_everything_was_pruned(store: Store):
    [old] = await store.log.append([new_event()])
    await store.log.prune(now() + 10**12)

    [new] = await store.log.append([new_event()])

    assert new.position > old.position
    assert new.id > old.id


async def test_a_pruned_id_may_be_recorded_again(store: Store):
    event = new_event(producer_id="1")
    [first] = await store.log.append([event])
    await store.log.prune(now() + 10**12)

    [again] = await store.log.append([event])

    assert again.position > first.position


async def test_an_epoch_is_drawn_once(open_again: OpenStoreAgain):
    async with open_again() as store:
        epoch = store.log.epoch
    async with open_again() as store:
        assert store.log.epoch == epoch


async def test_two_logs_have_different_epochs(backend: Backend, tmp_path: Path, commits: Commits):
    epochs = set()
    for name in ("a", "b"):
        async with open_store(backend.url_at(tmp_path / name), observer=commits) as store:
            epochs.add(store.log.epoch)

    assert len(epochs) == 2
