"""Slack's incoming webhooks."""

from collections.abc import Sequence

import msgspec

from deploylog.events.event import Event
from deploylog.subscriptions.delivery.outcome import Outcome, Request
from deploylog.subscriptions.delivery.sender import (
    JSON_HEADERS,
    Context,
    TypeNames,
    with_type_names,
)
from deploylog.subscriptions.delivery.slack.messages import STORM, events_payload, with_sender
from deploylog.subscriptions.delivery.slack.responses import classify_webhook_response
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint, Subscription

#: The most events of one digest.
MOST_IN_A_DIGEST = 500


class SlackWebhookSender:
    """A message an event; in a storm one for many."""

    def __init__(self, poster: WebhookTransport, names: TypeNames | None = None) -> None:
        """Post with ``poster``."""
        self._poster = poster
        self._names = names or {}

    def fold(self, waiting: int) -> int:
        return min(waiting, MOST_IN_A_DIGEST) if waiting > STORM else 1

    async def send(
        self,
        subscription: Subscription,
        target: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        named = with_type_names(events, subscription, self._names)
        body = msgspec.json.encode(with_sender(events_payload(named), target))
        outgoing = Request(url=target.url, headers=JSON_HEADERS, body=body)
        return classify_webhook_response(await self._poster.post(outgoing))
