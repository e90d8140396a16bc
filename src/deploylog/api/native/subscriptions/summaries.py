"""The JSON of what subscriptions were sent of a deployment; pure."""

from collections.abc import Sequence

import msgspec

from deploylog.api.native.subscriptions.wire import KindName
from deploylog.events.times import Time, render_time
from deploylog.subscriptions.store import DeliverySummary
from deploylog.subscriptions.subscription import Result, Subscription


class DeliverySummaryBody(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription, and what its endpoint was sent of a deployment."""

    #: Its id.
    subscription: str
    name: str
    kind: KindName
    #: Redacted.
    target: str
    #: The owner's name.
    owner: str
    #: Events that were tried, and those of them that were delivered.
    events: int
    delivered: int
    #: The times of the first and of the last attempt, and how the last one ended.
    first: Time
    last: Time
    result: Result
    status: int | None
    error: str | None


class DeliverySummaryList(msgspec.Struct, frozen=True):
    """What subscriptions were sent of a deployment, the first to be sent something first."""

    deliveries: list[DeliverySummaryBody]


def render_summaries(
    summaries: Sequence[tuple[Subscription, DeliverySummary]],
) -> DeliverySummaryList:
    """The summaries of a deployment."""
    return DeliverySummaryList([_summary(subscription, each) for subscription, each in summaries])


def _summary(subscription: Subscription, summary: DeliverySummary) -> DeliverySummaryBody:
    return DeliverySummaryBody(
        subscription=subscription.id,
        name=subscription.name,
        kind=subscription.kind,
        target=subscription.shown,
        owner=subscription.owner.name,
        events=summary.events,
        delivered=summary.delivered,
        first=render_time(summary.first),
        last=render_time(summary.last),
        result=summary.result,
        status=summary.status,
        error=summary.error,
    )
