"""The request that a user's template makes of an event."""

from typing import Any

import msgspec

from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds.kind import Notice, SenderParts, TemplateFailed
from deploylog.subscriptions.delivery.outcome import Request
from deploylog.subscriptions.delivery.sender import JSON_HEADERS
from deploylog.subscriptions.subscription import Endpoint, Subscription


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
