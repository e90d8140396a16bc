"""Forwarding: events, sent as webhooks to a server that the user develops."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from deploylog.client.connection import reason_of
from deploylog.client.transport import NotHttp, Timeouts, Transport, open_transport
from deploylog.errors import OperatorError

#: As a delivery has: seconds for the whole answer, and for the connection.
_TIMEOUTS = Timeouts(total=10)

_MEDIA_TYPE = "application/cloudevents+json"

#: Returns the headers that sign a body; the first argument is the event's id.
Sign = Callable[[str, bytes], dict[str, str]]


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event."""

    #: ``None`` without an answer.
    status: int | None
    error: str | None
    latency_ms: int


class Forwarder:
    """Sends events to one URL; ``open_forwarder`` opens one."""

    def __init__(self, transport: Transport, sign: Sign) -> None:
        self._transport = transport
        self._sign = sign

    async def forward(self, id: str, body: bytes) -> Forwarded:
        """Send one event; raises nothing, whatever the server does."""
        started, status, error = time.monotonic(), None, None
        headers = {"content-type": _MEDIA_TYPE, **self._sign(id, body)}
        try:
            async with self._transport.request(
                "POST", "", headers=headers, body=body, timeouts=_TIMEOUTS
            ) as response:
                await response.read()
                status = response.status
        except TimeoutError:
            error = "no answer within 10 s"
        except (NotHttp, OSError) as failure:
            error = reason_of(failure)
        return Forwarded(
            status=status, error=error, latency_ms=int((time.monotonic() - started) * 1000)
        )


@asynccontextmanager
async def open_forwarder(url: str, sign: Sign) -> AsyncIterator[Forwarder]:
    """Open a forwarder to ``url``."""
    async with open_transport(url) as transport:
        yield Forwarder(transport, sign)


def parse_target(text: str) -> str:
    """The URL of ``9000``, ``localhost:9000/hook`` or a URL; raises OperatorError."""
    with_host = f"localhost:{text}" if text.isascii() and text.isdigit() else text
    url = with_host if "://" in with_host else f"http://{with_host}"
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise OperatorError(f"{text!r} is not an address, such as localhost:9000/hook")
    return url
