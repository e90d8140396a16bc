"""What every store must do with stacks and deployments: ``Catalog``, sentence by sentence."""

import asyncio
from typing import Any

import pytest

from deploylog.errors import (
    DeploymentNotFound,
    InvalidEvent,
    StackExists,
    StackNotFound,
)
from deploylog.events.access import ALL, Visibility
from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.factories import (
    deployment_event,
    new_event,
    new_events,
    stack_created,
)


async def test_a_stack_is_found_by_its_name_until_it_is_deleted(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])
    stack = await store.catalog.stack("acme", "web")

    await store.log.append([new_event("stack.deleted", scopes=stack.scopes)])

    assert stack.id == "stack-1"
    with pytest.raises(StackNotFound):
        await store.catalog.stack("acme", "web")


async def test_stacks_of_a_name_are_those_of_every_project(store: Store):
    await store.log.append([stack_created("web", id="a1"), stack_created("other", id="a2")])
    await store.log.append([stack_created("web", id="b1", project="beta")])

    named = await store.catalog.stacks(ALL, name="web")
    here = await store.catalog.stacks(ALL, name="web", project="beta")

    assert {stack.id for stack in named} == {"a1", "b1"}
    assert [stack.id for stack in here] == ["b1"]


async def test_a_recreated_stack_has_its_own_id(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])
    await store.log.append([new_event("stack.deleted", scopes=("project/acme/stack/stack-1",))])
    await store.log.append([stack_created("web", id="stack-2")])

    assert (await store.catalog.stack("acme", "web")).id == "stack-2"
    assert [s.id for s in await store.catalog.stacks(ALL, deleted=True)] == ["stack-2", "stack-1"]
    assert [s.id for s in await store.catalog.stacks(ALL)] == ["stack-2"]


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

    deployment = await store.catalog.deployment("deployment-1")

    counts = deployment.counts
    assert (counts.added, counts.changed, counts.destroyed, counts.failed) == (3, 2, 1, 1)
    assert (deployment.status, deployment.ended, deployment.actor) == ("running", None, "alice")
    assert (deployment.stack, deployment.stack_id) == ("web", "stack-1")


async def test_events_recorded_again_are_not_counted_again(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    event = deployment_event("resource.create.completed", producer_id="1")

    await store.log.append([event])
    await store.log.append([event])

    assert (await store.catalog.deployment("deployment-1")).counts.added == 1


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_deployment_ends_once(store: Store, status: str):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    await store.log.append([deployment_event(f"deployment.{status}", message="so", time=7)])
    await store.log.append([deployment_event("deployment.failed", message="late", time=8)])

    deployment = await store.catalog.deployment("deployment-1")

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
    before = await store.catalog.deployment("deployment-1")

    await store.log.append([new_event("resource.create.completed", scopes=(scope,))])
    await store.log.append([new_event("deployment.failed", scopes=(scope,), message="pwned")])

    assert await store.catalog.deployment("deployment-1") == before


async def test_a_stack_is_not_deleted_from_another_project(store: Store):
    await store.log.append([stack_created("web", id="stack-1")])

    await store.log.append([new_event("stack.deleted", scopes=("project/evil/stack/stack-1",))])

    assert (await store.catalog.stack("acme", "web")).id == "stack-1"


async def test_what_is_for_one_group_does_not_show_in_the_deployment_of_all(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    secret: dict[str, Any] = {"groups": ("sec",), "message": "SECRET"}
    await store.log.append([deployment_event("resource.create.failed", **secret)])
    await store.log.append([deployment_event("deployment.failed", **secret)])

    deployment = await store.catalog.deployment("deployment-1")

    assert (deployment.status, deployment.message) == ("failed", None)
    assert deployment.counts.failed == 0


async def test_a_deployment_of_one_group_counts_what_is_for_that_group(store: Store):
    ops: dict[str, Any] = {"groups": ("ops",)}
    await store.log.append([stack_created(), deployment_event("deployment.started", **ops)])
    await store.log.append([deployment_event("resource.create.completed", **ops)])
    await store.log.append([deployment_event("deployment.completed", message="done", **ops)])

    deployment = await store.catalog.deployment("deployment-1")

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
async def test_the_end_names_the_operation_if_the_start_did_not(
    store: Store, begun: object, ended: object, operation: str | None
):
    start = deployment_event("deployment.started", data=begun)
    await store.log.append([stack_created(), start])
    await store.log.append([deployment_event("deployment.completed", data=ended)])

    assert (await store.catalog.deployment("deployment-1")).operation == operation


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

    page = await store.catalog.deployments(ALL, project="acme", limit=2)
    rest = await store.catalog.deployments(ALL, stack_id="stack-1", before="d3")

    assert [d.id for d in page] == ["d4", "d3"]
    assert [d.id for d in rest] == ["d2", "d1", "d0"]
    assert await store.catalog.deployments(ALL, project="other") == []


async def test_the_catalogue_shows_only_what_is_visible(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started", id="open")])
    await store.log.append([deployment_event("deployment.started", id="ops", groups=("ops",))])
    stranger = Visibility(scopes=(Scope("project/other"),), groups=None)
    guest = Visibility(scopes=(Scope("project/acme"),), groups=frozenset({"web"}))
    one = Visibility(
        scopes=(Scope("project/acme/stack/stack-1/deployment/open"),), groups=frozenset()
    )

    assert await store.catalog.projects(stranger) == []
    assert await store.catalog.stacks(stranger) == []
    assert await store.catalog.deployments(stranger) == []
    assert await store.catalog.projects(guest) == ["acme"]
    assert [d.id for d in await store.catalog.deployments(guest)] == ["open"]
    assert [d.id for d in await store.catalog.deployments(one)] == ["open"]
    assert await store.catalog.deployments(Visibility(scopes=(), groups=None)) == []


async def test_an_unknown_deployment_is_not_found(store: Store):
    with pytest.raises(DeploymentNotFound):
        await store.catalog.deployment("nope")
