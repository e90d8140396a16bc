"""The sender of most kinds: it sends what a pure renderer makes of an event."""

from collections.abc import Callable, Sequence

import msgspec

from deploylog.auth.standard_webhooks import signature_headers
from deploylog.errors import InvalidEvent
from deploylog.events.event import Event
from deploylog.subscriptions.delivery.kinds.kind import Notice, SenderParts, notice_of
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response
from deploylog.subscriptions.delivery.sender import Context
from deploylog.subscriptions.subscription import MAX_REQUEST_BYTES, Endpoint, Subscription

#: Makes the requests about an event, at least one; raises InvalidEvent for one that has none.
RenderNotice = Callable[[Endpoint, Notice], Sequence[Request]]

Classify = Callable[[Response], Outcome]


class NoticeSender:
    """Sends the requests about one event, in their order, until one fails."""

    def __init__(self, parts: SenderParts, render: RenderNotice, classify: Classify) -> None:
        self._parts = parts
        self._render = render
        self._classify = classify

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
        try:
            requests = self._render(endpoint, await notice_of(self._parts, subscription, event))
        except InvalidEvent as error:
            return Outcome(result="dead_letter", response=Response(), error=error.message)
        return await send_all(self._parts, requests, endpoint, secrets, self._classify)


async def send_all(
    parts: SenderParts,
    requests: Sequence[Request],
    endpoint: Endpoint,
    secrets: Sequence[bytes],
    classify: Classify,
) -> Outcome:
    """Send requests until one fails, and return the outcome of the last."""
    for request in requests:
        response = await parts.transport.send(request, sign=_signer(parts, request, secrets))
        outcome = classify(response)
        if outcome.result != "delivered":
            break
    return msgspec.structs.replace(outcome, request=recorded_body(request, endpoint))


def recorded_body(request: Request, endpoint: Endpoint) -> bytes:
    """The start of a request's body, without the endpoint's token."""
    body = request.body
    if endpoint.token:
        body = body.replace(endpoint.token.encode(), "…".encode())
    return body[:MAX_REQUEST_BYTES]


def _signer(
    parts: SenderParts, request: Request, secrets: Sequence[bytes]
) -> Callable[[], dict[str, str]]:
    if not request.id:
        return dict
    return lambda: signature_headers(request.id, parts.clock(), request.body, secrets)
