"""What every store must do with stacks and deployments: ``Catalog``, sentence by sentence."""

import asyncio
from typing import Any

import pytest

from deploylog.deployments.details import Details
from deploylog.deployments.filters import DeploymentFilter
from deploylog.deployments.lifecycle import CARRIES_DETAILS
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
    unique,
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


async def test_a_deployment_carries_what_its_start_and_its_end_say(store: Store):
    said = {"version": "1.4.2", "labels": {"team": "shop"}, "tool": "helm"}
    await store.log.append([stack_created(), deployment_event("deployment.started", data=said)])
    more = {"version": "9", "url": "https://ci.example/1", "approvers": ["bob"]}

    await store.log.append([deployment_event("deployment.completed", data=more)])

    [deployment] = await store.catalog.deployments(ALL)
    assert deployment.details == Details(
        version="1.4.2",
        labels={"team": "shop"},
        url="https://ci.example/1",
        approvers=("bob",),
    )


async def test_a_phase_adds_to_what_a_running_deployment_carries(store: Store):
    await store.log.append([stack_created()])
    await started(store, "deployment-1", version="1.4.2")
    said = {"version": "9", "approvers": ["bob"]}

    await store.log.append([deployment_event("deployment.progress", data=said)])

    [deployment] = await store.catalog.deployments(ALL)
    assert (deployment.status, deployment.ended) == ("running", None)
    assert deployment.details == Details(version="1.4.2", approvers=("bob",))


async def test_a_start_and_its_phases_may_come_together(store: Store):
    events = [
        stack_created(),
        deployment_event("deployment.started"),
        deployment_event("deployment.waiting", data={"approvers": ["bob"]}),
        deployment_event("deployment.completed", data={"version": "2"}),
    ]

    await store.log.append(events)

    [deployment] = await store.catalog.deployments(ALL)
    assert deployment.details == Details(version="2", approvers=("bob",))


@pytest.mark.parametrize(
    ("fields", "before"),
    [({"groups": ("ops",)}, []), ({"id": "another"}, []), ({}, ["deployment.completed"])],
)
async def test_a_phase_of_another_group_or_after_the_end_adds_nothing(
    store: Store, fields: dict[str, Any], before: list[str]
):
    events = [deployment_event(type) for type in ("deployment.started", *before)]
    await store.log.append([stack_created(), *events])
    late = deployment_event("deployment.progress", data={"version": "2"}, **fields)

    await store.log.append([late])

    assert (await store.catalog.deployment("deployment-1")).details == Details()


async def test_details_for_other_groups_stay_hidden(store: Store):
    await store.log.append([stack_created(), deployment_event("deployment.started")])
    said = {"version": "secret"}

    await store.log.append([deployment_event("deployment.failed", data=said, groups=("ops",))])

    deployment = await store.catalog.deployment("deployment-1")
    assert (deployment.status, deployment.details) == ("failed", Details())


@pytest.mark.parametrize("type", CARRIES_DETAILS)
async def test_details_that_are_not_valid_are_refused(store: Store, type: str):
    await store.log.append([stack_created()])

    with pytest.raises(InvalidEvent) as refused:
        await store.log.append([deployment_event(type, data={"url": "ftp://x"})])

    assert refused.value.field == "data.url"


async def started(store: Store, id: str, **data: object) -> None:
    await store.log.append([deployment_event("deployment.started", id=id, data=data)])


async def ended(store: Store, id: str, time: int, type: str = "deployment.completed") -> None:
    await store.log.append([deployment_event(type, id=id, time=time)])


async def ids(store: Store, visibility: Visibility = ALL, **where: object) -> list[str]:
    filter = DeploymentFilter(**where)  # type: ignore[arg-type]
    return [each.id for each in await store.catalog.deployments(visibility, where=filter)]


async def test_deployments_are_selected_by_every_condition_at_once(store: Store):
    await store.log.append([stack_created(), stack_created("api", id="stack-2", project="beta")])
    commits = [{"sha": "4be37088"}, {"sha": "0a1b2c3d"}]
    labels = {"team": "shop", "a.b/c": "1"}
    await started(store, "d1", environment="prod", version="1", commits=commits, labels=labels)
    plan = {"id": "0199B7A4-0000-7000-8000-000000000001"}
    await started(store, "d2", environment="dev", version="2", labels={"team": "shop"}, plan=plan)
    await ended(store, "d2", 9)

    assert await ids(store) == ["d2", "d1"]
    assert await ids(store, environments=("prod", "stage")) == ["d1"]
    assert await ids(store, versions=("2", "3")) == ["d2"]
    assert await ids(store, commits=("0a1b2c3",)) == ["d1"]
    assert await ids(store, commits=("1b2c3",)) == []
    assert await ids(store, plans=(plan["id"].lower(),)) == ["d2"]
    assert await ids(store, plans=(unique(),)) == []
    assert await ids(store, labels=(("team", "shop"),)) == ["d2", "d1"]
    assert await ids(store, labels=(("team", "shop"), ("a.b/c", "1"))) == ["d1"]
    assert await ids(store, labels=(("team", "s"),)) == []
    assert await ids(store, statuses=("completed", "failed")) == ["d2"]
    assert await ids(store, deployments=("d1",)) == ["d1"]
    assert await ids(store, deployments=("d",)) == ["d2", "d1"]
    assert await ids(store, stacks=("stack-1",), project="acme", versions=("1",)) == ["d1"]
    assert await ids(store, stacks=()) == []
    assert await ids(store, project="beta") == []


async def test_deployments_are_selected_by_their_start(store: Store):
    await store.log.append([stack_created()])
    for time in (1, 2):
        await store.log.append([deployment_event("deployment.started", id=f"d{time}", time=time)])

    assert await ids(store, since=2) == ["d2"]


async def test_what_is_current_is_what_completed_last_and_deployed_something(store: Store):
    await store.log.append([stack_created()])
    for number, (environment, operation) in enumerate(
        [("prod", "apply"), ("prod", "apply"), ("prod", "plan"), ("dev", None), ("prod", "apply")]
    ):
        await started(store, f"d{number}", environment=environment, operation=operation)
    # The second ends after the first, the third plans only, and the last one fails.
    for id, time in (("d1", 5), ("d0", 7), ("d2", 8), ("d3", 9)):
        await ended(store, id, time)
    await ended(store, "d4", 10, "deployment.failed")

    assert await ids(store, current=True) == ["d3", "d0"]
    assert await ids(store, current=True, environments=("prod",)) == ["d0"]
    await store.log.append([new_event("stack.deleted", scopes=("project/acme/stack/stack-1",))])
    assert await ids(store, current=True) == []


async def test_what_is_hidden_does_not_hide_what_was_there_before(store: Store):
    await store.log.append([stack_created()])
    await started(store, "d1")
    await ended(store, "d1", 5)
    hidden = [
        deployment_event(type, id="d2", groups=("ops",), time=6)
        for type in ("deployment.started", "deployment.completed")
    ]
    await store.log.append(hidden)

    assert await ids(store, current=True) == ["d2"]
    guest = Visibility(scopes=(Scope(""),), groups=frozenset())
    assert await ids(store, guest, current=True) == ["d1"]


async def test_environments_are_those_of_visible_deployments(store: Store):
    await store.log.append([stack_created()])
    await started(store, "d1", environment="prod")
    await started(store, "d2")
    secret = deployment_event(
        "deployment.started", id="d3", groups=("ops",), data={"environment": "vault"}
    )
    await store.log.append([secret])

    assert await store.catalog.environments(ALL) == ["prod", "vault"]
    assert await store.catalog.environments(ALL, project="beta") == []
    guest = Visibility(scopes=(Scope(""),), groups=frozenset())
    assert await store.catalog.environments(guest) == ["prod"]


async def start_and_end(store: Store, id: str, at: int, *, groups: tuple[str, ...] = ()) -> None:
    await store.log.append(
        [
            deployment_event("deployment.started", id=id, groups=groups, time=at - 1),
            deployment_event("deployment.completed", id=id, groups=groups, time=at),
        ]
    )


async def test_outcomes_come_by_their_end_page_by_page(store: Store):
    await store.log.append([stack_created()])
    for id, at in (("a", 5), ("b", 9), ("c", 7), ("d", 7)):
        await start_and_end(store, id, at)
    await store.log.append([deployment_event("deployment.started", id="running")])

    first = await store.catalog.outcomes(ALL, limit=2)
    rest = await store.catalog.outcomes(ALL, before=first[-1])

    assert [one.id for one in (*first, *rest)] == ["b", "d", "c", "a"]
    assert (first[0].started, first[0].ended, first[0].status) == (8, 9, "completed")


async def test_outcomes_are_those_that_are_visible_and_match(store: Store):
    await store.log.append([stack_created()])
    await start_and_end(store, "open", 5)
    await start_and_end(store, "hidden", 6, groups=("ops",))
    seen = Visibility(scopes=(Scope("project/acme"),), groups=frozenset())

    visible = await store.catalog.outcomes(seen)
    matching = await store.catalog.outcomes(ALL, where=DeploymentFilter(stacks=("stack-2",)))

    assert [one.id for one in visible] == ["open"]
    assert matching == []


async def test_outcomes_that_say_why_they_were_made_are_selected(store: Store):
    await store.log.append([stack_created()])
    for id, data in (
        ("restores", {"restores": "INC-1"}),
        ("rework", {"rework_of": "INC-1"}),
        ("neither", {"labels": {"restores": "INC-1"}}),
    ):
        await started(store, id, **data)
        await ended(store, id, 9)

    found = await store.catalog.outcomes(ALL, where=DeploymentFilter(is_explained=True))

    assert {one.id for one in found} == {"restores", "rework"}
