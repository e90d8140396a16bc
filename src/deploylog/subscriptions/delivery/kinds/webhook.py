"""Webhooks: each event as it is, signed by Standard Webhooks."""

import re

import msgspec

from deploylog.auth.standard_webhooks import signature_headers
from deploylog.errors import InvalidEvent
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event, NewEvent, size_of
from deploylog.subscriptions.delivery.kinds.kind import (
    EndpointKind,
    SenderParts,
    one_sender,
)
from deploylog.subscriptions.delivery.outcome import (
    Outcome,
    Request,
    Response,
    classify_receiver_response,
)
from deploylog.subscriptions.delivery.sender import USER_AGENT, OutgoingBatch
from deploylog.subscriptions.subscription import Format

#: The approximate size of the bodies that are remembered.
BODIES_BYTES = 4 * 1024 * 1024


class _Body(msgspec.Struct, frozen=True):
    """An event as it was rendered."""

    event: Event
    media_type: str
    body: bytes


def _size(body: _Body) -> int:
    return size_of(body.event) + len(body.body)


class WebhookSender:
    """Sends one event per request, signed by Standard Webhooks."""

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts
        self._bodies = BoundedMap[tuple[str, Format], _Body](BODIES_BYTES, weigh=_size)

    def _rendered(self, event: Event, format: Format) -> tuple[str, bytes]:
        """The event's media type and body, rendered once for the subscriptions of a format."""
        known = self._bodies.get((event.id, format))
        if known is not None and known.event == event:
            return known.media_type, known.body
        media_type, body = self._parts.formats[format](event)
        self._bodies.put((event.id, format), _Body(event, media_type, body))
        return media_type, body

    async def send(self, batch: OutgoingBatch) -> Outcome:
        event, subscription = batch.event, batch.subscription
        try:
            media_type, body = self._rendered(event, subscription.format)
        except InvalidEvent as error:
            # The event became pending while the subscription had another format.
            return Outcome(result="dead_letter", response=Response(), error=error.message)
        headers = {
            "content-type": media_type,
            "user-agent": USER_AGENT,
            "deploylog-subscription": subscription.id,
            "deploylog-events-url": self._parts.events_url(subscription, event),
            **_order_headers(batch),
            **trace_headers(event),
        }
        return classify_receiver_response(
            await self._parts.transport.send(
                Request(url=batch.endpoint.url, headers=headers, body=body),
                sign=lambda: signature_headers(event.id, self._parts.clock(), body, batch.secrets),
            )
        )


def _order_headers(batch: OutgoingBatch) -> dict[str, str]:
    """The place of the event among those that the receiver gets."""
    headers = {"deploylog-position": str(batch.event.position)}
    if batch.previous is not None:
        headers["deploylog-previous-id"] = batch.previous.id
        headers["deploylog-previous-position"] = str(batch.previous.position)
    if batch.gap is not None:
        after, floor = batch.gap
        headers["deploylog-gap"] = f"{after + 1}-{floor}"
    return headers


class _Traced(msgspec.Struct):
    """The CloudEvents extension for distributed tracing."""

    traceparent: object = None
    tracestate: object = None


#: A trace context; anything else in its place is kept in the event, and is no header.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[ -~]{1,512}")


def trace_headers(event: NewEvent) -> dict[str, str]:
    """The trace that the producer named, as W3C's headers: the receiver's spans belong to it."""
    if event.extensions is None:
        return {}
    traced = msgspec.json.decode(event.extensions, type=_Traced)
    parent, state = traced.traceparent, traced.tracestate
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return {}
    headers = {"traceparent": parent}
    if isinstance(state, str) and _TRACESTATE.fullmatch(state):
        headers["tracestate"] = state
    return headers


WEBHOOK = EndpointKind(
    name="webhook",
    title="Signed webhooks",
    required=("url",),
    is_signed=True,
    open_senders=one_sender(lambda parts: WebhookSender(parts).send),
)
