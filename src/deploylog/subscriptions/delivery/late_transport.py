"""A transport that opens when the first request is sent: most services start without one."""

import asyncio
from collections.abc import Awaitable, Callable

from deploylog.subscriptions.delivery.outcome import Request, Response, Transport
from deploylog.subscriptions.subscription import MAX_RESPONSE_BYTES


class LateTransport:
    """Sends as the transport does that ``open_transport`` opens, once."""

    def __init__(self, open_transport: Callable[[], Awaitable[Transport]]) -> None:
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._opening = asyncio.Lock()

    async def send(
        self,
        request: Request,
        *,
        sign: Callable[[], dict[str, str]] = dict,
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> Response:
        """See ``Transport.send``."""
        transport = self._transport or await self._opened()
        return await transport.send(request, sign=sign, max_bytes=max_bytes)

    async def _opened(self) -> Transport:
        async with self._opening:
            if self._transport is None:
                self._transport = await self._open_transport()
            return self._transport
