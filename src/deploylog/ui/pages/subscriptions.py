"""*Subscriptions*: who is called, whether that works, and how far each has got."""

import asyncio

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.subscriptions.service import Standing
from deploylog.subscriptions.store import RecordedAttempt
from deploylog.subscriptions.subscription import Subscription
from deploylog.ui.page import Page, View


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription with its last attempt."""

    standing: Standing
    last: RecordedAttempt | None

    @property
    def subscription(self) -> Subscription:
        return self.standing.subscription


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    rows: tuple[Row, ...]
    #: Whether nothing is on its way.
    is_settled: bool


async def load(view: View) -> Shown:
    """The subscriptions that the person may see, those in trouble first."""
    Parameters(view.query).done()
    found = await view.services.subscriptions.subscriptions(view.principal)
    rows = await asyncio.gather(*(_row(view, each) for each in found))
    return Shown(
        rows=tuple(sorted(rows, key=_trouble)),
        is_settled=all(is_settled(row.standing) for row in rows),
    )


def is_settled(standing: Standing) -> bool:
    """Whether it delivers nothing at the moment."""
    is_behind = standing.lag > 0 or standing.backlog.pending > 0
    return standing.subscription.state != "active" or not is_behind


async def _row(view: View, subscription: Subscription) -> Row:
    service = view.services.subscriptions
    standing, attempts = await asyncio.gather(
        service.standing(subscription),
        service.attempts(view.principal, subscription.id, before=None, limit=1),
    )
    return Row(standing=standing, last=attempts[0] if attempts else None)


def _trouble(row: Row) -> tuple[int, str]:
    states = ("disabled", "failing", "paused", "active")
    return states.index(row.subscription.state), row.subscription.name


PAGE = Page(
    path="subscriptions",
    template="subscriptions.html",
    load=load,
    navigation="Subscriptions",
)
