"""Senders: how the events of one request reach a webhook, and Slack."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from deploylog import __version__
from deploylog.delivery.answers import judge_receiver, judge_webhook
from deploylog.delivery.http import Poster
from deploylog.delivery.signing import signature_headers
from deploylog.delivery.slack import STORM, events_payload, with_sender
from deploylog.delivery.verdict import Answer, Outgoing, Verdict
from deploylog.errors import InvalidEvent
from deploylog.events import Event
from deploylog.subscriptions import Format, Subscription, Target

USER_AGENT = f"deploylog/{__version__}"

#: Of a request to Slack.
JSON_HEADERS = {"content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT}

#: The most events of one digest.
MOST_IN_A_DIGEST = 500

#: An event's media type, and its bytes; raises InvalidEvent when it has none.
Render = Callable[[Event], tuple[str, bytes]]

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
        target: Target,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Verdict:
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


class WebhookSender:
    """One event a request, signed as Standard Webhooks asks for."""

    def __init__(
        self,
        poster: Poster,
        render: Mapping[Format, Render],
        events_url: Callable[[Subscription, Event], str],
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """``events_url`` is where a receiver reads what it missed; ``clock`` gives ns."""
        self._clock = clock
        self._poster = poster
        self._render = render
        self._events_url = events_url

    def fold(self, waiting: int) -> int:
        """See ``Sender``."""
        return 1

    async def send(
        self,
        subscription: Subscription,
        target: Target,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Verdict:
        """See ``Sender``."""
        [event] = events
        try:
            media_type, body = self._render[subscription.format](event)
        except InvalidEvent as error:
            # It was kept while the subscription had another format.
            return Verdict(result="dead_letter", answer=Answer(), error=error.message)
        headers = {
            "content-type": media_type,
            "user-agent": USER_AGENT,
            "deploylog-subscription": subscription.id,
            "deploylog-events-url": self._events_url(subscription, event),
            **_place_headers(event, context),
        }
        return judge_receiver(
            await self._poster.post(
                Outgoing(url=target.url, headers=headers, body=body),
                sign=lambda: signature_headers(event.id, self._clock(), body, secrets),
            )
        )


def _place_headers(event: Event, context: Context) -> dict[str, str]:
    """Where the event stands among those that the receiver is sent."""
    headers = {"deploylog-position": str(event.position)}
    if context.previous is not None:
        headers["deploylog-previous-id"] = context.previous
    if context.previous_position is not None:
        headers["deploylog-previous-position"] = str(context.previous_position)
    if context.gap is not None:
        after, floor = context.gap
        headers["deploylog-gap"] = f"{after + 1}-{floor}"
    return headers


class SlackWebhookSender:
    """A message an event; in a storm one for many."""

    def __init__(self, poster: Poster, names: TypeNames | None = None) -> None:
        """Post with ``poster``."""
        self._poster = poster
        self._names = names or {}

    def fold(self, waiting: int) -> int:
        """See ``Sender``."""
        return min(waiting, MOST_IN_A_DIGEST) if waiting > STORM else 1

    async def send(
        self,
        subscription: Subscription,
        target: Target,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Verdict:
        """See ``Sender``."""
        named = with_type_names(events, subscription, self._names)
        body = msgspec.json.encode(with_sender(events_payload(named), target))
        outgoing = Outgoing(url=target.url, headers=JSON_HEADERS, body=body)
        return judge_webhook(await self._poster.post(outgoing))
