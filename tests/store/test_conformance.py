"""What every store must do: the docstrings of each room's ``store.py``, one by one.

A backend is done when it passes.
"""

import asyncio
import multiprocessing
from pathlib import Path
from typing import Literal
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.auth.store import Credential
from deploylog.errors import (
    CleanupNotFound,
    Conflict,
    DeploymentNotFound,
    EventNotFound,
    InvalidEvent,
    KeyNotFound,
    RequestReused,
    StackExists,
    StackNotFound,
)
from deploylog.events.access import ALL, Grant, Visibility
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import FIELDS, AnyOf, Filter, any_of
from deploylog.events.retention import Cleanup
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT, Scope, parse_scope
from deploylog.events.store import PAGE_BYTES, IdempotencyKey, Query, following
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.factories import (
    Commits,
    OpenStoreAgain,
    deployment_event,
    new_event,
    new_events,
    now,
    stack_created,
    unique,
)
from support.writers import write_numbers

# Appending


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


async def test_ids_rise_also_when_the_clock_is_set_back(tmp_path: Path, commits: Commits):
    from deploylog.store.sqlite import open_sqlite

    times = iter([now(), now() - 10**12, now() - 10**15])
    async with open_sqlite(
        tmp_path / "log.db", observer=commits, clock=lambda: next(times)
    ) as store:
        events = [(await store.log.append([new_event()]))[0] for _ in range(3)]

    assert [e.id for e in events] == sorted({e.id for e in events})
    assert [e.recorded for e in events] == sorted(e.recorded for e in events)


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
    """Or whoever may write one project could use up the ids of another."""
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


async def test_what_was_acknowledged_is_there_after_reopening(open_again: OpenStoreAgain):
    async with open_again() as store:
        recorded = await store.log.append(new_events(3))
    async with open_again() as store:
        assert await store.log.read(Query(order="oldest")) == recorded
        [next_one] = await store.log.append([new_event()])

    assert next_one.position > recorded[-1].position
    assert next_one.id > recorded[-1].id


# Requests


async def test_a_request_that_comes_again_is_answered_as_before(store: Store):
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


# Reading


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
async def test_a_page_of_large_events_ends_with_the_bytes_and_says_that_there_are_more(
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


async def test_an_event_larger_than_a_page_is_a_page(store: Store, monkeypatch):
    monkeypatch.setattr("deploylog.store.sqlite.pages.PAGE_BYTES", 10)
    first, second = await store.log.append(new_events(2))

    page = await store.log.read(Query(order="oldest"))

    assert (page, page.next) == ([first], first.position)
    assert await store.log.read(Query(order="oldest", after=page.next)) == [second]


async def test_the_last_page_says_that_nothing_is_left(store: Store):
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


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_store_and_memory_agree_on_what_a_query_finds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, commits: Commits
):
    events = data.draw(_events)
    interests = data.draw(
        st.lists(
            st.builds(
                StreamFilter,
                scope=_scopes.map(Scope) | st.just(ROOT),
                filter=_filters,
                visibility=_visibilities,
            ),
            min_size=1,
            max_size=5,
        )
    )
    limit = data.draw(st.integers(1, 40))
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'log.db'}"

    async def ask() -> list[tuple[list[Event], list[Event]]]:
        async with open_store(url, observer=commits) as store:
            recorded = await store.log.append(events)
            return [
                (
                    await store.log.read(
                        Query(
                            scope=interest.scope,
                            filter=interest.filter,
                            visibility=interest.visibility,
                            order="oldest",
                            limit=limit,
                        )
                    ),
                    [event for event in recorded if interest.matches(event)][:limit],
                )
                for interest in interests
            ]

    for found, expected in asyncio.run(ask()):
        assert found == expected


# Many writers, one order


async def test_a_tailing_reader_misses_nothing_that_many_processes_write(
    store: Store, store_url: str
):
    """Invariant: who has seen position N never later sees a new event at or below N."""
    writers, each = 6, 150
    processes = multiprocessing.get_context("spawn")
    running = [
        processes.Process(target=write_numbers, args=(store_url, writer, each))
        for writer in range(writers)
    ]
    for process in running:
        process.start()
    seen: list[Event] = []
    try:
        async with asyncio.timeout(60):
            async for head in store.log.changes():
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


async def test_a_change_made_here_is_told_at_once(store: Store):
    changes = store.log.changes()
    first = await anext(changes)

    [event] = await store.log.append([new_event()])

    async with asyncio.timeout(5):
        assert (first, await anext(changes)) == (0, event.position)


# Forgetting


async def test_pruned_events_are_gone_from_every_list(store: Store):
    old = await store.log.append(new_events(3000, groups=("g",), resource="vpc"))
    kept = await store.log.append(new_events(5))
    cut = kept[0].recorded

    forgotten = await store.log.prune(cut)

    assert forgotten == 3000
    assert await store.log.floor() == old[-1].position
    assert await store.log.read(Query(limit=10_000, order="oldest")) == kept
    assert await store.log.read(Query(scope=Scope("project/acme"), order="oldest")) == kept
    with pytest.raises(EventNotFound):
        await store.log.get(old[0].position)


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


# The catalogue


async def test_a_stack_is_found_by_its_name_until_it_is_deleted(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])
    stack = await store.catalogue.stack("acme", "web")

    await store.log.append([new_event("stack.deleted", scopes=stack.scopes)])

    assert stack.id == "stack-1"
    with pytest.raises(StackNotFound):
        await store.catalogue.stack("acme", "web")


async def test_stacks_of_a_name_are_those_of_every_project(store: Store):
    await store.log.append([stack_created("web", id="a1"), stack_created("other", id="a2")])
    await store.log.append([stack_created("web", id="b1", project="beta")])

    named = await store.catalogue.stacks(ALL, name="web")
    here = await store.catalogue.stacks(ALL, name="web", project="beta")

    assert {stack.id for stack in named} == {"a1", "b1"}
    assert [stack.id for stack in here] == ["b1"]


async def test_a_stack_made_anew_has_its_own_id(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])
    await store.log.append([new_event("stack.deleted", scopes=("project/acme/stack/stack-1",))])
    await store.log.append([stack_created("web", id="stack-2")])

    assert (await store.catalogue.stack("acme", "web")).id == "stack-2"
    assert [s.id for s in await store.catalogue.stacks(ALL, deleted=True)] == ["stack-2", "stack-1"]
    assert [s.id for s in await store.catalogue.stacks(ALL)] == ["stack-2"]


async def test_a_stack_of_a_name_that_exists_is_refused_and_nothing_recorded(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])

    with pytest.raises(StackExists):
        await store.log.append([new_event(), stack_created("web", id="stack-2")])

    assert len(await store.log.read(Query())) == 1


async def test_of_two_requests_for_one_name_at_once_one_wins(store: Store):
    answers = await asyncio.gather(
        *(store.log.append([stack_created("web", id=f"stack-{i}")]) for i in range(8)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, list) for answer in answers) == 1
    assert sum(isinstance(answer, StackExists) for answer in answers) == 7


async def test_a_refused_request_does_not_harm_the_others_of_its_commit(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])

    answers = await asyncio.gather(
        *(store.log.append(new_events(1)) for _ in range(20)),
        store.log.append([stack_created("web", id="stack-2")]),
        *(store.log.append(new_events(1)) for _ in range(20)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Exception) for answer in answers) == 1
    assert len(await store.log.read(Query())) == 41


async def test_a_deployment_counts_what_its_resources_do(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started", actor="alice")])
    types = ["create.completed"] * 3 + ["update.completed"] * 2 + ["delete.completed"]
    types += ["create.failed", "read.completed", "create.started"]
    await store.log.append([deployment_event(f"resource.{type}") for type in types])

    deployment = await store.catalogue.deployment("deployment-1")

    counts = deployment.counts
    assert (counts.added, counts.changed, counts.destroyed, counts.failed) == (3, 2, 1, 1)
    assert (deployment.status, deployment.ended, deployment.actor) == ("running", None, "alice")
    assert (deployment.stack, deployment.stack_id) == ("web", "stack-1")


async def test_events_recorded_again_are_not_counted_again(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    event = deployment_event("resource.create.completed", producer_id="1")

    await store.log.append([event])
    await store.log.append([event])

    assert (await store.catalogue.deployment("deployment-1")).counts.added == 1


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_deployment_ends_once(store: Store, status: str):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    await store.log.append([deployment_event(f"deployment.{status}", message="so", time=7)])
    await store.log.append([deployment_event("deployment.failed", message="late", time=8)])

    deployment = await store.catalogue.deployment("deployment-1")

    assert (deployment.status, deployment.ended, deployment.message) == (status, 7, "so")


@pytest.mark.parametrize(
    "scope",
    [
        "project/evil/stack/stack-1/deployment/deployment-1",
        "project/acme/stack/stack-2/deployment/deployment-1",
    ],
)
async def test_only_events_of_its_own_scope_change_a_deployment(store: Store, scope: str):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    before = await store.catalogue.deployment("deployment-1")

    await store.log.append([new_event("resource.create.completed", scopes=(scope,))])
    await store.log.append([new_event("deployment.failed", scopes=(scope,), message="pwned")])

    assert await store.catalogue.deployment("deployment-1") == before


async def test_a_stack_is_not_deleted_from_another_project(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])

    await store.log.append([new_event("stack.deleted", scopes=("project/evil/stack/stack-1",))])

    assert (await store.catalogue.stack("acme", "web")).id == "stack-1"


async def test_what_is_for_one_group_does_not_show_in_the_deployment_of_all(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    secret = {"groups": ("sec",), "message": "SECRET"}
    await store.log.append([deployment_event("resource.create.failed", **secret)])
    await store.log.append([deployment_event("deployment.failed", **secret)])

    deployment = await store.catalogue.deployment("deployment-1")

    assert (deployment.status, deployment.message) == ("failed", None)
    assert deployment.counts.failed == 0


async def test_a_deployment_of_one_group_counts_what_is_for_that_group(store: Store):
    ops = {"groups": ("ops",)}
    await store.log.append([stack_created(), deployment_event("deployment.started", **ops)])
    await store.log.append([deployment_event("resource.create.completed", **ops)])
    await store.log.append([deployment_event("deployment.completed", message="done", **ops)])

    deployment = await store.catalogue.deployment("deployment-1")

    assert (deployment.counts.added, deployment.message) == (1, "done")


@pytest.mark.parametrize(
    ("begun", "ended", "operation"),
    [
        (None, {"operation": "destroy"}, "destroy"),
        ({"operation": "apply"}, {"operation": "destroy"}, "apply"),
        (None, {"operation": 7}, None),
        (None, ["destroy"], None),
        (None, None, None),
    ],
)
async def test_the_end_says_what_a_deployment_was_if_its_start_did_not(
    store: Store, begun: object, ended: object, operation: str | None
):
    start = deployment_event("deployment.started", data=begun)
    await store.log.append([stack_created(), start])
    await store.log.append([deployment_event("deployment.completed", data=ended)])

    assert (await store.catalogue.deployment("deployment-1")).operation == operation


@pytest.mark.parametrize(
    "bad",
    [
        [stack_created("a", id="same"), stack_created("b", id="same")],
        [deployment_event("deployment.started"), stack_created()],
    ],
)
async def test_what_cannot_be_is_refused_without_harm_to_others(store: Store, bad: list[NewEvent]):
    answers = await asyncio.gather(
        store.log.append(new_events(1)),
        store.log.append(bad),
        store.log.append(new_events(1)),
        return_exceptions=True,
    )

    assert [type(answer) is list for answer in answers] == [True, False, True]
    assert isinstance(answers[1], StackExists | InvalidEvent)
    assert len(await store.log.read(Query())) == 2


async def test_a_deployment_of_an_unknown_stack_is_refused(store: Store):
    with pytest.raises(InvalidEvent):
        await store.log.append([deployment_event("deployment.started")])


async def test_deployments_are_listed_last_started_first_in_pages(store: Store):
    await store.log.append([stack_created()])
    for number in range(5):
        await store.log.append([deployment_event("deployment.started", id=f"d{number}")])

    page = await store.catalogue.deployments(ALL, project="acme", limit=2)
    rest = await store.catalogue.deployments(ALL, stack_id="stack-1", before="d3")

    assert [d.id for d in page] == ["d4", "d3"]
    assert [d.id for d in rest] == ["d2", "d1", "d0"]
    assert await store.catalogue.deployments(ALL, project="other") == []


async def test_the_catalogue_shows_only_what_is_visible(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started", id="open")])
    await store.log.append([deployment_event("deployment.started", id="ops", groups=("ops",))])
    stranger = Visibility(scopes=(Scope("project/other"),), groups=None)
    guest = Visibility(scopes=(Scope("project/acme"),), groups=frozenset({"web"}))
    one = Visibility(
        scopes=(Scope("project/acme/stack/stack-1/deployment/open"),), groups=frozenset()
    )

    assert await store.catalogue.projects(stranger) == []
    assert await store.catalogue.stacks(stranger) == []
    assert await store.catalogue.deployments(stranger) == []
    assert await store.catalogue.projects(guest) == ["acme"]
    assert [d.id for d in await store.catalogue.deployments(guest)] == ["open"]
    assert [d.id for d in await store.catalogue.deployments(one)] == ["open"]
    assert await store.catalogue.deployments(Visibility(scopes=(), groups=None)) == []


async def test_an_unknown_deployment_is_not_found(store: Store):
    with pytest.raises(DeploymentNotFound):
        await store.catalogue.deployment("nope")


# Credentials

KINDS = ("key", "bluelink", "huawei", "aws")


def _credential(id: str, **fields: object) -> Credential:
    return Credential(
        id=id,
        name=unique("name"),
        secret=b"\x00secret",
        groups=("ops",),
        grants=(Grant("read", Scope("project/acme")),),
        **({"kind": "bluelink", "created": now()} | fields),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_credential_is_kept_until_it_is_revoked(open_again: OpenStoreAgain, kind: str):
    first, second = _credential("z", kind=kind), _credential("a", kind=kind)
    async with open_again() as store:
        await store.credentials.add(first)
        await store.credentials.add(second)
        await store.credentials.revoke("z", 5)
        await store.credentials.revoke("z", 9)
    async with open_again() as store:
        assert await store.credentials.list() == [msgspec.structs.replace(first, revoked=5), second]
        assert (await store.credentials.get(first.kind, "z")).revoked == 5
        assert await store.credentials.get(second.kind, "a") == second


async def test_credentials_are_listed_oldest_first(store: Store):
    for id, created, kind in (("a", 3, "key"), ("b", 1, "aws"), ("c", 2, "key")):
        await store.credentials.add(_credential(id, created=created, kind=kind))

    assert [each.id for each in await store.credentials.list()] == ["b", "c", "a"]


@pytest.mark.parametrize("taken", KINDS)
async def test_an_id_that_is_taken_is_refused_whatever_the_kind(store: Store, taken: str):
    first = _credential("1", kind=taken)
    await store.credentials.add(first)

    for kind in KINDS:
        with pytest.raises(Conflict, match=f"key '1', of kind {taken}"):
            await store.credentials.add(_credential("1", kind=kind))

    assert await store.credentials.list() == [first]


async def test_a_credential_is_one_of_its_kind_only(store: Store):
    kept = [_credential(kind, kind=kind, created=n) for n, kind in enumerate(KINDS)]
    for each in kept:
        await store.credentials.add(each)

    assert await store.credentials.list() == kept
    assert await store.credentials.get("aws", "aws") == kept[3]
    for kind, id in (("aws", "huawei"), ("key", "aws"), ("bluelink", "key")):
        with pytest.raises(KeyNotFound):
            await store.credentials.get(kind, id)  # type: ignore[arg-type]


async def test_of_credentials_of_one_id_at_once_one_wins(store: Store):
    answers = await asyncio.gather(
        *(store.credentials.add(_credential("1", kind=KINDS[n % 4])) for n in range(8)),
        return_exceptions=True,
    )

    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7


async def test_a_reencrypted_credential_has_only_its_secret_changed(store: Store):
    first, other = _credential("1"), _credential("2")
    await store.credentials.add(first)
    await store.credentials.add(other)
    await store.credentials.revoke("1", 5)

    await store.credentials.replace_secret("1", b"new")

    changed = msgspec.structs.replace(first, revoked=5, secret=b"new")
    assert await store.credentials.get("bluelink", "1") == changed
    assert await store.credentials.get("bluelink", "2") == other


async def test_an_unknown_credential_is_not_found(store: Store):
    with pytest.raises(KeyNotFound):
        await store.credentials.get("key", "1")
    with pytest.raises(KeyNotFound):
        await store.credentials.get("bluelink", "1")
    with pytest.raises(KeyNotFound):
        await store.credentials.revoke("1", now())
    with pytest.raises(KeyNotFound):
        await store.credentials.replace_secret("1", b"")


# Cleanups


def _cleanup(**fields: object) -> Cleanup:
    begun = {"id": str(uuid4()), "kind": "events", "status": "running", "started": now()}
    return Cleanup(**({"threshold": 7} | begun | fields))  # type: ignore[arg-type]


async def test_a_cleanup_is_there_after_reopening(open_again: OpenStoreAgain):
    begun = _cleanup()
    async with open_again() as store:
        await store.cleanups.put(begun)
    async with open_again() as store:
        assert await store.cleanups.get("events", begun.id) == begun
        assert await store.cleanups.get("events", begun.id.upper()) == begun
        assert await store.cleanups.running() == [begun]


async def test_a_cleanup_is_kept_instead_of_what_was_under_its_id(store: Store):
    begun, other = _cleanup(), _cleanup(kind="changesets")
    await store.cleanups.put(begun)
    await store.cleanups.put(other)
    ended = msgspec.structs.replace(
        begun, status="failed", ended=begun.started + 1, deleted=3, error="ünï"
    )

    await store.cleanups.put(ended)

    assert await store.cleanups.get("events", begun.id) == ended
    assert await store.cleanups.running() == [other]


async def test_only_the_newest_cleanups_of_a_kind_stay(store: Store):
    first, last = _cleanup(kind="changesets"), _cleanup(kind="changesets")
    cleanups = [_cleanup(started=started) for started in range(53)]
    for cleanup in (first, *cleanups, last, cleanups[-1]):
        await store.cleanups.put(cleanup)

    assert await store.cleanups.running() == [first, *cleanups[3:], last]
    for forgotten in cleanups[:3]:
        with pytest.raises(CleanupNotFound):
            await store.cleanups.get("events", forgotten.id)


async def test_a_cleanup_is_of_its_kind(store: Store):
    cleanup = _cleanup()
    await store.cleanups.put(cleanup)

    with pytest.raises(CleanupNotFound):
        await store.cleanups.get("validations", cleanup.id)


# Opening


async def test_an_epoch_is_drawn_once(open_again: OpenStoreAgain):
    async with open_again() as store:
        epoch = store.log.epoch
    async with open_again() as store:
        assert store.log.epoch == epoch


async def test_a_token_key_is_drawn_once(open_again: OpenStoreAgain):
    async with open_again() as store:
        key = await store.log.token_key()
    async with open_again() as store:
        assert await store.log.token_key() == key
    assert len(key) >= 32


async def test_two_logs_have_different_token_keys(tmp_path: Path, commits: Commits):
    keys = set()
    for name in ("a", "b"):
        async with open_store(f"sqlite:///{tmp_path / name}", observer=commits) as store:
            keys.add(await store.log.token_key())

    assert len(keys) == 2


async def test_two_logs_have_different_epochs(tmp_path: Path, commits: Commits):
    epochs = set()
    for name in ("a", "b"):
        async with open_store(f"sqlite:///{tmp_path / name}", observer=commits) as store:
            epochs.add(store.log.epoch)

    assert len(epochs) == 2


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
