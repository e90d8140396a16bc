"""*Now*: what runs, what failed, how delivery goes, what is deployed, what finished lately."""

import asyncio
from collections.abc import Iterable
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import (
    DEFAULT_WINDOW,
    Parameters,
    parse_names,
    parse_window,
)
from deploylog.deployments.catalog import Deployment, Status
from deploylog.deployments.dora import Window
from deploylog.deployments.filters import Names
from deploylog.errors import DeploymentNotFound, Forbidden, InvalidFilter, StackNotFound
from deploylog.ui.page import Page, View
from deploylog.ui.places import Field, place_fields
from deploylog.ui.readings import WINDOWS, Reading, readings

Pairs = list[tuple[str, str]]

#: Deployments of each list.
_RUNNING, _FAILED, _CURRENT, _RECENT = 50, 5, 100, 20


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    fields: tuple[Field, ...]
    is_filtered: bool
    #: The query of the project, stack and environment, and of the window.
    place: str
    #: Of the figures, if it is not the default.
    window: str
    #: Windows, their queries, and whether each is chosen.
    windows: tuple[tuple[str, str, bool], ...]
    #: DORA's metrics of the place in the window, and the deployments that they are of.
    readings: tuple[Reading, ...] = ()
    counted: int = 0
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
    window = next(iter(Parameters(view.query).all("window")), DEFAULT_WINDOW)
    period = parse_window(parameters, now=view.now)
    parameters.done()
    fields = await place_fields(view, names)
    place = [(field.name, field.value) for field in fields if field.value]
    empty = Now(
        fields=fields,
        is_filtered=bool(names),
        place=urlencode(_with_window(place, window)),
        window="" if window == DEFAULT_WINDOW else window,
        windows=tuple(_windows(view.query, window)),
    )
    try:
        return await _measured(view, names, period, await _fill(view, names, before, empty))
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


async def _measured(view: View, names: Names, period: Window, found: Now) -> Now:
    """With the metrics of the place; they are of all its deployments."""
    place = Names(project=names.project, stacks=names.stacks, environments=names.environments)
    ended = [each.id for each in found.recent]
    dora = await view.services.measurements.get(view.principal, place, period, ended)
    return msgspec.structs.replace(found, readings=readings(dora), counted=dora.counted)


def _windows(query: str, chosen: str) -> Iterable[tuple[str, str, bool]]:
    parameters = Parameters(query)
    parameters.all("window")
    others = parameters.rest()
    for each in dict.fromkeys((*WINDOWS, chosen)):
        yield each, urlencode(_with_window(others, each)), each == chosen


def _with_window(pairs: Pairs, window: str) -> Pairs:
    return pairs if window == DEFAULT_WINDOW else [*pairs, ("window", window)]


def _older(query: str, recent: list[Deployment]) -> str | None:
    """The query of the deployments before these."""
    if len(recent) < _RECENT:
        return None
    parameters = Parameters(query)
    parameters.all("before")
    return urlencode([*parameters.rest(), ("before", recent[-1].id)])


PAGE = Page(path="", template="now.html", load=load, navigation="Now")
