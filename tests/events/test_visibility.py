"""One rule for every service: what a principal may see is the same wherever it asks."""

import asyncio
from contextlib import suppress
from itertools import product

import pytest

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.service import DeploymentService, NewDeployment
from deploylog.errors import DeploymentNotFound, EventNotFound, Forbidden, StackNotFound
from deploylog.events.access import ANONYMOUS, Principal, parse_grant
from deploylog.events.event import NewEvent
from deploylog.events.filters import EVERYTHING
from deploylog.events.hub import Hub, Reader
from deploylog.events.scope import ROOT
from deploylog.events.service import EventService, Start
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.factories import new_event, stack_created
from support.waiting import until

GRANTS = {
    "nothing": (),
    "everything": ("read:/",),
    "everything as admin": ("admin:/",),
    "write only": ("write:/",),
    "acme": ("read:project/acme",),
    "a stack": ("read:project/acme/stack/1",),
    "a deployment": ("read:project/acme/stack/1/deployment/d0",),
    "a neighbour": ("read:project/acmes", "read:project/acme/stack/11"),
    "a state": ("read:state/acme/prod",),
    "other": ("read:project/other",),
    "two": ("read:project/other", "admin:state/acme"),
    "all, and a part again": ("read:/", "read:project/acme/stack/1"),
    "a part, and all as admin": ("read:project/other", "admin:/"),
}

GROUPS = {
    "no group": frozenset[str](),
    "ops": frozenset({"ops"}),
    "ops and web": frozenset({"ops", "web"}),
    "public": frozenset({"*"}),
    "every group": None,
}

SCOPES = (
    ("project/acme",),
    ("project/acme/stack/1",),
    ("project/acme/stack/1/deployment/d0", "state/acme/prod/web"),
    ("project/acme/stack/11",),
    ("project/other/stack/2", "project/acme/stack/1"),
    ("project/acmes",),
    ("elsewhere",),
)

EVENT_GROUPS = ((), ("*",), ("ops",), ("web",), ("dev",), ("*", "dev"), ("dev", "ops"))

PRINCIPALS = [
    pytest.param(
        Principal(name="x", groups=groups, grants=tuple(parse_grant(g) for g in grants)),
        id=f"{granted}-{member}",
    )
    for (granted, grants), (member, groups) in product(GRANTS.items(), GROUPS.items())
]


def events() -> list[NewEvent]:
    return [
        new_event(scopes=scopes, groups=groups) for scopes, groups in product(SCOPES, EVENT_GROUPS)
    ]


async def streamed(service: EventService, principal: Principal, head: int) -> list[int]:
    """The positions that a stream of everything has given when it has come to ``head``."""
    found: list[int] = []

    async def read(reader: Reader) -> None:
        while (batch := await reader.next()) is not None:
            found.extend(e.position for e in batch.events)

    with service.follow(principal, scope=ROOT, filter=EVERYTHING, start=Start(after=0)) as reader:
        reading = asyncio.create_task(read(reader))
        await until(lambda: reader.position >= head)
        reader.close()
        await reading
    return found


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_every_service_shows_the_same_events(
    service: EventService, hub: Hub, store: Store, principal: Principal
):
    everything = await store.log.append(events())
    visible = [e.position for e in everything if principal.visibility.shows(e)]

    newest = await service.read(principal, Query(limit=1000))
    oldest = await service.read(principal, Query(limit=1000, order="oldest"))
    single = []
    for event in everything:
        with suppress(EventNotFound):
            single.append((await service.event(principal, event.id)).position)
    history = await streamed(service, principal, everything[-1].position)

    assert [e.position for e in newest] == visible[::-1]
    assert [e.position for e in oldest] == visible
    assert single == visible
    assert history == visible


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_a_live_stream_shows_what_the_list_shows(
    service: EventService, hub: Hub, store: Store, principal: Principal
):
    with service.follow(principal, scope=ROOT, filter=EVERYTHING, start=Start(after=0)) as reader:
        everything = await store.log.append(events())
        visible = [e.position for e in everything if principal.visibility.shows(e)]
        seen: list[int] = []
        async with asyncio.timeout(10):
            while len(seen) < len(visible):
                batch = await reader.next()
                assert batch is not None
                seen += [e.position for e in batch.events]
        await until(lambda: hub.head >= everything[-1].position)
        [view] = hub._rings.values()

    assert seen == visible
    assert [e.position for e in view.after(0)[0].events] == visible


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_a_page_is_filled_with_visible_events(
    service: EventService, store: Store, principal: Principal
):
    everything = await store.log.append(events() * 2)
    visible = [e.position for e in everything if principal.visibility.shows(e)]

    found: list[int] = []
    before = None
    while page := await service.read(principal, Query(limit=3, before=before)):
        found += [e.position for e in page]
        before = page[-1].position
        if len(page) < 3:
            break

    assert found == visible[::-1]


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_every_service_shows_the_same_deployments_and_stacks(
    deployments: DeploymentService, store: Store, principal: Principal
):
    opened = await _opened(deployments, store)
    visibility = principal.visibility
    visible = [
        d.id
        for d in opened
        if visibility.shows_scopes(d.scopes) and visibility.shows_groups(d.groups)
    ]

    listed = [d.id for d in await deployments.deployments(principal)]
    single, waited = [], []
    for deployment in opened:
        with suppress(DeploymentNotFound):
            single.append((await deployments.deployment(principal, deployment.id)).id)
        with suppress(DeploymentNotFound):
            waited.append((await deployments.wait(principal, deployment.id, timeout=0)).id)

    assert listed == visible[::-1]
    assert single == visible
    assert waited == visible

    stacks = await deployments.stacks(ANONYMOUS)
    shown = [s for s in stacks if visibility.shows_scopes(s.scopes)]
    assert [s.id for s in await deployments.stacks(principal)] == [s.id for s in shown]
    assert await deployments.projects(principal) == sorted({s.project for s in shown})
    for stack in stacks:
        try:
            found = [(await deployments.stack(principal, stack.project, stack.name)).id]
        except (StackNotFound, Forbidden):
            found = []
        assert found == [s.id for s in shown if s.id == stack.id]


async def _opened(deployments: DeploymentService, store: Store) -> list[Deployment]:
    """Deployments of some stacks, for some groups."""
    await store.log.append(
        [stack_created("web", id="1"), stack_created("db", id="11"),
         stack_created("web", id="2", project="other")]
    )  # fmt: skip
    opened = []
    for project, stack in (("acme", "web"), ("acme", "db"), ("other", "web")):
        for groups in ((), ("*",), ("ops",), ("dev", "web")):
            for environment in (None, "prod"):
                new = NewDeployment(
                    project=project, stack=stack, groups=groups, environment=environment
                )
                opened.append(await deployments.open_deployment(ANONYMOUS, new))
    return opened


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ((), False),
        (("read:/",), False),
        (("write:project/acme",), True),
        (("admin:/",), True),
        (("write:project/acme/stack/1",), False),
        (("write:project/acmes",), False),
        (("read:project/acme", "write:project/other"), False),
    ],
)
async def test_only_a_principal_that_may_write_a_scope_appends_there(
    service: EventService, store: Store, grants: tuple[str, ...], allowed: bool
):
    principal = Principal(name="x", grants=tuple(parse_grant(g) for g in grants))
    wanted = [new_event(scopes=("project/acme",)), new_event(scopes=("project/acme/stack/1",))]

    try:
        await service.append(principal, wanted)
    except Forbidden:
        assert not allowed
        assert await store.log.read(Query()) == []
    else:
        assert allowed


async def test_every_scope_of_an_event_must_be_writable(service: EventService, store: Store):
    principal = Principal(name="x", grants=(parse_grant("write:project/acme"),))

    with pytest.raises(Forbidden):
        await service.append(principal, [new_event(scopes=("project/acme", "project/other"))])

    assert await store.log.read(Query()) == []
