"""What every store must do with change sets: ``Changesets``, sentence by sentence."""

import asyncio
from uuid import uuid4

import msgspec
import pytest

from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.deployments.lifecycle import CHANGESET_ENDS
from deploylog.errors import ChangesetNotFound, Conflict, DeploylogError, RequestReused
from deploylog.events.access import ALL, Visibility
from deploylog.events.event import NewEvent
from deploylog.events.scope import ROOT, Scope, changeset_scope
from deploylog.events.store import IdempotencyKey, Query
from deploylog.store.contract import Store
from support.factories import Commits, OpenStoreAgain, changeset, new_event, new_events, unique
from support.processes import new_processes
from support.waiting import until
from support.writers import add_changesets


def request(key: str = "", fingerprint: bytes = b"f") -> IdempotencyKey:
    return IdempotencyKey(key=key or unique("request"), fingerprint=fingerprint)


async def add(store: Store, new: Changeset, changes: bytes = b"{}") -> Changeset:
    return await store.changesets.add(new, changes, request=request(), since=0)


def ending(type: str, of: Changeset, **fields: object) -> NewEvent:
    return new_event(type, scopes=of.scopes, **fields)  # type: ignore[arg-type]


# Adding


async def test_an_added_change_set_comes_back_as_it_was(store: Store):
    new = changeset(
        stack_id=str(uuid4()),
        stack="web",
        destroy=True,
        location="s3://plans/ünï.json",
        tool="tofu",
        tool_version="1.10",
        actor="alice",
        totals=ChangeCounts(create=1, update=2, replace=3, delete=4, forget=5, none=6, imported=7),
        groups=("ops", "web"),
    )

    added = await add(store, new, b'{"resources": []}')

    assert added == new
    assert await store.changesets.get(new.id) == new
    assert await store.changesets.list(ALL) == [new]
    assert await store.changesets.unfinished() == [new]
    assert await store.changesets.changes(new.id) == b'{"resources": []}'


async def test_changes_come_back_to_the_byte_however_large(store: Store):
    changes = bytes(range(256)) * 20_000
    new = await add(store, changeset(), changes)

    assert await store.changesets.changes(new.id) == changes


async def test_the_same_request_adds_once(store: Store):
    first = await store.changesets.add(changeset(), b"first", request=request("k"), since=0)

    again = await store.changesets.add(changeset(), b"again", request=request("k"), since=0)

    assert again == first
    assert await store.changesets.list(ALL) == [first]
    assert await store.changesets.changes(first.id) == b"first"


async def test_the_same_request_gets_the_change_set_as_it_is_now(store: Store):
    first = await store.changesets.add(changeset(), b"", request=request("k"), since=0)
    await store.log.append([ending("changeset.completed", first)])

    again = await store.changesets.add(changeset(), b"", request=request("k"), since=0)

    assert (again.id, again.status) == (first.id, "staged")


async def test_the_same_request_at_the_same_moment_adds_once(store: Store):
    answers = await asyncio.gather(
        *(store.changesets.add(changeset(), b"", request=request("k"), since=0) for _ in range(8))
    )

    assert all(answer == answers[0] for answer in answers)
    assert await store.changesets.list(ALL) == [answers[0]]


async def test_of_many_processes_with_the_same_request_one_adds(store: Store, store_url: str):
    requests = [unique("request") for _ in range(20)]
    processes = new_processes()
    together, answers = processes.Barrier(6, timeout=60), processes.Queue()
    running = [
        processes.Process(target=add_changesets, args=(store_url, requests, together, answers))
        for _ in range(6)
    ]
    for process in running:
        process.start()

    results = [await asyncio.to_thread(answers.get, timeout=60) for _ in running]
    for process in running:
        await asyncio.to_thread(process.join)

    assert all(ids == results[0] for ids in results)
    assert [c.id for c in await store.changesets.list(ALL)] == results[0][::-1]


async def test_what_the_same_request_added_long_ago_does_not_come_back(store: Store):
    old, new = changeset(created=100), changeset(created=200)
    await store.changesets.add(old, b"", request=request("k"), since=0)

    added = await store.changesets.add(new, b"", request=request("k"), since=101)

    assert added == new
    assert await store.changesets.list(ALL) == [new, old]


async def test_what_the_same_request_added_just_then_comes_back(store: Store):
    old = await store.changesets.add(changeset(created=100), b"", request=request("k"), since=0)

    added = await store.changesets.add(changeset(), b"", request=request("k"), since=100)

    assert added == old


async def test_of_several_of_one_request_the_newest_comes_back(store: Store):
    for created in (100, 200):
        newest = await store.changesets.add(
            changeset(created=created), b"", request=request("k"), since=created
        )

    again = await store.changesets.add(changeset(), b"", request=request("k"), since=50)

    assert again == newest


async def test_a_request_key_used_for_something_else_is_refused(store: Store):
    first = await store.changesets.add(changeset(), b"", request=request("k", b"1"), since=0)

    with pytest.raises(RequestReused):
        await store.changesets.add(changeset(), b"", request=request("k", b"2"), since=0)

    assert await store.changesets.list(ALL) == [first]


async def test_a_request_key_used_for_something_else_long_ago_is_free(store: Store):
    await store.changesets.add(changeset(created=100), b"", request=request("k", b"1"), since=0)
    new = changeset()

    added = await store.changesets.add(new, b"", request=request("k", b"2"), since=101)

    assert added == new


async def test_an_id_that_another_request_has_used_is_refused(store: Store):
    first = await add(store, changeset(), b"first")

    with pytest.raises(Conflict):
        await add(store, changeset(id=first.id), b"second")
    with pytest.raises(Conflict):
        await add(store, changeset(id=first.id.upper()), b"second")

    assert await store.changesets.list(ALL) == [first]
    assert await store.changesets.changes(first.id) == b"first"


async def test_an_id_that_the_same_request_used_long_ago_is_its_own(store: Store):
    first = await store.changesets.add(changeset(created=100), b"", request=request("k"), since=0)

    again = await store.changesets.add(changeset(id=first.id), b"", request=request("k"), since=101)

    assert again == first
    assert await store.changesets.list(ALL) == [first]


async def test_a_refused_change_set_does_not_harm_the_others_of_its_commit(store: Store):
    taken = await add(store, changeset())

    answers = await asyncio.gather(
        *(add(store, changeset()) for _ in range(10)),
        add(store, changeset(id=taken.id)),
        store.log.append(new_events(1)),
        *(add(store, changeset()) for _ in range(10)),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers if isinstance(answer, DeploylogError)] == [Conflict]
    assert len(await store.changesets.list(ALL)) == 21
    assert len(await store.log.read(Query())) == 1


async def test_an_added_change_set_survives_reopening(open_again: OpenStoreAgain):
    async with open_again() as store:
        added = await store.changesets.add(changeset(), b"all", request=request("k"), since=0)
    async with open_again() as store:
        again = await store.changesets.add(changeset(), b"", request=request("k"), since=0)

        assert again == added
        assert await store.changesets.list(ALL) == [added]
        assert await store.changesets.changes(added.id) == b"all"


# Reading


async def test_an_unknown_change_set_is_not_found(store: Store):
    with pytest.raises(ChangesetNotFound):
        await store.changesets.get(str(uuid4()))
    with pytest.raises(ChangesetNotFound):
        await store.changesets.changes(str(uuid4()))


async def test_an_id_may_be_asked_for_in_upper_case(store: Store):
    older = await add(store, changeset())
    newer = await add(store, changeset(), b"x")

    assert await store.changesets.get(newer.id.upper()) == newer
    assert await store.changesets.changes(newer.id.upper()) == b"x"
    assert await store.changesets.list(ALL, before=newer.id.upper()) == [older]


async def test_change_sets_are_listed_last_added_first_in_pages(store: Store):
    added = [await add(store, changeset(created=created)) for created in (5, 3, 4, 1, 2)]

    page = await store.changesets.list(ALL, limit=2)
    rest = await store.changesets.list(ALL, before=page[-1].id)

    assert page == [added[4], added[3]]
    assert rest == [added[2], added[1], added[0]]
    assert await store.changesets.list(ALL, before=str(uuid4())) == []


async def test_change_sets_are_listed_by_project_and_stack(store: Store):
    first = await add(store, changeset(stack_id=str(uuid4()), stack="web"))
    second = await add(store, changeset(stack="db"))
    third = await add(store, changeset(project="other"))

    assert await store.changesets.list(ALL, project="acme") == [second, first]
    assert await store.changesets.list(ALL, project="other") == [third]
    assert await store.changesets.list(ALL, stack="web") == [first]
    assert await store.changesets.list(ALL, project="other", stack="web") == []


async def test_a_page_of_what_is_visible_is_full(store: Store):
    mine = [await add(store, changeset(project=f"p{n % 5}")) for n in range(20)][::5]
    visibility = Visibility(scopes=(Scope("project/p0"),), groups=frozenset())

    page = await store.changesets.list(visibility, limit=3)

    assert page == mine[:0:-1]


@pytest.mark.parametrize(
    ("scopes", "groups", "shown"),
    [
        ((ROOT,), None, {"open", "ops", "all", "other"}),
        ((), None, set()),
        (("project/acme",), None, {"open", "ops", "all"}),
        (("project/acm",), None, set()),
        (("project/other", "project/acme"), (), {"open", "all", "other"}),
        (("project/acme",), ("ops",), {"open", "ops", "all"}),
        (("project/acme",), ("web",), {"open", "all"}),
        (("changeset",), (), {"open", "all", "other"}),
    ],
)
async def test_only_visible_change_sets_are_listed(
    store: Store, scopes: tuple[str, ...], groups: tuple[str, ...] | None, shown: set[str]
):
    await add(store, changeset(location="open"))
    await add(store, changeset(location="ops", groups=("ops",)))
    await add(store, changeset(location="all", groups=("*", "ops")))
    await add(store, changeset(location="other", project="other"))
    visibility = Visibility(
        scopes=tuple(Scope(path) for path in scopes),
        groups=frozenset(groups) if groups is not None else None,
    )

    found = await store.changesets.list(visibility)

    assert {each.location for each in found} == shown
    assert all(
        visibility.shows_scopes(each.scopes) and visibility.shows_groups(each.groups)
        for each in found
    )


async def test_a_grant_on_one_change_set_shows_that_one(store: Store):
    one = await add(store, changeset())
    await add(store, changeset())
    visibility = Visibility(scopes=(changeset_scope(one.id),), groups=frozenset())

    assert await store.changesets.list(visibility) == [one]


async def test_the_unfinished_come_oldest_first(store: Store):
    added = [await add(store, changeset(created=created)) for created in (3, 1, 2)]
    await store.log.append([ending("changeset.completed", added[1])])

    assert await store.changesets.unfinished() == [added[0], added[2]]


# Ending


@pytest.mark.parametrize(("type", "status"), CHANGESET_ENDS.items())
async def test_an_event_ends_a_change_set(store: Store, type: str, status: str):
    begun = await add(store, changeset())

    await store.log.append([ending(type, begun, message="so", time=7)])

    ended = msgspec.structs.replace(begun, status=status, ended=7, message="so")
    assert await store.changesets.get(begun.id) == ended
    assert await store.changesets.list(ALL) == [ended]
    assert await store.changesets.unfinished() == []


async def test_other_events_do_not_end_a_change_set(store: Store):
    begun = await add(store, changeset())

    await store.log.append([ending("changeset.resource", begun)])
    await store.log.append([ending("deployment.failed", begun)])

    assert await store.changesets.get(begun.id) == begun


async def test_a_change_set_ends_once(store: Store):
    begun = await add(store, changeset())
    await store.log.append(
        [
            ending("changeset.drift", begun, message="first", time=7),
            ending("changeset.completed", begun, message="second", time=8),
        ]
    )
    await store.log.append([ending("changeset.failed", begun, message="third", time=9)])

    ended = await store.changesets.get(begun.id)

    assert (ended.status, ended.ended, ended.message) == ("drifted", 7, "first")


async def test_an_event_of_other_scopes_does_not_end_a_change_set(store: Store):
    begun = await add(store, changeset())
    own, place = begun.scopes

    for scopes in ((own,), (own, "project/evil"), (own, f"project/evil/{own}"), (place, own)):
        await store.log.append([new_event("changeset.failed", scopes=scopes, message="pwned")])

    assert await store.changesets.get(begun.id) == begun


async def test_an_event_ends_no_other_change_set(store: Store):
    one, other = [await add(store, changeset()) for _ in range(2)]

    await store.log.append([ending("changeset.failed", one)])

    assert await store.changesets.get(other.id) == other


async def test_an_event_of_no_change_set_is_recorded(store: Store):
    await store.log.append([ending("changeset.failed", changeset())])

    assert len(await store.log.read(Query())) == 1
    assert await store.changesets.list(ALL) == []


async def test_an_event_that_is_refused_ends_nothing(store: Store):
    begun = await add(store, changeset())

    with pytest.raises(DeploylogError):
        await store.log.append(
            [
                ending("changeset.failed", begun),
                new_event("deployment.started", scopes=("project/a/stack/b/deployment/c",)),
            ]
        )

    assert await store.changesets.get(begun.id) == begun


async def test_only_principals_who_see_the_event_see_the_message(
    store: Store, open_again: OpenStoreAgain
):
    added = [await add(store, changeset()) for _ in range(100)]

    async def end_all() -> None:
        for begun in added:
            await store.log.append([ending("changeset.completed", begun)])

    async with open_again() as other, asyncio.TaskGroup() as tasks:
        tasks.create_task(end_all())
        for begun in added:
            query = Query(scope=begun.scopes[0])
            await until(lambda query=query: other.log.read(query))  # type: ignore[misc]
            assert (await other.changesets.get(begun.id)).status == "staged"


# Forgetting


async def test_finished_change_sets_are_deleted_with_their_changes(store: Store):
    added = [await add(store, changeset(created=created)) for created in range(50)]
    await store.log.append([ending("changeset.completed", each) for each in added])

    deleted = await store.changesets.delete_before(45)

    left = await store.changesets.list(ALL)
    assert deleted == 45
    assert [each.id for each in left] == [each.id for each in added[:44:-1]]
    for each in added[:45]:
        with pytest.raises(ChangesetNotFound):
            await store.changesets.get(each.id)
        with pytest.raises(ChangesetNotFound):
            await store.changesets.changes(each.id)
    assert await store.changesets.changes(added[45].id) == b"{}"


async def test_unfinished_change_sets_are_not_deleted(store: Store):
    old = await add(store, changeset(created=1))

    assert await store.changesets.delete_before(100) == 0

    assert await store.changesets.unfinished() == [old]


async def test_the_events_of_a_deleted_change_set_stay(store: Store):
    old = await add(store, changeset(created=1))
    events = await store.log.append([ending("changeset.completed", old)])

    await store.changesets.delete_before(100)

    assert await store.log.read(Query(scope=old.scopes[0])) == events


async def test_deleting_many_is_not_one_long_commit(store: Store, commits: Commits):
    added = [await add(store, changeset(created=1)) for _ in range(200)]
    await store.log.append([ending("changeset.completed", each) for each in added])
    before = commits.commits

    deleted = await store.changesets.delete_before(100)

    assert deleted == 200
    assert commits.commits - before >= 4


async def test_change_sets_added_after_a_deletion_are_in_order(store: Store):
    old = await add(store, changeset(created=1))
    await store.log.append([ending("changeset.failed", old)])
    await store.changesets.delete_before(100)

    added = [await add(store, changeset()) for _ in range(3)]

    assert await store.changesets.list(ALL) == added[::-1]
