"""The sender for templates: the body that a user's template makes of an event."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds.kind import Notice, SenderParts, notice_of
from deploylog.subscriptions.delivery.kinds.notice_sender import send_all
from deploylog.subscriptions.delivery.kinds.template.process import TemplateFailed
from deploylog.subscriptions.delivery.outcome import (
    Outcome,
    Request,
    Response,
    classify_receiver_response,
)
from deploylog.subscriptions.delivery.sender import JSON_HEADERS, Context
from deploylog.subscriptions.subscription import Endpoint, Subscription


class TemplateSender:
    """Sends one event per request."""

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts

    def batch_size(self, waiting: int) -> int:
        return 1

    async def send(
        self,
        subscription: Subscription,
        endpoint: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        [event] = events
        notice = await notice_of(self._parts, subscription, event)
        try:
            values = values_of(self._parts, subscription, notice)
            text = await self._parts.render_template(endpoint.template, values)
            request = render(endpoint, event, text)
        except TemplateFailed as error:
            # Retried, since its owner can mend the template.
            return Outcome(result="retry", response=Response(), error=str(error))
        requests = [request]
        return await send_all(self._parts, requests, endpoint, secrets, classify_receiver_response)


def values_of(parts: SenderParts, subscription: Subscription, notice: Notice) -> dict[str, Any]:
    """What a template may use, in the JSON of the native API."""
    deployment = notice.deployment
    _, event = parts.formats["cloudevents"](notice.event)
    return {
        "event": msgspec.json.decode(event),
        "deployment": (
            msgspec.json.decode(parts.render_deployment(deployment)) if deployment else None
        ),
        "subscription": {"id": subscription.id, "name": subscription.name},
        "url": notice.url,
    }


def render(endpoint: Endpoint, event: Event, text: str) -> Request:
    """The request with a rendered body; raises TemplateFailed if that must be JSON and is not."""
    headers = JSON_HEADERS | {name.lower(): value for name, value in endpoint.headers.items()}
    body = text.encode("utf-8", "replace")
    if headers["content-type"].partition(";")[0].strip().endswith("json"):
        _check_json(body)
    return Request(url=endpoint.url, headers=headers, body=body, id=event.id)


def _check_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"template: the text is not JSON: {error}; quote values with | tojson"
        raise TemplateFailed(message) from error
