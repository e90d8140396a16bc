"""Server-Sent Events: a response that streams a reader's batches (WHATWG HTML, section 9.2)."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from starlette.types import Receive, Scope, Send

from deploylog.api.http.chunks import CHUNK_WRITER, encode_chunk
from deploylog.events.batch import Batch, Gap
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event
from deploylog.events.outlet import Outlet, Sent, View, Writer

# A blank line ends a block, and some clients (httpx-sse) emit every block that has a field or
# follows an id, even without data. So neither of these ends in one, and they become part of the
# next event's block.

#: A comment line: clients ignore it, and proxies keep the connection open.
HEARTBEAT = b":\n"

#: The client's delay before it reconnects, in milliseconds.
RETRY = b"retry: 1000\n"

#: Seconds in which a client must read the rest once the server closes its stream.
CLOSING_SECONDS = 0.3

Headers = Sequence[tuple[bytes, bytes]]

HEADERS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would buffer events.
    (b"x-accel-buffering", b"no"),
)


class FrameCache:
    """Frames by event, rendered once for many readers; the oldest are evicted first."""

    def __init__(self, render: Callable[[Event], bytes], *, max_bytes: int) -> None:
        """``render`` must give every reader the same frame."""
        self._render = render
        #: By event id.
        self._frames: BoundedMap[str, bytes] = BoundedMap(max_bytes, weigh=len)

    def __call__(self, event: Event) -> bytes:
        frame = self._frames.get(event.id)
        if frame is None:
            frame = self._render(event)
            self._frames.put(event.id, frame)
        return frame


class Frames:
    """Renders a stream that never ends."""

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
        #: Whether to abort the connection when the stream closes before its end: for clients that
        #: take the end of the response for the end of the deployment.
        self.aborts_when_incomplete = False
        #: Whether every reader gets the same bytes, each batch in one piece.
        self.is_uniform = True

    def chunk(self, batch: Batch) -> bytes:
        """The batch as a chunk of a response's body. The frames are not cached, as the chunk is."""
        gap = self.gap(batch.gap) if batch.gap is not None else b""
        return encode_chunk(gap + b"".join(map(self.event, batch.events)) or self.heartbeat)

    def of(self, batch: Batch) -> Iterable[bytes]:
        """The batch as the pieces to send."""
        if batch.gap is not None:
            return [self.gap(batch.gap) + batch.joined(self.event)]
        return [batch.joined(self.event) if batch.events else self.heartbeat]

    def ends(self, batch: Batch) -> bool:
        """Whether the batch ends the stream."""
        return False


class TerminatedFrames(Frames):
    """Renders a stream that ends with an event; each frame is sent separately."""

    def __init__(
        self,
        *,
        event: Callable[[Event], bytes],
        gap: Callable[[Gap], bytes],
        is_end: Callable[[Event], bool],
        heartbeat: bytes,
        headers: Headers,
    ) -> None:
        """``is_end`` recognizes the event that ends the stream."""
        super().__init__(event=event, gap=gap, heartbeat=heartbeat, opening=b"", headers=headers)
        self._is_end = is_end
        self.aborts_when_incomplete = True
        self.is_uniform = False

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
    """The source of a stream: a ``Reader``, or an object that reads the same way."""

    @property
    def position(self) -> int: ...

    async def next(self, outlet: Outlet | None = None) -> Batch | None: ...

    def close(self) -> None: ...

    def on_close(self, call: Callable[[], None]) -> None: ...


class EventStream:
    """An ASGI response that streams a reader until it ends or the client disconnects."""

    def __init__(
        self,
        follow: AbstractContextManager[BatchReader],
        frames: Frames,
        *,
        gap: Gap | None,
        sent: Sent,
    ) -> None:
        """``gap`` is sent first; ``sent`` counts each batch."""
        self._follow = follow
        self._frames = frames
        self._gap = gap
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send(self._start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        with self._follow as reader:
            # While an idle stream sends nothing, only ``receive`` reports a disconnect.
            disconnect = asyncio.create_task(wait_for_disconnect(receive))
            disconnect.add_done_callback(lambda _: reader.close())
            try:
                await self._send_until_closed(reader, send, _writer_of(scope))
            finally:
                disconnect.cancel()

    async def _send_until_closed(
        self, reader: BatchReader, send: Send, writer: Writer | None
    ) -> None:
        """Send until the end, but at most ``CLOSING_SECONDS`` after the reader is closed.

        Otherwise a client that stops reading would keep the stream open indefinitely.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                reader.on_close(lambda: limit.reschedule(loop.time() + CLOSING_SECONDS))
                await self._send(reader, send, writer)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            reader.on_close(_nothing)

    @property
    def _start(self) -> dict[str, object]:
        headers = self._frames.headers
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def _send(self, reader: BatchReader, send: Send, writer: Writer | None) -> None:
        await send(self._start)
        opening = self._frames.opening
        if self._gap is not None:
            opening += self._frames.gap(self._gap)
        # Sent even when empty, as it flushes the headers.
        await _send_body(send, opening)
        if writer is not None and self._frames.is_uniform:
            await self._write_batches(reader, writer)
            is_complete = False
        else:
            is_complete = await self._send_batches(reader, send)
        if is_complete or not self._frames.aborts_when_incomplete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_batches(self, reader: BatchReader, writer: Writer) -> None:
        """Write all batches to the connection, in the bytes that readers share."""
        view = View(self._frames.chunk, self._sent)
        outlet = Outlet(view, writer)
        while (batch := await reader.next(outlet)) is not None:
            data, number = batch.rendered(view.render), len(batch.events)
            # A stalled stream should hold the bytes only, and an idle one nothing.
            del batch
            await writer.drain()
            writer.write(data)
            del data
            view.sent(number, reader.position)
            await writer.drain()
            # Other readers have their turn, while they want the same page.
            await asyncio.sleep(0)

    async def _send_batches(self, reader: BatchReader, send: Send) -> bool:
        """Send all batches; return whether the stream reached its end."""
        while (batch := await self._next(reader, send)) is not None:
            for piece in self._frames.of(batch):
                await _send_body(send, piece)
            self._sent(len(batch.events), reader.position)
            if self._frames.ends(batch):
                return True
            # An idle stream should not hold its last batch in memory.
            del batch
        return False

    async def _next(self, reader: BatchReader, send: Send) -> Batch | None:
        """The next batch, once the client has read the one before."""
        # With flow control, ASGI's ``send`` returns when the server's buffer has room again.
        await _send_body(send, b"")
        return await reader.next()


def _nothing() -> None:
    pass


def _writer_of(scope: Scope) -> Writer | None:
    """The writer that the server offers."""
    writer: Writer | None = scope.get("extensions", {}).get(CHUNK_WRITER)
    return writer


async def _send_body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client disconnects; what it still sends is ignored."""
    while (await receive())["type"] != "http.disconnect":
        pass
