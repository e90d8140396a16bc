"""The sender for Slack's incoming webhooks, which cannot edit what they have posted."""

import msgspec

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
from deploylog.subscriptions.delivery.sender import JSON_HEADERS, OutgoingBatch, with_type_names

#: Events that one digest may sum up.
MAX_DIGEST_EVENTS = 500


def webhook_batch_size(waiting: int) -> int:
    """One event, or the digest of a storm."""
    return min(waiting, MAX_DIGEST_EVENTS) if waiting > STORM else 1


class SlackWebhookSender:
    """Posts one message for the start or end of a deployment, and for any other event.

    Many events become one digest.
    """

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts

    async def send(self, batch: OutgoingBatch) -> Outcome:
        payload = with_sender(await self._payload(batch), batch.endpoint)
        body = msgspec.json.encode(payload)
        request = Request(url=batch.endpoint.url, headers=JSON_HEADERS, body=body)
        return await send_all(self._parts, [request], batch, classify_webhook_response)

    async def _payload(self, batch: OutgoingBatch) -> Payload:
        named = with_type_names(batch.events, batch.subscription, self._parts.type_names)
        if len(named) > 1:
            return events_payload(named)
        notice = await notice_of(self._parts, batch.subscription, batch.event)
        if notice.lifecycle is not None:
            return deployment_payload(notice.lifecycle, now=batch.now, url=notice.url)
        return event_payload(named[0], notice.deployment)
