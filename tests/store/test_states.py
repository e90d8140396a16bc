"""States: the end of a deployment to an environment records, once, what it did there."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import msgspec
import pytest

from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import deployment_scope, state_scope
from deploylog.events.store import IdempotencyKey, Query
from deploylog.store.contract import Store
from support.factories import OpenStoreAgain, new_event, now, stack_created, unique

STATE = state_scope("acme", "prod", "web")


class Run:
    """The events of one deployment of the stack ``web`` to ``prod``."""

    def __init__(self, *, state: str | None = STATE, operation: str | None = "apply") -> None:
        self.id = str(uuid4())
        self.scopes = (deployment_scope("acme", "stack-1", self.id), *([state] if state else []))
        self.operation = operation

    def event(self, type: str, **fields: object) -> NewEvent:
        return new_event(type, scopes=self.scopes, producer_id=unique(), **fields)  # type: ignore[arg-type]

    def started(self, **fields: object) -> NewEvent:
        data = {"operation": self.operation} if self.operation else {}
        return self.event("deployment.started", data=data, **fields)

    def changed(self, **fields: object) -> NewEvent:
        return self.event("resource.update.completed", **fields)

    def ended(self, type: str = "deployment.completed", **fields: object) -> NewEvent:
        return self.event(type, **fields)


@pytest.fixture
async def stored(store: Store) -> Store:
    """A store with the stack."""
    await store.log.append([stack_created("web")])
    return store


async def states(store: Store) -> list[Event]:
    """The events about states, oldest first."""
    filter = Filter(all_of=(any_of("type", ("state.*",)),))
    return await store.log.read(Query(filter=filter, order="oldest"))


async def words(store: Store) -> list[str]:
    return [event.type.removeprefix("state.deployment.") for event in await states(store)]


async def record(store: Store, *runs: Run) -> None:
    for run in runs:
        await store.log.append([run.started(), run.changed(), run.ended()])


async def test_the_end_of_a_deployment_records_what_it_did_to_its_state(stored: Store):
    run = Run()
    await stored.log.append([run.started(groups=("ops",), actor="ann")])
    events = [run.changed(groups=("ops",)), run.changed(groups=("ops",)), run.changed()]

    recorded = await stored.log.append([*events, run.ended(time=77)])

    [event] = await states(stored)
    assert len(recorded) == 4
    assert event.position == recorded[-1].position + 1 == await stored.log.head()
    assert (event.type, event.source) == ("state.deployment.created", "deploylog")
    assert (event.scopes, event.groups, event.actor) == (run.scopes, ("ops",), "ann")
    assert (event.producer_id, event.time, event.subject) == (f"{run.id}/state", 77, "web")
    assert msgspec.json.decode(event.data or b"") == {
        "deployment": run.id,
        "stack": "web",
        "status": "completed",
        "counts": {"added": 0, "changed": 2, "destroyed": 0, "failed": 0},
    }


async def test_a_state_is_created_once_and_updated_from_then_on(stored: Store):
    await record(stored, Run(), Run(), Run())

    assert await words(stored) == ["created", "updated", "updated"]


async def test_a_run_that_changed_nothing_redeployed(stored: Store):
    first, second = Run(), Run()
    await stored.log.append([first.started(), first.ended()])

    await stored.log.append([second.started(), second.ended("deployment.failed")])

    found = await states(stored)
    assert await words(stored) == ["created", "redeployed"]
    assert b'"status":"failed"' in bytes(found[1].data or b"")


@pytest.mark.parametrize("operation", ["destroy", "apply", None])
async def test_a_destroy_is_recorded_whichever_event_names_it(stored: Store, operation: str):
    run = Run(operation=operation)
    await stored.log.append([run.started()])

    await stored.log.append([run.changed(), run.ended(data={"operation": "destroy"})])
    await record(stored, Run())

    assert await words(stored) == ["destroy_requested", "created"]


@pytest.mark.parametrize(
    "run", [Run(operation="plan"), Run(operation="refresh"), Run(state=None)], ids=["p", "r", "s"]
)
async def test_a_run_that_deploys_to_no_environment_records_no_state(stored: Store, run: Run):
    await record(stored, run)

    assert await states(stored) == []


async def test_a_plan_that_only_its_end_names_records_no_state(stored: Store):
    run = Run(operation=None)

    await stored.log.append([run.started(), run.ended(data={"operation": "plan"})])

    assert await states(stored) == []


async def test_only_the_first_end_counts(stored: Store):
    run = Run()
    await stored.log.append([run.started()])

    await stored.log.append([run.ended(), run.ended("deployment.failed")])
    await stored.log.append([run.ended()])

    [event] = await states(stored)
    assert b'"completed"' in bytes(event.data or b"")


async def test_a_retry_records_no_state_again_and_returns_the_same_events(stored: Store):
    run = Run()
    events = [run.started(), run.changed(), run.ended()]
    request = IdempotencyKey(key="k", fingerprint=b"f")

    first = await stored.log.append(events, request=request)
    retried = [
        await stored.log.append(events),
        await stored.log.append(events, request=request),
        await stored.log.append([run.changed(), events[2]]),
    ]

    assert retried[:2] == [first, first]
    assert retried[2][1] == first[2]
    assert len(await states(stored)) == 1


async def test_events_of_another_deployment_end_nothing(stored: Store):
    run = Run()
    await stored.log.append([run.started()])
    elsewhere = (deployment_scope("other", "stack-1", run.id), *run.scopes[1:])

    await stored.log.append([new_event("deployment.completed", scopes=elsewhere)])

    assert await states(stored) == []


async def test_concurrent_ends_record_one_state_event(stored: Store, open_again: OpenStoreAgain):
    run = Run()
    await stored.log.append([run.started()])

    async with open_again() as other:
        ends = [store.log.append([run.ended()]) for _ in range(10) for store in (stored, other)]
        await asyncio.gather(*ends)

    assert await words(stored) == ["created"]


async def test_of_deployments_that_end_at_once_one_creates_the_state(
    stored: Store, open_again: OpenStoreAgain
):
    runs = [Run() for _ in range(10)]
    await stored.log.append([run.started() for run in runs])

    async with open_again() as other:
        stores: Sequence[Store] = (stored, other) * 5
        await asyncio.gather(
            *(
                store.log.append([run.changed(), run.ended()])
                for store, run in zip(stores, runs, strict=True)
            )
        )

    assert await words(stored) == ["created", *["updated"] * 9]


async def test_a_state_that_others_deployed_to_is_updated(stored: Store):
    await stored.log.append([new_event("state.deployment.created", scopes=(STATE,))])

    await record(stored, Run())

    assert await words(stored) == ["created", "updated"]


async def test_another_state_is_another_one(stored: Store):
    await record(stored, Run(), Run(state=state_scope("acme", "test", "web")))

    assert await words(stored) == ["created", "created"]


async def test_a_state_is_known_after_its_events_are_pruned(stored: Store):
    await record(stored, Run())
    await stored.log.prune(now() + 1)

    await record(stored, Run())

    assert await words(stored) == ["updated"]


async def test_a_state_event_that_is_recorded_already_is_not_recorded_again(stored: Store):
    run = Run()
    mine = new_event(
        "state.deployment.updated",
        scopes=run.scopes,
        source="deploylog",
        producer_id=f"{run.id}/state",
    )
    await stored.log.append([mine, run.started()])

    await stored.log.append([run.ended()])

    assert await words(stored) == ["updated"]
