"""Server-Sent Events: a reader's batches as one endless response (WHATWG HTML, section 9.2)."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

from starlette.types import Receive, Scope, Send

from deploylog.events import Event
from deploylog.hub import Batch, Gap, Reader

#: A comment line: readers ignore it, and proxies see life.
HEARTBEAT = b":\n\n"

#: How long a reader waits before it comes back, in milliseconds.
RETRY = b"retry: 1000\n\n"

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold events back.
    (b"x-accel-buffering", b"no"),
]


class Frames:
    """How a dialect writes what happens on a stream."""

    def __init__(
        self,
        *,
        event: Callable[[Event], bytes],
        gap: Callable[[Gap], bytes],
        heartbeat: bytes = HEARTBEAT,
        opening: bytes = RETRY,
    ) -> None:
        """``event`` and ``gap`` render one whole frame each."""
        self.event = event
        self.gap = gap
        self.heartbeat = heartbeat
        self.opening = opening

    def of(self, batch: Batch) -> bytes:
        """The frames of a batch."""
        if batch.gap is not None:
            return self.gap(batch.gap) + batch.frames(self.event)
        return batch.frames(self.event) if batch.events else self.heartbeat


class EventStream:
    """An ASGI response that follows a reader until it ends or the client goes."""

    def __init__(
        self,
        follow: AbstractContextManager[Reader],
        frames: Frames,
        *,
        gap: Gap | None,
        sent: Callable[[int, int], None],
    ) -> None:
        """``gap`` is told first; ``sent`` is given the events of each batch and its position."""
        self._follow = follow
        self._frames = frames
        self._gap = gap
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        with self._follow as reader:
            # Idle streams send nothing for a while: only ``receive`` tells that the client went.
            gone = asyncio.create_task(_until_gone(receive))
            gone.add_done_callback(lambda _: reader.close())
            try:
                await self._send(reader, send)
            finally:
                gone.cancel()

    async def _send(self, reader: Reader, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        opening = self._frames.opening
        if self._gap is not None:
            opening += self._frames.gap(self._gap)
        await _send_body(send, opening)
        while (batch := await reader.next()) is not None:
            await _send_body(send, self._frames.of(batch))
            self._sent(len(batch.events), reader.position)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
