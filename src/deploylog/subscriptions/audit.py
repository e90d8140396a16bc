"""What the log records of changes to subscriptions: who did what, when, and from where."""

from typing import Literal, get_args

import msgspec

from deploylog.events.access import Principal
from deploylog.events.event import SOURCE, Event, NewEvent
from deploylog.events.scope import scope
from deploylog.subscriptions.subscription import Subscription

#: ``reactivated``: a user resumed it. ``subscription.resumed`` says that its deliveries succeed.
Change = Literal[
    "created", "changed", "paused", "reactivated", "secret_rotated", "redelivered", "deleted"
]

#: The fields that a user changes, by the names that users know.
_FIELDS = {
    "name": "name",
    "format": "format",
    "filter": "filter",
    "places": "names",
    "order": "order",
    "target": "endpoint",
    "owner": "owner",
    "kind": "kind",
}

_TYPES = frozenset(f"subscription.{change}" for change in get_args(Change))


def is_change_of(subscription: Subscription, event: Event) -> bool:
    """Whether the event is a change of this subscription, of which it does not tell.

    It would tell of each redelivery, and of a pause when it goes on.
    """
    return event.type in _TYPES and event.scopes[0] == scope("subscription", subscription.id)


def change_event(
    principal: Principal, subscription: Subscription, change: Change, *, time: int, **facts: object
) -> NewEvent:
    """The event of a change that a principal makes; ``time`` in ns, ``facts`` are more data.

    Who may read the whole log sees it, as with keys.
    """
    data = {
        "subscription": subscription.id,
        "kind": subscription.kind,
        "target": subscription.shown,
        "owner": subscription.owner.name,
        "address": principal.address,
        **facts,
    }
    words = change.replace("_", " ")
    return NewEvent(
        type=f"subscription.{change}",
        source=SOURCE,
        scopes=(scope("subscription", subscription.id),),
        time=time,
        subject=subscription.name,
        actor=principal.name,
        message=f"Subscription {subscription.name} to {subscription.shown}: {words}",
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def changed_fields(before: Subscription, after: Subscription) -> list[str]:
    """What a user changed, by name: values may be secret."""
    return [
        name for field, name in _FIELDS.items() if getattr(before, field) != getattr(after, field)
    ]
