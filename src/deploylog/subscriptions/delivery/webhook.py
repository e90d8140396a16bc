"""Webhooks: how a batch of events becomes a request."""

import time
from collections.abc import Callable, Mapping, Sequence

from deploylog.errors import InvalidEvent
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.outcome import (
    Outcome,
    Request,
    Response,
    classify_receiver_response,
)
from deploylog.subscriptions.delivery.sender import USER_AGENT, Context
from deploylog.subscriptions.delivery.signing import signature_headers
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint, Format, Subscription

#: An event's media type, and its bytes; raises InvalidEvent when it has none.
Render = Callable[[Event], tuple[str, bytes]]


class WebhookSender:
    """One event a request, signed as Standard Webhooks asks for."""

    def __init__(
        self,
        poster: WebhookTransport,
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
        return 1

    async def send(
        self,
        subscription: Subscription,
        target: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        [event] = events
        try:
            media_type, body = self._render[subscription.format](event)
        except InvalidEvent as error:
            # It was kept while the subscription had another format.
            return Outcome(result="dead_letter", answer=Response(), error=error.message)
        headers = {
            "content-type": media_type,
            "user-agent": USER_AGENT,
            "deploylog-subscription": subscription.id,
            "deploylog-events-url": self._events_url(subscription, event),
            **_place_headers(event, context),
        }
        return classify_receiver_response(
            await self._poster.post(
                Request(url=target.url, headers=headers, body=body),
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
