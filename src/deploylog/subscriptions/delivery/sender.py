"""The contract of senders: how a batch of events reaches an endpoint."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from deploylog import __version__
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.subscription import Endpoint, Format, Subscription

USER_AGENT = f"deploylog/{__version__}"

#: The headers of a request to Slack.
JSON_HEADERS = {"content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT}

#: Returns the name that a format has for an event type.
NameType = Callable[[str], str]

#: The formats with their own names for event types.
TypeNames = Mapping[Format, NameType]


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a request has beside its events."""

    #: ns since 1970.
    now: int
    #: Id and position of the event before the first of these, in the same lane.
    previous_id: str | None = None
    previous_position: int | None = None
    #: As in ``hub.Gap``: events after the first position, up to the second, cannot be delivered.
    gap: tuple[int, int] | None = None


class Sender(Protocol):
    """Sends batches to one kind of endpoint."""

    def batch_size(self, waiting: int) -> int:
        """How many of the events that wait in a lane to send in one request, at least one."""
        ...

    async def send(
        self,
        subscription: Subscription,
        endpoint: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        """Send at least one event, in one request if possible, and return the outcome.

        Raises only what rendering and the store raise.
        """
        ...


def with_type_names(
    events: Sequence[Event], subscription: Subscription, names: TypeNames
) -> list[Event]:
    """The events with the type names of the subscription's format."""
    name = names.get(subscription.format, str)
    return [msgspec.structs.replace(event, type=name(event.type)) for event in events]
