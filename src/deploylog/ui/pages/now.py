"""*Now*: what runs, what failed, what is deployed, and what finished lately."""

import asyncio
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters, parse_names
from deploylog.deployments.catalog import Deployment, Stack, Status
from deploylog.deployments.filters import Names
from deploylog.errors import DeploymentNotFound, Forbidden, InvalidFilter, StackNotFound
from deploylog.ui.page import Page, View

#: Deployments of each list.
_RUNNING, _FAILED, _CURRENT, _RECENT = 50, 5, 100, 20


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A filter that the page offers."""

    name: Literal["project", "stack", "environment"]
    label: str
    values: tuple[str, ...]
    value: str


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    fields: tuple[Field, ...]
    is_filtered: bool
    running: list[Deployment] = []
    failed: list[Deployment] = []
    current: list[Deployment] = []
    recent: list[Deployment] = []
    #: The query of the next page, if there may be one.
    older: str | None = None
    #: What is wrong with the filter.
    problem: str | None = None


async def load(view: View) -> Now:
    """The lists that the filter in the query selects."""
    parameters = Parameters(view.query)
    before = parameters.one("before")
    names = parse_names(parameters)
    parameters.done()
    fields = await _fields(view, names)
    empty = Now(fields=fields, is_filtered=bool(names))
    try:
        return await _fill(view, names, before, empty)
    except (StackNotFound, DeploymentNotFound, InvalidFilter, Forbidden) as error:
        return msgspec.structs.replace(empty, problem=error.message)


async def _fill(view: View, names: Names, before: str | None, empty: Now) -> Now:
    deployments = view.services.deployments

    async def listed(
        limit: int, *statuses: Status, current: bool = False, before: str | None = None
    ) -> list[Deployment]:
        asked = names.statuses or statuses
        both = tuple(each for each in asked if each in (statuses or asked))
        if statuses and not both:
            return []
        return await deployments.deployments(
            view.principal,
            names=msgspec.structs.replace(names, statuses=both),
            current=current,
            before=before,
            limit=limit,
        )

    running, failed, current, recent = await asyncio.gather(
        listed(_RUNNING, "running"),
        listed(_FAILED, "failed"),
        listed(_CURRENT, current=True),
        listed(_RECENT, "completed", "failed", before=before),
    )
    return msgspec.structs.replace(
        empty,
        running=running,
        failed=failed,
        current=sorted(current, key=lambda each: (each.environment or "", each.stack)),
        recent=recent,
        older=_older(view.query, recent),
    )


def _older(query: str, recent: list[Deployment]) -> str | None:
    """The query of the deployments before these."""
    if len(recent) < _RECENT:
        return None
    parameters = Parameters(query)
    parameters.all("before")
    return urlencode([*parameters.rest(), ("before", recent[-1].id)])


async def _fields(view: View, names: Names) -> tuple[Field, ...]:
    """What there is to choose from."""
    stacks, current = await asyncio.gather(
        view.services.deployments.stacks(view.principal),
        view.services.deployments.environments(view.principal),
    )
    return (
        _field("project", "Project", {stack.project for stack in stacks}, (names.project or "",)),
        _field("stack", "Stack", _names_of(stacks, names.project), names.stacks),
        _field("environment", "Environment", current, names.environments),
    )


def _names_of(stacks: Iterable[Stack], project: str | None) -> set[str]:
    return {stack.name for stack in stacks if project in (None, stack.project)}


def _field(
    name: Literal["project", "stack", "environment"],
    label: str,
    values: Iterable[str],
    chosen: tuple[str, ...],
) -> Field:
    return Field(
        name=name, label=label, values=tuple(sorted(values)), value=chosen[0] if chosen else ""
    )


PAGE = Page(path="", template="now.html", load=load, navigation="Now")
