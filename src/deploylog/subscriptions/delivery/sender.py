"""The contract of senders: how a batch of events reaches an endpoint."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from deploylog import __version__
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.lanes import EventRef
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.subscription import Endpoint, Format, Subscription

USER_AGENT = f"deploylog/{__version__}"

#: The headers of a request to Slack.
JSON_HEADERS = {"content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT}

#: Returns the name that a format has for an event type.
NameType = Callable[[str], str]

#: The formats with their own names for event types.
TypeNames = Mapping[Format, NameType]


class OutgoingBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender sends: events of one lane, and where they go."""

    subscription: Subscription
    endpoint: Endpoint
    #: They sign the request.
    secrets: tuple[bytes, ...] = ()
    #: In the order of the log, at least one.
    events: tuple[Event, ...]
    #: ns since 1970.
    now: int
    #: The event before the first of these, in the same lane.
    previous: EventRef | None = None
    #: As in ``hub.Gap``: events after the first position, up to the second, cannot be delivered.
    gap: tuple[int, int] | None = None

    @property
    def event(self) -> Event:
        """The only event, for a sender that has no other batches."""
        [event] = self.events
        return event


def one_event(waiting: int) -> int:
    """The size of the batches of most senders."""
    return 1


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Sends batches to one kind of endpoint."""

    #: Sends a batch, in one request if possible. Raises only what rendering and the store raise.
    send: Callable[[OutgoingBatch], Awaitable[Outcome]]
    #: How many of the events that wait in a lane to send in one batch, at least one.
    batch_size: Callable[[int], int] = one_event


def with_type_names(
    events: Sequence[Event], subscription: Subscription, names: TypeNames
) -> list[Event]:
    """The events with the type names of the subscription's format."""
    name = names.get(subscription.format, str)
    return [msgspec.structs.replace(event, type=name(event.type)) for event in events]
