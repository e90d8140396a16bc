"""The sender of most kinds: it sends what a renderer makes of an event."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from deploylog.auth.standard_webhooks import signature_headers
from deploylog.errors import InvalidEvent
from deploylog.subscriptions.delivery.kinds.kind import (
    Notice,
    OpenSenders,
    SenderParts,
    TemplateFailed,
    notice_of,
    one_sender,
)
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response
from deploylog.subscriptions.delivery.sender import OutgoingBatch
from deploylog.subscriptions.subscription import MAX_REQUEST_BYTES, Endpoint

#: Makes the requests about an event, at least one; raises InvalidEvent for one that has none, or
#: TemplateFailed.
RenderNotice = Callable[[OutgoingBatch, Notice], Awaitable[Sequence[Request]]]

Classify = Callable[[Response], Outcome]


class NoticeSender:
    """Sends the requests about one event, in their order, until one fails."""

    def __init__(self, parts: SenderParts, render: RenderNotice, classify: Classify) -> None:
        self._parts = parts
        self._render = render
        self._classify = classify

    async def send(self, batch: OutgoingBatch) -> Outcome:
        notice = await notice_of(self._parts, batch.subscription, batch.event)
        try:
            requests = await self._render(batch, notice)
        except InvalidEvent as error:
            return Outcome(result="dead_letter", response=Response(), error=error.message)
        except TemplateFailed as error:
            # Retried, since its owner can mend the template.
            return Outcome(result="retry", response=Response(), error=str(error))
        return await send_all(self._parts, requests, batch, self._classify)


def notice_senders(
    render: Callable[[Endpoint, Notice], Sequence[Request]], classify: Classify
) -> OpenSenders:
    """The senders of a kind that has a pure renderer."""

    async def render_batch(batch: OutgoingBatch, notice: Notice) -> Sequence[Request]:
        return render(batch.endpoint, notice)

    return one_sender(lambda parts: NoticeSender(parts, render_batch, classify).send)


async def send_all(
    parts: SenderParts, requests: Sequence[Request], batch: OutgoingBatch, classify: Classify
) -> Outcome:
    """Send requests until one fails, and return the outcome of the last."""
    for request in requests:
        sign = _signer(parts, request, batch.secrets)
        outcome = classify(await parts.transport.send(request, sign=sign))
        if outcome.result != "delivered":
            break
    return msgspec.structs.replace(outcome, request=recorded_body(request, batch.endpoint))


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
