"""What a worker has to do: a subscription, as its owner sees the log."""

from collections.abc import Sequence

import msgspec

from deploylog.events.access import Visibility
from deploylog.events.event import Event
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT
from deploylog.subscriptions.audit import is_change_of
from deploylog.subscriptions.delivery.sender import Sender
from deploylog.subscriptions.selection import PlaceSelector
from deploylog.subscriptions.subscription import Endpoint, Subscription


class DeliveryJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker delivers, and how."""

    subscription: Subscription
    endpoint: Endpoint
    secrets: tuple[bytes, ...]
    #: What the owner may see.
    visibility: Visibility
    sender: Sender
    #: Whether what an earlier worker left pending is sent at once: a user changed something.
    retries_at_once: bool = False
    #: What the subscription is about by names, within the scopes of its filter.
    places: PlaceSelector | None = None

    @property
    def filter(self) -> StreamFilter:
        """What to read; ``select`` says which of it to deliver."""
        return StreamFilter(scope=ROOT, filter=self.subscription.filter, visibility=self.visibility)

    @property
    def caller(self) -> str:
        """Who reads: the owner shares what a principal may read."""
        return f"{self.subscription.owner.kind}:{self.subscription.owner.id}"

    async def select(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of the events that were read which are of the places of the subscription."""
        others = [event for event in events if not is_change_of(self.subscription, event)]
        return others if self.places is None else await self.places.select(others)
