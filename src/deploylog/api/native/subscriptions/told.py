"""The JSON of who was told of a deployment; pure."""

from collections.abc import Sequence

import msgspec

from deploylog.api.native.subscriptions.wire import KindName
from deploylog.events.times import Time, render_time
from deploylog.subscriptions.store import Told
from deploylog.subscriptions.subscription import Result, Subscription


class ToldBody(msgspec.Struct, frozen=True, kw_only=True):
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


class ToldList(msgspec.Struct, frozen=True):
    """Who was told of a deployment; who was told first comes first."""

    deliveries: list[ToldBody]


def render_told(told: Sequence[tuple[Subscription, Told]]) -> ToldList:
    """Who was told of a deployment."""
    return ToldList([_told(subscription, each) for subscription, each in told])


def _told(subscription: Subscription, told: Told) -> ToldBody:
    return ToldBody(
        subscription=subscription.id,
        name=subscription.name,
        kind=subscription.kind,
        target=subscription.shown,
        owner=subscription.owner.name,
        events=told.events,
        delivered=told.delivered,
        first=render_time(told.first),
        last=render_time(told.last),
        result=told.result,
        status=told.status,
        error=told.error,
    )
