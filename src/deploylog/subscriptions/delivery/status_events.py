"""Status events: what the log records about a subscription."""

from typing import Literal

import msgspec

from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.scope import ROOT, scope
from deploylog.subscriptions.ownership import subject_of
from deploylog.subscriptions.subscription import Subscription

#: ``failing``: deliveries fail, and only probes are sent. ``resumed``: a delivery succeeded again.
#: ``disabled``: nothing is sent until a user resumes the subscription. ``gap``: events were pruned,
#: or are damaged, before they were delivered.
Status = Literal["failing", "resumed", "disabled", "gap"]

#: Scopes of the filter that the event has, beside its own.
_MAX_SCOPES = 15


def status_event(
    subscription: Subscription, status: Status, *, reason: str, time: int, key: str
) -> NewEvent:
    """The event of a status; ``time`` in ns.

    ``key`` distinguishes it from other events of the same status. Only the owner's groups see it:
    others need not know of the subscription.
    """
    scopes = [path for path in subject_of(subscription) if path != ROOT]
    data = {"subscription": subscription.id, "target": subscription.shown, "reason": reason}
    return NewEvent(
        type=f"subscription.{status}",
        source=SOURCE,
        scopes=(scope("subscription", subscription.id), *scopes[:_MAX_SCOPES]),
        time=time,
        producer_id=f"{subscription.id}/{status}/{key}",
        subject=subscription.name,
        groups=subscription.owner.groups,
        message=f"Subscription {subscription.name} to {subscription.shown}: {status}, {reason}",
        data=msgspec.Raw(msgspec.json.encode(data)),
    )
