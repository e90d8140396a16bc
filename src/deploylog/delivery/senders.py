"""Senders: one for each way to deliver."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from deploylog.delivery.verdict import Verdict
from deploylog.events import Event
from deploylog.subscriptions import Subscription, Target


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of the events around its own."""

    #: ns since 1970.
    now: int
    #: Id and position of the event before the first one, in its lane.
    previous: str | None = None
    previous_position: int | None = None
    #: Positions, both exclusive, between which events are no longer retained.
    gap: tuple[int, int] | None = None


class Sender(Protocol):
    """One way to deliver."""

    def fold(self, waiting: int) -> int:
        """How many of the events that wait in one lane go into one request."""
        ...

    async def send(
        self,
        subscription: Subscription,
        target: Target,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Verdict:
        """Deliver events of one lane in one request."""
        ...
