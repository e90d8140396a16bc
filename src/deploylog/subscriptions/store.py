"""What is kept of subscriptions and their deliveries."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from deploylog.events.scope import Scope
from deploylog.subscriptions.subscription import Attempt, Delivery, Message, Pending, Subscription


class Subscriptions(Protocol):
    """The subscriptions."""

    async def add(self, subscription: Subscription) -> None:
        """Keep a new one; raises Conflict when there is one of this id."""
        ...

    async def get(self, id: str) -> Subscription:
        """The subscription; raises SubscriptionNotFound."""
        ...

    async def list(self) -> list[Subscription]:
        """Every one, oldest first."""
        ...

    async def change(self, subscription: Subscription) -> Subscription:
        """Keep it instead of what is kept under its id, and return it with its new ``version``.

        Checkpoint and what is pending stay as they are. Raises SubscriptionNotFound, or Conflict
        when somebody else has changed it since this version.
        """
        ...

    async def replace(self, collection: str, subscriptions: Sequence[Subscription]) -> None:
        """Let these be all that the collection holds: others of it go, new ones are added.

        One that is there already under its id is changed as ``change`` does it, if it differs.
        Raises Conflict when an id is used outside the collection.
        """
        ...

    async def delete(self, id: str) -> None:
        """Forget it, and all that is kept of its deliveries; raises SubscriptionNotFound."""
        ...


class RecordedAttempt(Attempt, frozen=True, kw_only=True):
    """An attempt with its place among all."""

    number: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription's deliveries are going."""

    #: Events that are tried again, and those that were given up.
    pending: int = 0
    dead_lettered: int = 0
    #: When the next of them is tried, in ns since 1970.
    due: int | None = None


class OneEvent(msgspec.Struct, frozen=True):
    """The event at this position, whether it was sent before or not."""

    position: int


class DeadLetters(msgspec.Struct, frozen=True):
    """The dead letters that were first tried at this time (ns) or later."""

    since: int


#: Which events to redeliver.
Selector = OneEvent | DeadLetters


class Deliveries(Protocol):
    """What became of the events that subscriptions ask for.

    Of all the processes that deliver from a store, one at a time *holds* a subscription.
    """

    async def claim(self, holder: str, *, now: int, until: int) -> list[Subscription]:
        """The subscriptions that ``holder`` holds ``until`` then (ns): those that it held, and
        those that nobody holds at ``now``.
        """
        ...

    async def release(self, holder: str) -> None:
        """Let others hold what ``holder`` did."""
        ...

    async def record(
        self, holder: str, deliveries: Sequence[Delivery], *, now: int
    ) -> frozenset[str]:
        """Record what became of requests, durably, with the checkpoints, and return the ids of
        those subscriptions that ``holder`` does not hold at ``now``: nothing of theirs is recorded.
        """
        ...

    async def pending(self, subscription: str) -> list[Pending]:
        """What is to be tried again, in the order of the log."""
        ...

    async def dead_letters(
        self, subscription: str, *, after: int = 0, limit: int = 100
    ) -> list[Pending]:
        """What was given up, in the order of the log, after a position."""
        ...

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        """The attempts, newest first, those numbered below ``before``."""
        ...

    async def redeliver(self, subscription: str, selector: Selector) -> int:
        """Send the selected events again, at once and in their order; return how many.

        Raises SubscriptionNotFound.
        """
        ...

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        """The Slack message that stands for a deployment, if one was posted."""
        ...

    async def backlogs(self, subscription: str | None = None) -> dict[str, Backlog]:
        """Backlogs by subscription, or only that of ``subscription``. Empty ones are left out."""
        ...

    async def delete_before(self, started: int) -> int:
        """Delete the attempts that were made before this time (ns); return how many."""
        ...
