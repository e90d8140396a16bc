"""Refusals: why a request is refused before it is complete, and what its client is told."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

#: Seconds between two log lines about refused requests.
REPORT_SECONDS = 60.0

Reason = Literal[
    "malformed",
    "target_length",
    "header_length",
    "header_count",
    "header_timeout",
    "body_timeout",
    "body_discarded",
    "pipelined",
    "evicted",
    "connections",
    "connections_per_address",
]

#: The response to each refusal; refusals without one close the connection.
RESPONSES: dict[Reason, tuple[int, str]] = {
    "malformed": (400, "Invalid HTTP request received."),
    "target_length": (414, "The request target is too long."),
    "header_length": (431, "The request headers are too long."),
    "header_count": (431, "The request has too many headers."),
    "header_timeout": (408, "The request headers did not arrive in time."),
    "body_timeout": (408, "The request body did not arrive in time."),
    "connections": (503, "Too many connections."),
    "connections_per_address": (503, "Too many connections from this address."),
}

_LOGGER = logging.getLogger(__name__)


class Refusal(Exception):
    """Stops the parsing of a request; never leaves its connection."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Refusals:
    """Counts refusals; the log gets one line a minute, not one for each."""

    def __init__(self, refused: Callable[[str], None]) -> None:
        """``refused`` counts them by reason, too."""
        self._refused = refused
        self._counts: Counter[str] = Counter()
        self._report_due = 0.0

    def add(self, reason: Reason) -> None:
        self._counts[reason] += 1
        self._refused(reason)

    def report(self, now: float) -> None:
        """Log what was counted, if that is due."""
        if self._counts and now >= self._report_due:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self._counts.items()))
            _LOGGER.warning("refused before a request was complete: %s", counts)
            self._counts.clear()
            self._report_due = now + REPORT_SECONDS


def render_refusal(status: int, message: str) -> bytes:
    """The response, after which the connection closes."""
    text = message.encode()
    head = (
        f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + text
