"""The sender for Slack's incoming webhooks."""

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

#: Events that one digest may sum up.
MAX_DIGEST_EVENTS = 500


class SlackWebhookSender:
    """Posts one message per event, or one digest for many."""

    def __init__(self, transport: WebhookTransport, type_names: TypeNames | None = None) -> None:
        self._transport = transport
        self._type_names = type_names or {}

    def batch_size(self, waiting: int) -> int:
        return min(waiting, MAX_DIGEST_EVENTS) if waiting > STORM else 1

    async def send(
        self,
        subscription: Subscription,
        endpoint: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        named = with_type_names(events, subscription, self._type_names)
        body = msgspec.json.encode(with_sender(events_payload(named), endpoint))
        request = Request(url=endpoint.url, headers=JSON_HEADERS, body=body)
        return classify_webhook_response(await self._transport.post(request))
