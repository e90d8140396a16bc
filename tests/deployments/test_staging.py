"""Staging: a change set is stored, emitted and ended once, whatever fails in between."""

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


def staging_of(store: Store, **options: Any) -> Staging:
    return Staging(store.log, store.catalog, store.changesets, **{"clock": now, **options})


@pytest.fixture
async def staging(store: Store) -> AsyncIterator[Staging]:
    staging = staging_of(store)
    async with staging.running():
        yield staging


async def emitted(store: Store, changeset: Changeset) -> list[Event]:
    """The events of the change set, up to its end."""

    async def ended() -> list[Event]:
        query = Query(scope=changeset.scopes[0], order="oldest", limit=10_000)
        events = await store.log.read(query)
        return events if events and events[-1].type in CHANGESET_ENDS else []

    return await until(ended)


async def stage(staging: Staging, plan: Changes | None = None, **about: Any) -> Changeset:
    new = NewChangeset(**{"project": "acme", **about})
    return await staging.stage(ANONYMOUS, new, plan or changes())


def data(event: Event) -> Any:
    assert event.data is not None
    return msgspec.json.decode(event.data)


async def test_one_event_a_resource_in_order_then_the_end(store: Store, staging: Staging):
    changeset = await stage(staging, changes(50))

    events = await emitted(store, changeset)

    assert [event.subject for event in events[:-1]] == [f"t.a[{n}]" for n in range(50)]
    assert {event.type for event in events[:-1]} == {"changeset.resource"}
    assert events[-1].type == "changeset.completed"
    assert events[-1].message == "50 to create"
    assert data(events[-1])["totals"]["create"] == 50


async def test_it_is_stored_before_the_request_is_answered(store: Store, staging: Staging):
    changeset = await stage(staging)

    stored = await store.changesets.get(changeset.id)

    assert changeset.status == "staging"
    assert stored.id == changeset.id
    assert decode_changes(await store.changesets.changes(changeset.id)) == changes()


async def test_a_reader_of_the_end_event_sees_the_status(store: Store, staging: Staging):
    changeset = await stage(staging)

    end = (await emitted(store, changeset))[-1]

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
        await emitted(store, changeset)
    assert len(await store.log.read(Query(scope=parse_scope("project/acme/stack/stack-1")))) == 5


async def test_a_plan_that_failed_ends_as_failed_after_what_it_has(store: Store, staging: Staging):
    problem = Diagnostic(level="error", message="no such zone")

    changeset = await stage(staging, changes(2, errored=True, problems=(problem,)))

    events = await emitted(store, changeset)
    assert [event.type for event in events[2:]] == ["changeset.failed"]
    assert events[-1].message == "no such zone"
    assert (await store.changesets.get(changeset.id)).status == "failed"


@pytest.mark.parametrize(
    ("check", "drift", "status"),
    [(True, True, "drifted"), (True, False, "staged"), (False, True, "staged")],
)
async def test_drift_ends_it_only_if_the_request_says_so(
    store: Store, staging: Staging, check: bool, drift: bool, status: str
):
    drifted = (change("t.b", action="update"),) if drift else ()

    changeset = await stage(staging, changes(drift=drifted), check_drift=check)

    await emitted(store, changeset)
    assert (await store.changesets.get(changeset.id)).status == status


# Retries


async def test_the_same_request_again_soon_returns_the_same_change_set(
    store: Store, staging: Staging
):
    first = await stage(staging)
    await emitted(store, first)

    again = await stage(staging)

    assert again.id == first.id
    assert len(await emitted(store, first)) == 4


@pytest.mark.parametrize(
    "differs",
    [{"stack": "other"}, {"project": "other"}, {"destroy": True}, {"location": "b.json"}],
    ids=str,
)
async def test_another_request_is_another_change_set(staging: Staging, differs: dict[str, Any]):
    first = await stage(staging, stack="web")

    other = await stage(staging, **{"stack": "web", **differs})

    assert other.id != first.id


async def test_another_plan_or_another_principal_is_another_change_set(staging: Staging):
    new = NewChangeset(project="acme")
    first = await staging.stage(ANONYMOUS, new, changes())

    another_plan = await staging.stage(ANONYMOUS, new, changes(4))
    another_principal = await staging.stage(principal("admin:/"), new, changes())

    assert len({first.id, another_plan.id, another_principal.id}) == 3


async def test_the_same_request_again_later_is_another_change_set(store: Store):
    at = [now()]
    staging = staging_of(store, clock=lambda: at[0])
    first = await stage(staging)

    at[0] += DEDUP_WINDOW
    just_in_time = await stage(staging)
    at[0] += 1
    too_late = await stage(staging)

    assert just_in_time.id == first.id
    assert too_late.id != first.id


async def test_a_request_with_an_idempotency_key_is_known_indefinitely(store: Store):
    at = [now()]
    staging = staging_of(store, clock=lambda: at[0])
    new, key = NewChangeset(project="acme"), IdempotencyKey(key="ann/1", fingerprint=b"a")
    first = await staging.stage(ANONYMOUS, new, changes(), request=key)

    at[0] += 100 * DEDUP_WINDOW
    again = await staging.stage(ANONYMOUS, new, changes(), request=key)

    assert again.id == first.id
    other = IdempotencyKey(key="ann/1", fingerprint=b"b")
    with pytest.raises(RequestReused):
        await staging.stage(ANONYMOUS, new, changes(), request=other)


async def test_an_id_is_used_once(staging: Staging):
    id = "0B9D3C1E-5B7D-4268-8E61-D0C4A2F97B35"
    first = await stage(staging, id=id)

    with pytest.raises(Conflict):
        await stage(staging, changes(4), id=id)

    assert first.id == id.lower()


async def test_the_id_of_a_deleted_change_set_is_not_used_while_its_events_remain(
    store: Store, staging: Staging
):
    first = await stage(staging)
    await emitted(store, first)
    await store.changesets.delete_before(now())

    with pytest.raises(Conflict):
        await stage(staging, changes(4), id=first.id)

    await store.log.prune(now())
    again = await stage(staging, changes(4), id=first.id)
    assert len(await emitted(store, again)) == 5


# After a crash


@pytest.mark.parametrize("emitted_before", [0, 1, 25, 50])
async def test_another_process_resumes_where_one_was_killed(store: Store, emitted_before: int):
    dead = staging_of(store)
    changeset = await stage(dead, changes(50))
    events = list(dead._events(changeset, changes(50).resources))[:emitted_before]
    if events:
        await store.log.append(events)

    async with staging_of(store).running():
        whole = await emitted(store, changeset)

    assert [event.subject for event in whole[:-1]] == [f"t.a[{n}]" for n in range(50)]
    assert (await store.changesets.get(changeset.id)).status == "staged"


async def test_two_processes_that_resume_it_together_emit_it_once(store: Store):
    changeset = await stage(staging_of(store), changes(100))

    async with (
        staging_of(store).running(),
        staging_of(store).running(),
    ):
        whole = await emitted(store, changeset)

    assert len(whole) == 101
    assert len({event.subject for event in whole[:-1]}) == 100


async def test_a_change_set_that_cannot_be_emitted_fails_with_an_end_event(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    changeset = await stage(staging_of(store))

    async def broken(id: str) -> bytes:
        return b"not what was stored"

    monkeypatch.setattr(store.changesets, "changes", broken)
    async with staging_of(store).running():
        [end] = await emitted(store, changeset)

    assert end.type == "changeset.failed"
    assert (await store.changesets.get(changeset.id)).status == "failed"


async def test_a_change_set_that_cannot_even_fail_does_not_stop_the_service(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    changeset = await stage(staging_of(store))
    asked: list[str] = []

    async def broken(id: str) -> bytes:
        asked.append(id)
        return b"not what was stored"

    async def refuse(events: object) -> list[Event]:
        raise RuntimeError("no more")

    async with staging_of(store).running():
        monkeypatch.setattr(store.changesets, "changes", broken)
        monkeypatch.setattr(store.log, "append", refuse)
        await until(lambda: asked)

    assert (await store.changesets.get(changeset.id)).status == "staging"


async def test_a_store_that_is_unavailable_for_a_while_only_delays_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    changeset = await stage(staging_of(store))
    read, failures = store.changesets.changes, iter([StoreUnavailable(), StoreUnavailable()])

    async def flaky(id: str) -> bytes:
        for failure in failures:
            raise failure
        return await read(id)

    monkeypatch.setattr(store.changesets, "changes", flaky)
    impatient = staging_of(store, retry_seconds=0.001)
    async with impatient.running():
        whole = await emitted(store, changeset)

    assert whole[-1].type == "changeset.completed"


async def test_a_change_set_that_another_process_abandoned_is_resumed_while_running(
    store: Store,
):
    eager = staging_of(store, scan_seconds=0.001, abandoned_after=0)
    async with eager.running():
        changeset = await stage(staging_of(store))
        whole = await emitted(store, changeset)

    assert whole[-1].type == "changeset.completed"


# Access


async def test_a_principal_that_may_write_the_project_or_its_stack_may_stage(
    store: Store, staging: Staging
):
    await store.log.append([stack_created("web", id="stack-1")])
    web = NewChangeset(project="acme", stack="web")

    for grant in ("write:project/acme", "admin:/", "write:project/acme/stack/stack-1"):
        assert (await staging.stage(principal(grant), web, changes())).stack == "web"

    for grant in ("read:/", "write:project/other", "write:project/acme/stack/stack-2"):
        with pytest.raises(Forbidden) as raised:
            await staging.stage(principal(grant), web, changes())
        # The error does not reveal whether the stack exists.
        assert raised.value.message == "ann may not write project/acme"


@pytest.mark.parametrize(
    ("reader", "sees"),
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
async def test_a_principal_that_sees_its_events_sees_the_change_set(
    staging: Staging, reader: Principal, sees: bool
):
    changeset = await stage(staging, groups=("ops",))

    assert [c.id for c in await staging.changesets(reader)] == ([changeset.id] if sees else [])
    if sees:
        assert (await staging.changeset(reader, changeset.id.upper())).id == changeset.id
        assert decode_changes(await staging.changes(reader, changeset.id)) == changes()
    else:
        for read in (staging.changeset, staging.changes):
            with pytest.raises(ChangesetNotFound):
                await read(reader, changeset.id)


async def test_a_group_that_sees_a_stack_sees_its_change_sets(store: Store, staging: Staging):
    created = msgspec.structs.replace(stack_created("web", id="stack-1"), groups=("ops",))
    await store.log.append([created])

    changeset = await stage(staging, stack="web")

    assert changeset.groups == ("ops",)
    assert {event.groups for event in await emitted(store, changeset)} == {("ops",)}


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
async def test_text_that_no_event_may_hold_is_refused(
    store: Store, staging: Staging, field: str, about: dict[str, Any]
):
    with pytest.raises(InvalidInput) as raised:
        await stage(staging, **about)

    assert raised.value.field == field
    assert await store.changesets.list(ANONYMOUS.visibility) == []


async def test_names_too_long_for_an_event_are_emitted_in_its_data(store: Store, staging: Staging):
    long = change(f"t.a[{'x' * 2000!r}]", id="i" * 5000)

    changeset = await stage(staging, Changes(resources=(long,), totals=ChangeCounts(create=1)))

    [event, _] = await emitted(store, changeset)
    assert event.resource is None
    assert data(event)["name"] == long.name


async def test_a_name_with_a_nul_is_emitted_without_it(store: Store, staging: Staging):
    changeset = await stage(staging, Changes(resources=(change('t.a["\0"]'),)))

    [event, _] = await emitted(store, changeset)

    assert event.subject == 't.a["\N{REPLACEMENT CHARACTER}"]'
    assert "\0" not in f"{event.message}{event.resource}"


async def test_a_change_too_large_for_an_event_is_truncated_there_and_whole_in_the_store(
    store: Store, staging: Staging
):
    large = change(after={"a": "x" * 300_000})

    changeset = await stage(staging, Changes(resources=(large,), totals=ChangeCounts(create=1)))

    [event, end] = await emitted(store, changeset)
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


async def test_a_stream_shows_a_change_set_as_it_is_emitted(hub: Hub, store: Store, service: Any):
    seen: list[str] = []

    async def follow(ready: asyncio.Event) -> None:
        start = await service.start_at_oldest()
        scope, filter = parse_scope("changeset"), Query().filter
        with service.follow(ANONYMOUS, scope=scope, filter=filter, start=start) as reader:
            ready.set()
            while not seen or seen[-1] not in CHANGESET_ENDS:
                batch = await reader.next()
                seen.extend(event.type for event in batch.events)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        tasks.create_task(follow(ready))
        await ready.wait()
        staging = staging_of(store)
        async with staging.running():
            await stage(staging, changes(45))
            await until(lambda: seen and seen[-1] in CHANGESET_ENDS)

    assert seen == ["changeset.resource"] * 45 + ["changeset.completed"]


def test_every_event_that_ends_a_change_set_is_known():
    assert sorted(CHANGESET_ENDS) == ["changeset.completed", "changeset.drift", "changeset.failed"]
