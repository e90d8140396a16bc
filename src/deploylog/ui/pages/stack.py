"""*Stack*: its deployments, how long they took, what runs where, its resources, its plans."""

import asyncio
from collections.abc import Sequence
from statistics import median

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import Deployment, Stack
from deploylog.deployments.changeset import Changeset
from deploylog.deployments.filters import Names
from deploylog.errors import InvalidCursor, StackNotFound
from deploylog.events.facets import Facets
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope
from deploylog.events.store import Query
from deploylog.ui.page import Page, View

#: Deployments of one page, change sets, and resources.
_DEPLOYMENTS, _CHANGESETS, _RESOURCES = 40, 10, 100

#: Completed deployments that a median needs.
_ENOUGH = 3

_OF_RESOURCES = Filter(all_of=(any_of("type", ("resource.*",)),))


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """How long a deployment took: its height is a part of the longest."""

    deployment: Deployment
    duration: int
    height: float


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    stack: Stack
    #: What is deployed in each environment.
    current: list[Deployment]
    #: Last started first.
    deployments: list[Deployment]
    older: str | None
    #: In order of their start.
    pace: tuple[Bar, ...]
    #: ns that those completed deployments took, half of them less; ``None`` of too few.
    usual: int | None
    changesets: list[Changeset]
    #: Addresses with the number of their events.
    resources: Facets

    @property
    def scope(self) -> Scope:
        return self.stack.scopes[0]


async def load(view: View) -> Shown:
    """The stack that the path names."""
    parameters = Parameters(view.query)
    before = parameters.one("before")
    parameters.done()
    stack = await _find(view, view.path["id"])
    services, principal = view.services, view.principal
    deployments, current, changesets, resources = await asyncio.gather(
        services.deployments.deployments_of(
            principal, stack.id, before=await _cursor(view, stack, before), limit=_DEPLOYMENTS
        ),
        _current(view, stack),
        services.staging.changesets(
            principal, project=stack.project, stack=stack.name, limit=_CHANGESETS
        ),
        services.events.facets(
            principal,
            Query(scope=stack.scopes[0], filter=_OF_RESOURCES),
            "resource_address",
            _RESOURCES,
        ),
    )
    pace = draw_pace(deployments)
    return Shown(
        stack=stack,
        current=current,
        deployments=deployments,
        older=deployments[-1].id if len(deployments) == _DEPLOYMENTS else None,
        pace=pace,
        usual=usual_duration(pace),
        changesets=changesets,
        resources=resources,
    )


def draw_pace(deployments: Sequence[Deployment]) -> tuple[Bar, ...]:
    """The durations of those that have ended, in order of their start."""
    ended = [(d, max(d.ended - d.started, 0)) for d in deployments if d.ended is not None]
    longest = max((duration for _, duration in ended), default=0) or 1
    return tuple(
        Bar(deployment=deployment, duration=duration, height=duration / longest)
        for deployment, duration in reversed(ended)
    )


def usual_duration(pace: Sequence[Bar]) -> int | None:
    """The median of the completed ones."""
    durations = [bar.duration for bar in pace if bar.deployment.status == "completed"]
    return int(median(durations)) if len(durations) >= _ENOUGH else None


async def _find(view: View, id: str) -> Stack:
    stacks = await view.services.deployments.stacks(view.principal, deleted=True)
    for stack in stacks:
        if stack.id == id.lower():
            return stack
    raise StackNotFound(f"there is no stack {id[:64]!r}")


async def _cursor(view: View, stack: Stack, before: str | None) -> str | None:
    """The deployment of this stack that a page starts after."""
    if before is None:
        return None
    found = await view.services.deployments.deployment(view.principal, before)
    if found.stack_id != stack.id:
        raise InvalidCursor("before is not a deployment of this stack", field="before")
    return found.id


async def _current(view: View, stack: Stack) -> list[Deployment]:
    if stack.deleted is not None:
        return []
    names = Names(project=stack.project, stacks=(stack.name,))
    return await view.services.deployments.deployments(view.principal, names=names, current=True)


PAGE = Page(path="stacks/{id}", template="stack.html", load=load)
