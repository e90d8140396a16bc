"""Server-Sent Events: a reader's batches as one response (WHATWG HTML, section 9.2)."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from starlette.types import Receive, Scope, Send

from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event
from deploylog.events.hub import Batch, Gap

# A blank line ends a block, and some readers (httpx-sse) give their users every block that has a
# field, or follows an id, even without data. So neither of these has one: the next event's block
# takes them in.

#: A comment line: readers ignore it, and proxies see life.
HEARTBEAT = b":\n"

#: How long a reader waits before it comes back, in milliseconds.
RETRY = b"retry: 1000\n"

#: Seconds that a client may take for the rest, once its stream is to end.
CLOSING_SECONDS = 0.3

Headers = Sequence[tuple[bytes, bytes]]

HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold events back.
    (b"x-accel-buffering", b"no"),
)


class FrameCache:
    """Frames that many readers ask for at different times: rendered once while there is room."""

    def __init__(self, render: Callable[[Event], bytes], *, most_bytes: int) -> None:
        """``render`` gives one event's frame, the same for every reader."""
        self._render = render
        #: By event id.
        self._frames: BoundedMap[str, bytes] = BoundedMap(most_bytes, weigh=len)

    def __call__(self, event: Event) -> bytes:
        """The event's frame."""
        frame = self._frames.get(event.id)
        if frame is None:
            frame = self._render(event)
            self._frames.put(event.id, frame)
        return frame


class Frames:
    """How a dialect writes what happens on a stream that has no end."""

    def __init__(
        self,
        *,
        event: Callable[[Event], bytes],
        gap: Callable[[Gap], bytes],
        heartbeat: bytes = HEARTBEAT,
        opening: bytes = RETRY,
        headers: Headers = HEADERS,
    ) -> None:
        """``event`` and ``gap`` render one whole frame each."""
        self.event = event
        self.gap = gap
        self.heartbeat = heartbeat
        self.opening = opening
        self.headers = list(headers)
        #: Whether a stream that did not come to its end is torn off: for clients that take an
        #: orderly end of the response for the end of what they follow.
        self.tears = False

    def of(self, batch: Batch) -> Iterable[bytes]:
        """A batch, in the pieces in which it is sent."""
        if batch.gap is not None:
            return [self.gap(batch.gap) + batch.joined(self.event)]
        return [batch.joined(self.event) if batch.events else self.heartbeat]

    def ends(self, batch: Batch) -> bool:
        """Whether the stream is over after the batch."""
        return False


class EndingFrames(Frames):
    """How a dialect writes a stream that ends with an event; each frame is sent by itself."""

    def __init__(
        self,
        *,
        event: Callable[[Event], bytes],
        gap: Callable[[Gap], bytes],
        is_end: Callable[[Event], bool],
        heartbeat: bytes,
        headers: Headers,
    ) -> None:
        """``is_end`` tells the event that nothing follows."""
        super().__init__(event=event, gap=gap, heartbeat=heartbeat, opening=b"", headers=headers)
        self._is_end = is_end
        self.tears = True

    def of(self, batch: Batch) -> Iterable[bytes]:
        if not (batch.events or batch.gap):
            yield self.heartbeat
        if batch.gap is not None:
            yield self.gap(batch.gap)
        for event, frame in zip(batch.events, batch.frames(self.event), strict=True):
            if frame:
                yield frame
            if self._is_end(event):
                break

    def ends(self, batch: Batch) -> bool:
        return any(self._is_end(event) for event in batch.events)


class BatchReader(Protocol):
    """What a stream sends: a ``Reader``, or what reads as one does."""

    @property
    def position(self) -> int: ...

    async def next(self) -> Batch | None: ...

    def close(self) -> None: ...

    def when_closed(self, call: Callable[[], None]) -> None: ...


class EventStream:
    """An ASGI response that follows a reader until it ends or the client goes."""

    def __init__(
        self,
        follow: AbstractContextManager[BatchReader],
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
            await send(self._start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        with self._follow as reader:
            # Idle streams send nothing for a while: only ``receive`` tells that the client went.
            gone = asyncio.create_task(wait_for_disconnect(receive))
            gone.add_done_callback(lambda _: reader.close())
            try:
                await self._send_until_closed(reader, send)
            finally:
                gone.cancel()

    async def _send_until_closed(self, reader: BatchReader, send: Send) -> None:
        """Send, and not for long once the reader is closed: a client that takes nothing more would
        hold up the end of the stream for ever.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                reader.when_closed(lambda: limit.reschedule(loop.time() + CLOSING_SECONDS))
                await self._send(reader, send)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            reader.when_closed(_nothing)

    @property
    def _start(self) -> dict[str, object]:
        headers = self._frames.headers
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def _send(self, reader: BatchReader, send: Send) -> None:
        await send(self._start)
        opening = self._frames.opening
        if self._gap is not None:
            opening += self._frames.gap(self._gap)
        # Even empty: the headers go out with it.
        await _send_body(send, opening)
        if await self._send_batches(reader, send) or not self._frames.tears:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_batches(self, reader: BatchReader, send: Send) -> bool:
        """Whether the stream came to its end."""
        while (batch := await self._next(reader, send)) is not None:
            for piece in self._frames.of(batch):
                await _send_body(send, piece)
            self._sent(len(batch.events), reader.position)
            if self._frames.ends(batch):
                return True
            # An idle stream holds a position, not what it sent last.
            del batch
        return False

    async def _next(self, reader: BatchReader, send: Send) -> Batch | None:
        """The next batch, asked for only once the client has taken what was sent before."""
        # A server that keeps to ASGI's flow control returns when its buffer has room again.
        await _send_body(send, b"")
        return await reader.next()


def _nothing() -> None:
    pass


async def _send_body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def wait_for_disconnect(receive: Receive) -> None:
    """Return once the client is gone; what it still sends is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass
