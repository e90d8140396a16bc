"""*Deployment*: who did what with which outcome, resource by resource."""

import asyncio
from collections.abc import Sequence

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.deployments.catalog import Deployment
from deploylog.events.event import Event
from deploylog.events.times import SECOND
from deploylog.subscriptions.store import DeliverySummary
from deploylog.subscriptions.subscription import Subscription
from deploylog.ui.page import Page, View
from deploylog.ui.timeline import Diagnostic
from deploylog.ui.waterfall import Order, Waterfall, draw

#: How long after its end attempts to deliver it are likely to come; no event tells of them.
_SETTLING = 60 * SECOND

#: Events that the page shows; the others are on the page of events.
_EVENTS = 30


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    deployment: Deployment
    #: The one of the same stack that started before, if there is one.
    previous: Deployment | None
    waterfall: Waterfall
    diagnostics: list[Diagnostic]
    #: Resources that the tool planned to change, and those of them that are done.
    planned: int
    done: int
    #: The newest events.
    events: Sequence[Event]
    #: Whose endpoints were sent events of it.
    deliveries: list[tuple[Subscription, DeliverySummary]]
    order: Order
    #: Whether the axis shows the time of day, and not the time since the start.
    is_clock: bool
    #: Whether more may happen of which no event tells.
    is_running: bool

    @property
    def ended(self) -> int | None:
        return self.deployment.ended


async def load(view: View) -> Shown:
    """The deployment that the path names."""
    parameters = Parameters(view.query)
    order: Order = (
        "slowest" if parameters.choice("order", ("started", "slowest")) == "slowest" else "started"
    )
    is_clock = parameters.choice("axis", ("elapsed", "clock")) == "clock"
    parameters.done()
    services, principal = view.services, view.principal
    deployment = await services.deployments.deployment(principal, view.path["id"])
    (timeline, baseline), previous, summaries = await asyncio.gather(
        services.timelines.get(principal, deployment),
        _previous(view, deployment),
        services.subscriptions.summaries(principal, deployment, shown=_EVENTS),
    )
    waterfall = draw(
        timeline,
        start=deployment.started,
        end=deployment.ended,
        now=view.now,
        order=order,
        baseline=baseline,
    )
    rows = {row.address: row.state for row in waterfall.rows}
    return Shown(
        deployment=deployment,
        previous=previous,
        waterfall=waterfall,
        diagnostics=timeline.diagnostics,
        planned=len(timeline.planned),
        done=sum(rows.get(address) == "completed" for address in timeline.planned),
        events=summaries.newest[:_EVENTS],
        deliveries=summaries.sent,
        order=order,
        is_clock=is_clock,
        is_running=deployment.ended is None or view.now - deployment.ended < _SETTLING,
    )


async def _previous(view: View, deployment: Deployment) -> Deployment | None:
    found = await view.services.deployments.deployments_of(
        view.principal, deployment.stack_id, before=deployment.id, limit=1
    )
    return found[0] if found else None


PAGE = Page(path="deployments/{id}", template="deployment.html", load=load, script="deployment.js")
