"""Senders: how the events of one request reach a webhook, and Slack."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from deploylog import __version__
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.subscription import Endpoint, Format, Subscription

USER_AGENT = f"deploylog/{__version__}"

#: Of a request to Slack.
JSON_HEADERS = {"content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT}


#: An event's type as a format calls it.
NameType = Callable[[str], str]

#: By the formats that have names of their own for types.
TypeNames = Mapping[Format, NameType]


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a request tells beside its events."""

    #: ns since 1970.
    now: int
    #: Id and position of the event before the first of these, in their lane.
    previous: str | None = None
    previous_position: int | None = None
    #: As ``hub.Gap``: events after the first position, up to the second, that nobody can have.
    gap: tuple[int, int] | None = None


class Sender(Protocol):
    """Sends to one kind of target."""

    def fold(self, waiting: int) -> int:
        """How many of the events that wait in a lane go into one request, at least one."""
        ...

    async def send(
        self,
        subscription: Subscription,
        target: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        """Send the events, one at least, in one request if it can be; say what became of them.

        Raises nothing but what rendering and the store raise.
        """
        ...


def with_type_names(
    events: Sequence[Event], subscription: Subscription, names: TypeNames
) -> list[Event]:
    """The events with their types as the subscription's format calls them."""
    name = names.get(subscription.format, str)
    return [msgspec.structs.replace(event, type=name(event.type)) for event in events]
