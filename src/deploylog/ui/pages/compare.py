"""*Compare*: two deployments side by side, the one that started earlier on the left."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import Deployment
from deploylog.errors import InvalidInput
from deploylog.ui.comparison import (
    Diagnosed,
    Difference,
    Pair,
    compare_diagnostics,
    compare_rows,
)
from deploylog.ui.page import Moved, Page, View
from deploylog.ui.timeline import Diagnostic
from deploylog.ui.waterfall import Waterfall, draw

#: Deployments of the same stack to choose from.
_CHOICES = 50


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two deployments."""

    deployment: Deployment
    waterfall: Waterfall
    diagnostics: list[Diagnostic]
    #: ns from its start to its end, or until now.
    took: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The two deployments, and how they differ."""

    earlier: Side
    later: Side
    groups: Mapping[Difference, tuple[Pair, ...]]
    diagnosed: Diagnosed

    @property
    def is_running(self) -> bool:
        return any(side.deployment.ended is None for side in (self.earlier, self.later))

    @property
    def scopes(self) -> str:
        """Where an event changes the page."""
        return f"{self.earlier.deployment.scopes[0]} {self.later.deployment.scopes[0]}"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    #: The deployment that the address names first.
    deployment: Deployment
    #: The other one, if there is one.
    other: Deployment | None
    #: What else it may be compared with; last started first.
    choices: list[Deployment]
    comparison: Comparison | None


async def load(view: View) -> Shown | Moved:
    """The deployment of the query, beside another; by default the one before it."""
    parameters = Parameters(view.query)
    id, other_id = parameters.required("deployment"), parameters.one("with")
    parameters.done()
    deployments, principal = view.services.deployments, view.principal
    deployment = await deployments.deployment(principal, id)
    if other_id is None:
        previous = await deployments.deployments_of(
            principal, deployment.stack_id, before=deployment.id, limit=1
        )
        if previous:
            pair = [("deployment", deployment.id), ("with", previous[0].id)]
            return Moved(f"compare?{urlencode(pair)}")
    other = await deployments.deployment(principal, other_id) if other_id is not None else None
    if other is not None and other.id == deployment.id:
        raise InvalidInput("with names the same deployment: name another one", field="with")
    return Shown(
        deployment=deployment,
        other=other,
        choices=await _choices(view, deployment, other),
        comparison=await _compare(view, deployment, other) if other is not None else None,
    )


async def _choices(
    view: View, deployment: Deployment, other: Deployment | None
) -> list[Deployment]:
    last = await view.services.deployments.deployments_of(
        view.principal, deployment.stack_id, limit=_CHOICES
    )
    found = [each for each in last if each.id != deployment.id]
    if other is not None and other.id not in {each.id for each in found}:
        found.append(other)
    return found


async def _compare(view: View, one: Deployment, other: Deployment) -> Comparison:
    first, second = sorted((one, other), key=lambda each: (each.started, each.id))
    earlier, later = await asyncio.gather(_side(view, first), _side(view, second))
    return Comparison(
        earlier=earlier,
        later=later,
        groups=compare_rows(earlier.waterfall.rows, later.waterfall.rows),
        diagnosed=compare_diagnostics(earlier.diagnostics, later.diagnostics),
    )


async def _side(view: View, deployment: Deployment) -> Side:
    timeline, _ = await view.services.timelines.get(view.principal, deployment)
    waterfall = draw(timeline, start=deployment.started, end=deployment.ended, now=view.now)
    ended = deployment.ended if deployment.ended is not None else view.now
    return Side(
        deployment=deployment,
        waterfall=waterfall,
        diagnostics=timeline.diagnostics,
        took=max(ended - deployment.started, 0),
    )


PAGE = Page(path="compare", template="compare.html", load=load)
