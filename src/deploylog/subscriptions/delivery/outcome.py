"""Outcomes: what an answer, or the lack of one, means for the events of a request."""

from typing import Literal

import msgspec

from deploylog.subscriptions.subscription import Message


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP POST that is about to be sent. Its address and headers may be secret."""

    url: str
    headers: dict[str, str]
    body: bytes


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, or why nothing did."""

    #: HTTP status; ``None`` when there was no whole answer.
    status: int | None = None
    #: The first bytes of the body, at most ``MAX_RESPONSE_BYTES``.
    body: bytes = b""
    #: Seconds that the receiver asks to be left alone.
    retry_after: float | None = None
    #: Why there is no answer, without anything secret.
    error: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with the events of a request.

    ``delivered``: they arrived. ``retry``: by the schedule. ``dead_letter``: these will never be
    taken. ``disable``: the receiver wants no more, ever.
    """

    result: Literal["delivered", "retry", "dead_letter", "disable"]
    answer: Response
    #: What is wrong, in words; ``None`` when nothing is.
    error: str | None = None
    #: Slack messages that were posted.
    messages: tuple[Message, ...] = ()


def classify_receiver_response(answer: Response) -> Outcome:
    """Of a receiver of webhooks (Standard Webhooks 1.0): 2xx took it, 410 wants no more."""
    match answer.status:
        case None:
            return Outcome(result="retry", answer=answer, error=answer.error)
        case status if 200 <= status < 300:
            return Outcome(result="delivered", answer=answer)
        case 410:
            return Outcome(result="disable", answer=answer, error="the receiver wants no more: 410")
        case status if 300 <= status < 400:
            error = f"the receiver answers {status}; redirects are not followed"
            return Outcome(result="retry", answer=answer, error=error)
        case status:
            error = f"the receiver answers {status}"
            return Outcome(result="retry", answer=answer, error=error)
