"""Subscriptions by names and by what deployments carry: what they match, lists find."""

from functools import partial
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from deploylog.deployments.details import Commit
from deploylog.deployments.filters import Names
from deploylog.deployments.service import DeploymentService, NewDeployment
from deploylog.errors import (
    DeploymentNotFound,
    Forbidden,
    InvalidFilter,
    InvalidSubscription,
    StackNotFound,
)
from deploylog.events.access import ANONYMOUS, Principal, parse_grant
from deploylog.events.filters import EVERYTHING, Filter, any_of
from deploylog.events.store import Query
from deploylog.store.contract import Store
from deploylog.subscriptions.filters import with_statuses
from deploylog.subscriptions.places import MAX_COMBINATIONS, MAX_VALUES, Places, check_places
from deploylog.subscriptions.selection import PlaceSelector, check_known
from support.factories import new_event

NAMES = st.lists(st.sampled_from(["web", "db", "api"]), unique=True, max_size=2).map(tuple)
ENVIRONMENTS = st.lists(st.sampled_from(["prod", "dev"]), unique=True, max_size=2).map(tuple)

#: What deployments carry, in turn.
CARRIED: tuple[dict[str, Any], ...] = (
    {"version": "1.4", "commits": (Commit(sha="4f2a9c1e"),), "labels": {"team": "web"}},
    {"version": "1.5", "commits": (Commit(sha="4f2b0000"), Commit(sha="0d00d00d"))},
    {"labels": {"team": "web", "tier": "1"}},
    {},
)

PLACES = st.builds(
    Places,
    project=st.none() | st.sampled_from(["acme", "beta"]),
    stacks=NAMES,
    environments=ENVIRONMENTS,
    versions=st.sampled_from([(), ("1.4",), ("1.5", "2.0")]),
    commits=st.sampled_from([(), ("4f2a",), ("4f2b0", "4f2a9c1e"), ("0d00",), ("ffff",)]),
    labels=st.sampled_from([(), (("team", "web"),), (("team", "web"), ("tier", "1"))]),
)

#: Who may see all, who sees one project, and who sees nothing of a group.
PRINCIPALS = {
    "all": ANONYMOUS,
    "acme": Principal(
        name="k", id="k", kind="key", groups=frozenset(), grants=(parse_grant("read:project/acme"),)
    ),
}


@pytest.fixture
async def filled(store: Store, deployments: DeploymentService) -> Store:
    """A log with deployments of several stacks, with and without an environment."""
    carried = cycle(CARRIED)
    for project in ("acme", "beta"):
        for stack in ("web", "db", "api"):
            for environment in ("prod", "dev", None):
                groups = ("secret",) if (stack, environment) == ("db", "dev") else ()
                new = NewDeployment(
                    project=project,
                    stack=stack,
                    environment=environment,
                    groups=groups,
                    **next(carried),
                )
                opened = await deployments.open_deployment(ANONYMOUS, new)
                await store.log.append([new_event(scopes=opened.scopes, groups=groups)])
    await store.log.append([new_event()])
    return store


def selector(deployments: DeploymentService, owner: Principal, places: Places) -> PlaceSelector:
    return PlaceSelector(
        places,
        lambda project, name: deployments.stacks(owner, project=project, name=name, deleted=True),
        partial(deployments.find, owner),
    )


async def matched(
    store: Store, deployments: DeploymentService, owner: Principal, places: Places
) -> list[int]:
    """What a subscription delivers: events by the hub's evaluator, then by name."""
    select = selector(deployments, owner, places)
    filter = Filter(scopes=places.scopes)
    everything = await store.log.read(Query(limit=1000, order="oldest"))
    streamed = [
        event for event in everything if filter.matches(event) and owner.visibility.shows(event)
    ]
    return [event.position for event in await select.select(streamed)]


async def listed(
    store: Store, deployments: DeploymentService, owner: Principal, places: Places
) -> list[int]:
    """What a list with the same names finds."""
    names = Names(
        project=places.project,
        stacks=places.stacks,
        environments=places.environments,
        versions=places.versions,
        commits=places.commits,
        labels=places.labels,
    )
    scopes = await deployments.names.scopes(owner, names)
    found = await store.log.read(
        Query(filter=Filter(scopes=scopes), visibility=owner.visibility, limit=1000, order="oldest")
    )
    return [event.position for event in found]


@given(places=PLACES, owner=st.sampled_from(sorted(PRINCIPALS)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_subscription_matches_what_a_list_with_its_names_finds(
    filled: Store, deployments: DeploymentService, places: Places, owner: str
):
    principal = PRINCIPALS[owner]
    try:
        found = await listed(filled, deployments, principal, places)
    except (Forbidden, StackNotFound, InvalidFilter):
        # The list says that there is no such name.
        return
    except DeploymentNotFound:
        found = []

    assert await matched(filled, deployments, principal, places) == found


async def test_a_stack_that_is_created_later_is_matched_by_its_name(
    store: Store, deployments: DeploymentService
):
    places = Places(project="acme", stacks=("new",))
    select = selector(deployments, ANONYMOUS, places)
    other = await deployments.open_deployment(ANONYMOUS, NewDeployment(project="acme", stack="old"))
    before = await store.log.read(Query(limit=10))
    assert await select.select(before) == []

    await deployments.open_deployment(ANONYMOUS, NewDeployment(project="acme", stack="new"))

    events = await store.log.read(Query(limit=10, order="oldest"))
    assert [event.subject for event in await select.select(events)] == ["new", "new"]
    assert other.stack == "old"


async def test_a_stack_that_the_owner_may_not_see_has_no_name(
    store: Store, deployments: DeploymentService
):
    await deployments.open_deployment(ANONYMOUS, NewDeployment(project="beta", stack="web"))
    select = selector(deployments, PRINCIPALS["acme"], Places(stacks=("web",)))

    events = await store.log.read(Query(limit=10))

    assert await select.select(events) == []


async def test_a_deployment_counts_from_when_it_carries_the_version(
    store: Store, deployments: DeploymentService
):
    opened = await deployments.open_deployment(ANONYMOUS, NewDeployment(project="a", stack="web"))
    select = selector(deployments, ANONYMOUS, Places(versions=("1.4",)))
    before = await store.log.read(Query(limit=10))
    assert await select.select(before) == []

    end = new_event("deployment.completed", scopes=opened.scopes, data=Raw(b'{"version":"1.4"}'))
    [ended] = await store.log.append([end])

    assert await select.select([ended]) == [ended]


@pytest.mark.parametrize(
    ("places", "field", "hint"),
    [
        (Places(project="acmee"), "project", "did you mean 'acme'"),
        (Places(project="acme", stacks=("wep",)), "stack", "did you mean 'web'"),
        (Places(environments=("prd",)), "environment", "did you mean 'prod'"),
    ],
)
async def test_a_name_that_does_not_exist_is_refused_with_a_similar_one(
    filled: Store, deployments: DeploymentService, places: Places, field: str, hint: str
):
    with pytest.raises(InvalidSubscription, match=hint) as refused:
        await check_known(deployments, ANONYMOUS, places)

    assert refused.value.field == field
    assert "allow_missing" in refused.value.message


@pytest.mark.parametrize(
    ("places", "field"),
    [
        (Places(project=""), "project"),
        (Places(stacks=("a\nb",)), "stack"),
        (Places(environments=("x" * 129,)), "environment"),
        (Places(versions=("",)), "version"),
        (Places(versions=("1",) * (MAX_VALUES + 1)), "version"),
        (Places(commits=("4f2",)), "commit"),
        (Places(commits=("main",)), "commit"),
        (Places(labels=(("a b", "c"),)), "label"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(places: Places, field: str):
    with pytest.raises(InvalidSubscription) as refused:
        check_places(ANONYMOUS, places)

    assert refused.value.field == field


def test_a_project_that_the_owner_may_not_read_is_refused():
    with pytest.raises(Forbidden):
        check_places(PRINCIPALS["acme"], Places(project="beta"))


def test_too_many_combinations_are_refused():
    many = tuple(str(number) for number in range(MAX_COMBINATIONS // 2 + 1))

    with pytest.raises(InvalidSubscription, match="combinations"):
        assert Places(project="a", stacks=many, environments=("x", "y")).scopes


@pytest.mark.parametrize(
    ("requested", "types"),
    [
        (EVERYTHING, ("deployment.failed",)),
        (Filter(all_of=(any_of("type", ("deployment.*",)),)), ("deployment.failed",)),
        (Filter(all_of=(any_of("type", ("resource.*",)),)), None),
    ],
)
def test_a_status_selects_the_event_with_which_a_deployment_enters_it(
    requested: Filter, types: tuple[str, ...] | None
):
    def restricted() -> tuple[str, ...]:
        return with_statuses(requested, ("failed",)).all_of[0].values

    if types is None:
        with pytest.raises(InvalidSubscription):
            restricted()
    else:
        assert restricted() == types
