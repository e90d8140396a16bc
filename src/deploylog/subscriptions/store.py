"""The contracts for subscriptions and their deliveries."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import msgspec

from deploylog.errors import Conflict
from deploylog.events.scope import Scope
from deploylog.subscriptions.subscription import (
    Attempt,
    Delivery,
    Message,
    Pending,
    Result,
    Subscription,
)


def name_taken(subscription: Subscription) -> Conflict:
    """The error about a name that another subscription of the owner has."""
    return Conflict(f"you have a subscription {subscription.name!r} already")


class Subscriptions(Protocol):
    """Subscriptions, in collections or alone.

    The names of those alone are unique for an owner.
    """

    async def add(self, subscription: Subscription) -> None:
        """Store a new subscription. Raises Conflict when its id or its name is taken."""
        ...

    async def get(self, id: str) -> Subscription:
        """The subscription with this id. Raises SubscriptionNotFound."""
        ...

    async def list(self) -> list[Subscription]:
        """All subscriptions, oldest first."""
        ...

    async def change(self, subscription: Subscription) -> Subscription:
        """Replace the subscription with this id, and return it with its new ``version``.

        The checkpoint and pending events stay. Raises SubscriptionNotFound, or Conflict when
        the subscription has changed since this version, or its new name is taken.
        """
        ...

    async def replace(self, collection: str, subscriptions: Sequence[Subscription]) -> None:
        """Make these the subscriptions of the collection: add new ones and delete the others.

        A subscription whose id is in the collection is changed as by ``change``, if it differs.
        Raises Conflict when an id is used outside the collection.
        """
        ...

    async def delete(self, id: str) -> None:
        """Delete the subscription and all its deliveries. Raises SubscriptionNotFound."""
        ...


class RecordedAttempt(Attempt, frozen=True, kw_only=True):
    """An attempt with its number, which rises in the order of recording."""

    number: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a subscription that were not delivered yet, counted."""

    #: Events that will be retried, and those that will not.
    pending: int = 0
    dead_lettered: int = 0
    #: When the next retry is due, in ns since 1970.
    due: int | None = None


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription's endpoint was sent of some events."""

    #: Its id.
    subscription: str
    #: Events that were tried, and those of them that were delivered.
    events: int
    delivered: int
    #: When the first attempt and the last one were made, in ns since 1970.
    first: int
    last: int
    #: How the last one ended; see ``Attempt``.
    result: Result
    status: int | None
    error: str | None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a process holds, oldest first, and how many of those that deliver are its share.

    It gives up what it holds beyond that, once it has no request in flight.
    """

    held: Sequence[Subscription]
    share: int


def fair_share(total: int, holders: Iterable[str], holder: str) -> int:
    """The share of ``holder`` in ``total``: those of all holders add up to it."""
    ordered = sorted(holders)
    each, rest = divmod(total, len(ordered))
    return each + (ordered.index(holder) < rest)


class OneEvent(msgspec.Struct, frozen=True):
    """The event at this position, whether it was sent before or not."""

    position: int


class DeadLetters(msgspec.Struct, frozen=True):
    """The dead letters that were first tried at this time (ns) or later."""

    since: int


#: Which events to redeliver.
Selector = OneEvent | DeadLetters


class Deliveries(Protocol):
    """Attempts, pending events and leases of subscriptions.

    Several processes may deliver from a store. One at a time *holds* the lease of a subscription.
    """

    async def claim(self, holder: str, *, now: int, until: int) -> Claim:
        """Lease subscriptions to ``holder`` until ``until`` (ns), and return them: those that it
        held, and of those that no process holds at ``now`` as many as its share allows.

        The holders that claimed at most a lease ago have equal shares.
        """
        ...

    async def release(self, holder: str, ids: Collection[str] | None = None) -> None:
        """Give up the leases of ``holder`` on these; without ``ids`` on all, and its share."""
        ...

    async def record(
        self, holder: str, deliveries: Sequence[Delivery], *, now: int
    ) -> frozenset[str]:
        """Record deliveries with the checkpoints, durably.

        Return the ids of the subscriptions that ``holder`` does not hold at ``now``: their
        deliveries are not recorded.
        """
        ...

    async def pending(self, subscription: str) -> list[Pending]:
        """The events to retry, in the order of the log."""
        ...

    async def dead_letters(
        self, subscription: str, *, after: int = 0, limit: int = 100
    ) -> list[Pending]:
        """The dead letters after a position, in the order of the log."""
        ...

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        """The attempts with numbers below ``before``, newest first."""
        ...

    async def summaries(self, positions: Sequence[int]) -> list[DeliverySummary]:
        """What each subscription was sent of the events at these positions, first attempt first."""
        ...

    async def redeliver(self, subscription: str, selector: Selector) -> int:
        """Send the selected events again, at once and in their order; return how many.

        Raises SubscriptionNotFound.
        """
        ...

    async def retry_now(self, subscription: str) -> None:
        """Make what is pending due, and raise the version if that or the state calls for it.

        The process that holds the subscription then starts again, and sends at once.
        """
        ...

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        """The Slack message about a deployment, if one was posted."""
        ...

    async def backlogs(self, subscription: str | None = None) -> dict[str, Backlog]:
        """Backlogs by subscription, or only that of ``subscription``. Empty ones are left out."""
        ...

    async def delete_before(self, started: int) -> int:
        """Delete the attempts that were made before this time (ns); return how many."""
        ...
