"""The sender for Slack's incoming webhooks, which cannot edit what they have posted."""

from collections.abc import Sequence

import msgspec

from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds.kind import SenderParts, notice_of
from deploylog.subscriptions.delivery.kinds.notice_sender import send_all
from deploylog.subscriptions.delivery.kinds.slack.messages import (
    STORM,
    Payload,
    deployment_payload,
    event_payload,
    events_payload,
    with_sender,
)
from deploylog.subscriptions.delivery.kinds.slack.responses import classify_webhook_response
from deploylog.subscriptions.delivery.outcome import Outcome, Request
from deploylog.subscriptions.delivery.sender import JSON_HEADERS, Context, with_type_names
from deploylog.subscriptions.subscription import Endpoint, Subscription

#: Events that one digest may sum up.
MAX_DIGEST_EVENTS = 500


class SlackWebhookSender:
    """Posts one message for the start or end of a deployment, and for any other event.

    Many events become one digest.
    """

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts

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
        payload = await self._payload(subscription, events, context.now)
        body = msgspec.json.encode(with_sender(payload, endpoint))
        request = Request(url=endpoint.url, headers=JSON_HEADERS, body=body)
        return await send_all(self._parts, [request], endpoint, (), classify_webhook_response)

    async def _payload(
        self, subscription: Subscription, events: Sequence[Event], now: int
    ) -> Payload:
        named = with_type_names(events, subscription, self._parts.type_names)
        if len(events) > 1:
            return events_payload(named)
        notice = await notice_of(self._parts, subscription, events[0])
        if notice.lifecycle is not None:
            return deployment_payload(notice.lifecycle, now=now, url=notice.url)
        return event_payload(named[0], notice.deployment)
