"""The rows of subscriptions and their deliveries, which are alike in every backend."""

from typing import Any

import msgspec

from deploylog.errors import SubscriptionNotFound
from deploylog.events.filters import Filter
from deploylog.subscriptions.places import Places
from deploylog.subscriptions.store import DeliverySummary, RecordedAttempt
from deploylog.subscriptions.subscription import Owner, Pending, SigningSecret, Subscription

COLUMNS = (
    "id", "name", "kind", "format", "filter", "places", "order", "state", "reason", "owner",
    "target", "shown", "secrets", "created", "collection", "version", "checkpoint",
    "failing_since",
)  # fmt: skip

NAMES = ", ".join(f'"{column}"' for column in COLUMNS)

#: Columns that a change sets.
CHANGED = tuple(
    column for column in COLUMNS if column not in ("id", "created", "version", "checkpoint")
)

SELECT = f"SELECT {NAMES} FROM subscriptions"


def subscription_of(row: tuple[Any, ...]) -> Subscription:
    """The subscription in a row of ``SELECT``."""
    values = dict(zip(COLUMNS, row, strict=True))
    return Subscription(
        **values
        | {
            "filter": msgspec.json.decode(values["filter"], type=Filter),
            "places": msgspec.json.decode(values["places"], type=Places),
            "owner": msgspec.json.decode(values["owner"], type=Owner),
            "secrets": msgspec.json.decode(values["secrets"], type=tuple[SigningSecret, ...]),
        }
    )


def values_of(subscription: Subscription) -> dict[str, Any]:
    """The values of ``COLUMNS``."""
    values: dict[str, Any] = msgspec.structs.asdict(subscription)
    for column in ("filter", "places", "owner", "secrets"):
        values[column] = msgspec.json.encode(values[column]).decode()
    return values


def differ(one: Subscription, other: Subscription) -> bool:
    """Whether a change from one to the other sets anything."""
    return any(getattr(one, column) != getattr(other, column) for column in CHANGED)


def not_found(id: str) -> SubscriptionNotFound:
    """The error of an id that no subscription has."""
    return SubscriptionNotFound(f"there is no subscription with the id {id[:64]!r}")


def pending_of(row: tuple[Any, ...]) -> Pending:
    """The pending event in a row."""
    position, lane, tries, first, due, dead_lettered, error = row
    return Pending(
        position=position,
        lane=lane,
        tries=tries,
        first=first,
        due=due,
        dead_lettered=bool(dead_lettered),
        error=error,
    )


def attempt_of(row: tuple[Any, ...]) -> RecordedAttempt:
    """The attempt in a row."""
    number, position, event, started, latency, result, status, error, response, request, due = row
    return RecordedAttempt(
        number=number,
        position=position,
        event=event,
        started=started,
        latency=latency,
        result=result,
        status=status,
        error=error,
        response=response,
        request=request,
        due=due,
    )


def summary_of(row: tuple[Any, ...]) -> DeliverySummary:
    """The summary in a row."""
    id, events, delivered, first, last, result, status, error = row
    return DeliverySummary(
        subscription=id,
        events=events,
        delivered=delivered,
        first=first,
        last=last,
        result=result,
        status=status,
        error=error,
    )
