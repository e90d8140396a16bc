"""Requests, responses, and what a response means for the events of its request."""

from typing import Literal

import msgspec

from deploylog.subscriptions.subscription import Message


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP POST. Its URL and headers may contain secrets."""

    url: str
    headers: dict[str, str]
    body: bytes


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


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with the events of a request.

    ``delivered``: nothing more. ``retry``: retry by the schedule. ``dead_letter``: give them up,
    since the receiver will never accept them. ``disable``: also stop the subscription.
    """

    result: Literal["delivered", "retry", "dead_letter", "disable"]
    response: Response
    #: What went wrong; ``None`` when nothing did.
    error: str | None = None
    #: The Slack messages that the request posted.
    messages: tuple[Message, ...] = ()


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
