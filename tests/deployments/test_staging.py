"""Staging: stored, told, ended; once, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deploylog.deployments.changeset import (
    ChangeCounts,
    Changes,
    Changeset,
    Diagnostic,
    ResourceChange,
    decode_changes,
    encode,
)
from deploylog.deployments.lifecycle import CHANGESET_ENDS
from deploylog.deployments.staging import DEDUP_WINDOW, NewChangeset, Staging, summary_of
from deploylog.errors import (
    ChangesetNotFound,
    Conflict,
    Forbidden,
    InvalidInput,
    RequestReused,
    StoreUnavailable,
)
from deploylog.events.access import ANONYMOUS, Grant, Principal
from deploylog.events.event import Event
from deploylog.events.hub import Hub
from deploylog.events.scope import parse_scope
from deploylog.events.store import IdempotencyKey, Query
from deploylog.store.contract import Store
from support.factories import now, stack_created
from support.waiting import until

ENDS = ("changeset.completed", "changeset.drift", "changeset.failed")


def change(name: str = "t.a", **fields: object) -> ResourceChange:
    given = {"name": name, "address": name, "type": "t", "action": "create", **fields}
    return ResourceChange(**given)  # type: ignore[arg-type]


def changes(number: int = 3, **fields: object) -> Changes:
    resources = tuple(change(f"t.a[{n}]") for n in range(number))
    return Changes(resources=resources, totals=ChangeCounts(create=number), **fields)  # type: ignore[arg-type]


def principal(*grants: str, groups: frozenset[str] | None = None) -> Principal:
    split = (grant.partition(":") for grant in grants)
    return Principal(
        name="ann",
        id="ann",
        groups=groups,
        grants=tuple(Grant(right, parse_scope(path)) for right, _, path in split),  # type: ignore[arg-type]
    )


@pytest.fixture
async def staging(store: Store) -> AsyncIterator[Staging]:
    staging = Staging(store.log, store.catalog, store.changesets, clock=now)
    async with staging.working():
        yield staging


async def told(store: Store, changeset: Changeset) -> list[Event]:
    """The events of the change set, up to its end."""

    async def ended() -> list[Event]:
        query = Query(scope=changeset.scopes[0], order="oldest", limit=10_000)
        events = await store.log.read(query)
        return events if events and events[-1].type in ENDS else []

    return await until(ended)  # type: ignore[no-any-return]


async def stage(staging: Staging, told: Changes | None = None, **about: Any) -> Changeset:
    new = NewChangeset(**{"project": "acme", **about})
    return await staging.stage(ANONYMOUS, new, told or changes())


def data(event: Event) -> Any:
    assert event.data is not None
    return msgspec.json.decode(event.data)


async def test_one_event_a_resource_in_order_then_the_end(store: Store, staging: Staging):
    changeset = await stage(staging, changes(50))

    events = await told(store, changeset)

    assert [event.subject for event in events[:-1]] == [f"t.a[{n}]" for n in range(50)]
    assert {event.type for event in events[:-1]} == {"changeset.resource"}
    assert events[-1].type == "changeset.completed"
    assert events[-1].message == "50 to create"
    assert data(events[-1])["totals"]["create"] == 50


async def test_it_is_stored_before_it_is_answered(store: Store, staging: Staging):
    changeset = await stage(staging)

    stored = await store.changesets.get(changeset.id)

    assert changeset.status == "staging"
    assert stored.id == changeset.id
    assert decode_changes(await store.changesets.changes(changeset.id)) == changes()


async def test_whoever_sees_the_end_event_sees_the_status(store: Store, staging: Staging):
    changeset = await stage(staging)

    end = (await told(store, changeset))[-1]

    ended = await store.changesets.get(changeset.id)
    assert (ended.status, ended.ended, ended.message) == ("staged", end.time, "3 to create")


async def test_its_events_are_found_in_the_project_and_in_the_stack(store: Store, staging: Staging):
    await store.log.append([stack_created("web", id="stack-1")])

    of_stack = await stage(staging, stack="web")
    of_project = await stage(staging, stack="new")

    assert of_stack.stack_id == "stack-1"
    assert of_stack.scopes == (
        f"changeset/{of_stack.id}",
        f"project/acme/stack/stack-1/changeset/{of_stack.id}",
    )
    assert of_project.stack_id is None
    assert of_project.scopes[1] == f"project/acme/changeset/{of_project.id}"
    for changeset in (of_stack, of_project):
        await told(store, changeset)
    assert len(await store.log.read(Query(scope=parse_scope("project/acme/stack/stack-1")))) == 5


async def test_a_plan_that_failed_ends_as_failed_after_what_it_has(store: Store, staging: Staging):
    problem = Diagnostic(level="error", message="no such zone")

    changeset = await stage(staging, changes(2, errored=True, problems=(problem,)))

    events = await told(store, changeset)
    assert [event.type for event in events[2:]] == ["changeset.failed"]
    assert events[-1].message == "no such zone"
    assert (await store.changesets.get(changeset.id)).status == "failed"


@pytest.mark.parametrize(
    ("check", "drift", "status"),
    [(True, True, "drifted"), (True, False, "staged"), (False, True, "staged")],
)
async def test_drift_ends_it_only_where_that_is_asked_for(
    store: Store, staging: Staging, check: bool, drift: bool, status: str
):
    drifted = (change("t.b", action="update"),) if drift else ()

    changeset = await stage(staging, changes(drift=drifted), check_drift=check)

    await told(store, changeset)
    assert (await store.changesets.get(changeset.id)).status == status


# Retries


async def test_the_same_again_soon_is_the_same_change_set(store: Store, staging: Staging):
    first = await stage(staging)
    await told(store, first)

    again = await stage(staging)

    assert again.id == first.id
    assert len(await told(store, first)) == 4


@pytest.mark.parametrize(
    "differs",
    [{"stack": "other"}, {"project": "other"}, {"destroy": True}, {"location": "b.json"}],
    ids=str,
)
async def test_another_request_is_another_change_set(staging: Staging, differs: dict[str, object]):
    first = await stage(staging, stack="web")

    other = await stage(staging, **{"stack": "web", **differs})

    assert other.id != first.id


async def test_another_plan_or_another_principal_is_another_change_set(staging: Staging):
    new = NewChangeset(project="acme")
    first = await staging.stage(ANONYMOUS, new, changes())

    another_plan = await staging.stage(ANONYMOUS, new, changes(4))
    another_principal = await staging.stage(principal("admin:/"), new, changes())

    assert len({first.id, another_plan.id, another_principal.id}) == 3


async def test_the_same_again_later_is_another_change_set(store: Store):
    at = [now()]
    staging = Staging(store.log, store.catalog, store.changesets, clock=lambda: at[0])
    first = await stage(staging)

    at[0] += DEDUP_WINDOW
    just_in_time = await stage(staging)
    at[0] += 1
    too_late = await stage(staging)

    assert just_in_time.id == first.id
    assert too_late.id != first.id


async def test_a_request_with_a_key_is_known_for_ever(store: Store):
    at = [now()]
    staging = Staging(store.log, store.catalog, store.changesets, clock=lambda: at[0])
    new, key = NewChangeset(project="acme"), IdempotencyKey(key="ann/1", fingerprint=b"a")
    first = await staging.stage(ANONYMOUS, new, changes(), request=key)

    at[0] += 100 * DEDUP_WINDOW
    again = await staging.stage(ANONYMOUS, new, changes(), request=key)

    assert again.id == first.id
    other = IdempotencyKey(key="ann/1", fingerprint=b"b")
    with pytest.raises(RequestReused):
        await staging.stage(ANONYMOUS, new, changes(), request=other)


async def test_an_id_is_not_used_for_two(staging: Staging):
    id = "0B9D3C1E-5B7D-4268-8E61-D0C4A2F97B35"
    first = await stage(staging, id=id)

    with pytest.raises(Conflict):
        await stage(staging, changes(4), id=id)

    assert first.id == id.lower()


async def test_the_id_of_a_forgotten_change_set_is_not_used_while_its_events_are_there(
    store: Store, staging: Staging
):
    first = await stage(staging)
    await told(store, first)
    await store.changesets.delete_before(now())

    with pytest.raises(Conflict):
        await stage(staging, changes(4), id=first.id)

    await store.log.prune(now())
    again = await stage(staging, changes(4), id=first.id)
    assert len(await told(store, again)) == 5


# After a crash


@pytest.mark.parametrize("told_before", [0, 1, 25, 50])
async def test_another_process_goes_on_where_one_was_killed(store: Store, told_before: int):
    dead = Staging(store.log, store.catalog, store.changesets, clock=now)
    changeset = await stage(dead, changes(50))
    events = list(dead._events(changeset, changes(50).resources))[:told_before]
    if events:
        await store.log.append(events)

    async with Staging(store.log, store.catalog, store.changesets, clock=now).working():
        whole = await told(store, changeset)

    assert [event.subject for event in whole[:-1]] == [f"t.a[{n}]" for n in range(50)]
    assert (await store.changesets.get(changeset.id)).status == "staged"


async def test_two_that_take_it_up_together_tell_it_once(store: Store):
    changeset = await stage(
        Staging(store.log, store.catalog, store.changesets, clock=now), changes(100)
    )

    async with (
        Staging(store.log, store.catalog, store.changesets, clock=now).working(),
        Staging(store.log, store.catalog, store.changesets, clock=now).working(),
    ):
        whole = await told(store, changeset)

    assert len(whole) == 101
    assert len({event.subject for event in whole[:-1]}) == 100


async def test_what_cannot_be_told_fails_with_an_end_event(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    changeset = await stage(Staging(store.log, store.catalog, store.changesets, clock=now))

    async def broken(id: str) -> bytes:
        return b"not what was stored"

    monkeypatch.setattr(store.changesets, "changes", broken)
    async with Staging(store.log, store.catalog, store.changesets, clock=now).working():
        [end] = await told(store, changeset)

    assert end.type == "changeset.failed"
    assert (await store.changesets.get(changeset.id)).status == "failed"


async def test_what_cannot_even_fail_does_not_end_the_service(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    changeset = await stage(Staging(store.log, store.catalog, store.changesets, clock=now))
    asked: list[str] = []

    async def broken(id: str) -> bytes:
        asked.append(id)
        return b"not what was stored"

    async def refuse(events: object) -> list[Event]:
        raise RuntimeError("no more")

    async with Staging(store.log, store.catalog, store.changesets, clock=now).working():
        monkeypatch.setattr(store.changesets, "changes", broken)
        monkeypatch.setattr(store.log, "append", refuse)
        await until(lambda: asked)

    assert (await store.changesets.get(changeset.id)).status == "staging"


async def test_a_store_that_is_away_for_a_while_only_delays_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.deployments.staging.RETRY_SECONDS", 0.001)
    changeset = await stage(Staging(store.log, store.catalog, store.changesets, clock=now))
    read, failures = store.changesets.changes, iter([StoreUnavailable(), StoreUnavailable()])

    async def flaky(id: str) -> bytes:
        for failure in failures:
            raise failure
        return await read(id)

    monkeypatch.setattr(store.changesets, "changes", flaky)
    async with Staging(store.log, store.catalog, store.changesets, clock=now).working():
        whole = await told(store, changeset)

    assert whole[-1].type == "changeset.completed"


async def test_what_another_process_left_is_taken_up_while_running(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.deployments.staging.LOOK_SECONDS", 0.001)
    monkeypatch.setattr("deploylog.deployments.staging.ABANDONED", 0)

    async with Staging(store.log, store.catalog, store.changesets, clock=now).working():
        changeset = await stage(Staging(store.log, store.catalog, store.changesets, clock=now))
        whole = await told(store, changeset)

    assert whole[-1].type == "changeset.completed"


# Who may


async def test_who_may_write_the_project_or_its_stack_may_stage(store: Store, staging: Staging):
    await store.log.append([stack_created("web", id="stack-1")])
    web = NewChangeset(project="acme", stack="web")

    for grant in ("write:project/acme", "admin:/", "write:project/acme/stack/stack-1"):
        assert (await staging.stage(principal(grant), web, changes())).stack == "web"

    for grant in ("read:/", "write:project/other", "write:project/acme/stack/stack-2"):
        with pytest.raises(Forbidden) as raised:
            await staging.stage(principal(grant), web, changes())
        # Whether there is such a stack is not told.
        assert raised.value.message == "ann may not write project/acme"


@pytest.mark.parametrize(
    ("who", "sees"),
    [
        (principal("read:project/acme"), True),
        (principal("read:changeset"), True),
        (principal("read:project/other"), False),
        (principal("write:project/acme"), False),
        (principal("read:/", groups=frozenset()), False),
        (principal("read:/", groups=frozenset({"ops"})), True),
    ],
    ids=str,
)
async def test_a_change_set_is_seen_by_whoever_sees_its_events(
    staging: Staging, who: Principal, sees: bool
):
    changeset = await stage(staging, groups=("ops",))

    assert [c.id for c in await staging.changesets(who)] == ([changeset.id] if sees else [])
    if sees:
        assert (await staging.changeset(who, changeset.id.upper())).id == changeset.id
        assert decode_changes(await staging.changes(who, changeset.id)) == changes()
    else:
        for look in (staging.changeset, staging.changes):
            with pytest.raises(ChangesetNotFound):
                await look(who, changeset.id)


async def test_what_a_stack_shows_to_a_group_its_change_sets_show_to_it_too(
    store: Store, staging: Staging
):
    created = msgspec.structs.replace(stack_created("web", id="stack-1"), groups=("ops",))
    await store.log.append([created])

    changeset = await stage(staging, stack="web")

    assert changeset.groups == ("ops",)
    assert {event.groups for event in await told(store, changeset)} == {("ops",)}


@pytest.mark.parametrize(
    ("field", "about"),
    [
        ("project", {"project": ""}),
        ("project", {"project": "x" * 129}),
        ("stack", {"stack": ""}),
        ("stack", {"stack": "web\nx"}),
        ("stack", {"stack": "a\0b"}),
        ("stack", {"stack": " web"}),
        ("project", {"project": "a\x1b[31m"}),
        ("id", {"id": "7"}),
        ("location", {"location": "x" * 2000}),
        ("actor", {"actor": "a\0b"}),
        ("group", {"groups": ("",)}),
    ],
)
async def test_what_no_event_can_say_is_refused(
    store: Store, staging: Staging, field: str, about: dict[str, object]
):
    with pytest.raises(InvalidInput) as raised:
        await stage(staging, **about)

    assert raised.value.field == field
    assert await store.changesets.list(ANONYMOUS.visibility) == []


async def test_names_too_long_for_an_event_are_told_all_the_same(store: Store, staging: Staging):
    long = change(f"t.a[{'x' * 2000!r}]", id="i" * 5000)

    changeset = await stage(staging, Changes(resources=(long,), totals=ChangeCounts(create=1)))

    [event, _] = await told(store, changeset)
    assert event.resource is None
    assert data(event)["name"] == long.name


async def test_a_name_with_a_nul_is_told_without_it(store: Store, staging: Staging):
    changeset = await stage(staging, Changes(resources=(change('t.a["\0"]'),)))

    [event, _] = await told(store, changeset)

    assert event.subject == 't.a["\N{REPLACEMENT CHARACTER}"]'
    assert "\0" not in f"{event.message}{event.resource}"


async def test_a_change_too_large_for_an_event_is_abridged_there_and_whole_in_the_store(
    store: Store, staging: Staging
):
    large = change(after={"a": "x" * 300_000})

    changeset = await stage(staging, Changes(resources=(large,), totals=ChangeCounts(create=1)))

    [event, end] = await told(store, changeset)
    assert data(event)["truncated"] is True
    assert len(encode(data(end))) < 1000
    whole = decode_changes(await staging.changes(ANONYMOUS, changeset.id))
    assert whole.resources == (large,)


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        (ChangeCounts(), "No changes"),
        (ChangeCounts(none=3), "No changes"),
        (ChangeCounts(create=1, update=2, replace=3, delete=4, forget=5, imported=6),
         "6 to import, 1 to create, 2 to update, 3 to replace, 4 to destroy, 5 to forget"),
    ],
)  # fmt: skip
def test_a_change_set_is_summed_up_in_words(totals: ChangeCounts, words: str):
    assert summary_of(Changes(totals=totals)) == words


async def test_a_stream_shows_a_change_set_as_it_is_told(hub: Hub, store: Store, service: Any):
    seen: list[str] = []

    async def follow(ready: asyncio.Event) -> None:
        start = await service.start_at_beginning()
        scope, filter = parse_scope("changeset"), Query().filter
        with service.follow(ANONYMOUS, scope=scope, filter=filter, start=start) as reader:
            ready.set()
            while not seen or seen[-1] not in ENDS:
                batch = await reader.next()
                seen.extend(event.type for event in batch.events)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        tasks.create_task(follow(ready))
        await ready.wait()
        staging = Staging(store.log, store.catalog, store.changesets, clock=now)
        async with staging.working():
            await stage(staging, changes(45))
            await until(lambda: seen and seen[-1] in ENDS)

    assert seen == ["changeset.resource"] * 45 + ["changeset.completed"]


def test_every_end_is_one_the_catalogue_knows():
    assert sorted(CHANGESET_ENDS) == sorted(ENDS)
