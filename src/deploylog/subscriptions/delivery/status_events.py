"""Notices: what the log itself says of a subscription."""

from typing import Literal

import msgspec

from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.scope import ROOT, scope
from deploylog.subscriptions.subscription import Subscription

#: ``failing``: nothing arrived for long, and now it is tried now and then. ``resumed``: something
#: arrived. ``disabled``: nothing is sent until somebody resumes it. ``gap``: events were forgotten
#: before they could be sent.
Happening = Literal["failing", "resumed", "disabled", "gap"]


def notice(
    subscription: Subscription, what: Happening, *, why: str, time: int, key: str
) -> NewEvent:
    """The event; ``time`` in ns, ``key`` tells this time from others that the same happened.

    It is for the owner's groups: others need not know of the subscription.
    """
    scopes = [path for path in subscription.filter.scopes if path != ROOT]
    data = {"subscription": subscription.id, "target": subscription.shown, "reason": why}
    return NewEvent(
        type=f"subscription.{what}",
        source=SOURCE,
        scopes=(scope("subscription", subscription.id), *scopes[:15]),
        time=time,
        producer_id=f"{subscription.id}/{what}/{key}",
        subject=subscription.name,
        groups=subscription.owner.groups,
        message=f"Subscription {subscription.name} to {subscription.shown}: {what}, {why}",
        data=msgspec.Raw(msgspec.json.encode(data)),
    )
