"""Requests, responses, and what a response means for the events of its request."""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from deploylog.subscriptions.subscription import MAX_RESPONSE_BYTES, Message

#: Characters of a response that an error shows.
_MAX_EXCERPT = 120


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request. Its URL and headers may contain secrets."""

    method: str = "POST"
    url: str
    headers: dict[str, str]
    body: bytes = b""
    #: What the signature is about; empty: the request is not signed.
    id: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The response, or why there is none."""

    #: HTTP status; ``None`` without a complete response.
    status: int | None = None
    #: The first bytes of the body, at most ``MAX_RESPONSE_BYTES``.
    body: bytes = b""
    #: ``Retry-After``, in seconds.
    retry_after: float | None = None
    #: Why there is no response, without anything secret.
    error: str | None = None


class Transport(Protocol):
    """Sends requests to receivers."""

    async def send(
        self,
        request: Request,
        *,
        sign: Callable[[], dict[str, str]] = dict,
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> Response:
        """Send the request once the receiver's limits allow it.

        ``sign`` returns more headers at that moment: a signature made before the wait may be too
        old after it. At most ``max_bytes`` of the response body are read. Raises nothing, and can
        be cancelled.
        """
        ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the events of a request.

    ``delivered``: nothing more. ``retry``: retry by the schedule. ``dead_letter``: give them up,
    since the receiver will never accept them. ``disable``: also stop the subscription.
    """

    result: Literal["delivered", "retry", "dead_letter", "disable"]
    response: Response
    #: What went wrong; ``None`` when nothing did.
    error: str | None = None
    #: What the request posted for deployments.
    messages: tuple[Message, ...] = ()
    #: The body of the request, without secrets; empty when it is the event itself.
    request: bytes = b""
    #: Whether ``Retry-After`` alone says when to retry.
    is_paced: bool = False


def classify_common(response: Response) -> Outcome | None:
    """The outcome of no response, and of 2xx, which every receiver means alike; else ``None``."""
    if response.status is None:
        return Outcome(result="retry", response=response, error=response.error)
    if 200 <= response.status < 300:
        return Outcome(result="delivered", response=response)
    return None


def classify_receiver_response(response: Response) -> Outcome:
    """Classify by Standard Webhooks 1.0: 410 disables the subscription, others are retried."""
    if outcome := classify_common(response):
        return outcome
    if response.status == 410:
        error = "the receiver responded with 410 Gone"
        return Outcome(result="disable", response=response, error=error)
    error = f"the receiver responded with {response.status}"
    if response.status is not None and 300 <= response.status < 400:
        error += "; redirects are not followed"
    return Outcome(result="retry", response=response, error=error)


def classify_status(
    response: Response, receiver: str, *, disabling: frozenset[int], refusing: frozenset[int]
) -> Outcome:
    """Classify by status: ``disabling`` stops the subscription, ``refusing`` gives the event up.

    ``receiver`` is its name, for users. Any other error is retried.
    """
    if outcome := classify_common(response):
        return outcome
    error = f"{receiver} responded with {response.status}{_excerpt(response.body)}"
    result: Literal["disable", "dead_letter", "retry"] = "retry"
    if response.status in disabling:
        result = "disable"
    elif response.status in refusing:
        result = "dead_letter"
    return Outcome(result=result, response=response, error=error)


def _excerpt(body: bytes) -> str:
    """The start of a response for an error, on one line."""
    text = " ".join(body.decode("utf-8", "replace").split())[:_MAX_EXCERPT]
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return f": {printable}" if printable else ""
