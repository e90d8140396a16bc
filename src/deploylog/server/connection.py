"""A connection: HTTP/1.1 with limits that hold before a request is complete.

uvicorn with httptools has none: a header may fill the memory, and may take indefinitely.
"""

import asyncio
from typing import Any, Literal, cast

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from deploylog.api.http.chunks import CHUNK_WRITER
from deploylog.server.chunk_writer import ChunkWriter
from deploylog.server.connections import Connections
from deploylog.server.refusals import RESPONSES, Reason, Refusal, render_refusal

#: Seconds that a refused client may still send, so that it reads the response and not a reset.
LINGER_SECONDS = 1.0

#: Requests that one connection may send ahead of the responses.
MAX_PIPELINED = 256

#: Bytes of a body that must arrive in each ``body_seconds``.
MIN_BODY_BYTES = 1024

#: Headers that frame a body.
_FRAMING = (b"content-length", b"transfer-encoding")


class Connection(HttpToolsProtocol):
    """A connection that closes when its client sends too much, or too slowly."""

    def __init__(
        self,
        connections: Connections,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections = connections
        self._limits = connections.limits
        self._max_head_bytes = connections.limits.header_bytes
        self._max_headers = connections.limits.headers
        self.address = ""
        #: The part of a request that the connection is receiving.
        self._receiving: Literal["nothing", "head", "body"] = "nothing"
        #: When that part, or the current window of a body, started.
        self._since = 0.0
        self._has_asked = False
        self._moved = False
        #: Bytes received since the parser last finished a head or a piece of a body.
        self._unparsed = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._discarded = 0
        self._unsent = 0
        #: Whether to drop whatever arrives, without parsing it.
        self._has_ended = False
        #: The request that is being answered; ``cycle`` is the last one received.
        self._running: RequestResponseCycle | None = None
        self._keeps_alive = True
        self._is_reparsing = False
        #: Whether the last response is sent and the rest of its request is being discarded.
        self._is_draining = False

    # Called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self.address = self.client[0] if self.client else ""
        if reason := self._connections.enter(self):
            self.end(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        if self._running is not None:
            # uvicorn notifies only the last of several requests.
            _disconnect(self._running)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close after the response in progress."""
        self._keeps_alive = False
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._has_ended or self.transport.is_closing():
            return
        if self._unparsed > self._limits.header_bytes:
            self.end("header_length")
            return
        self._moved = False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self._has_ended:
                return
            refusal = error.__context__
            self.end(refusal.reason if isinstance(refusal, Refusal) else "malformed")
            return
        self._unparsed = 0 if self._moved else self._unparsed + len(data)

    def _feed(self, data: bytes) -> None:
        """Parse all of ``data``; answer a request to upgrade the protocol over HTTP/1.1."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._receiving == "body":
                    self._parse_body()

    def _parse_body(self) -> None:
        """Create a parser that expects the body of the request whose head is parsed.

        The first parser skips the body, as if it were in the other protocol. Clients that offer
        HTTP/2 (``Upgrade: h2c``) send it in HTTP/1.1.
        """
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_reparsing = True
        self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        self._is_reparsing = False

    # Called by the parser

    def on_message_begin(self) -> None:
        if self._is_reparsing:
            return
        super().on_message_begin()
        self._receiving, self._since = "head", self.loop.time()
        self._head_bytes = self._body_bytes = self._discarded = 0

    def on_url(self, url: bytes) -> None:
        if self._is_reparsing:
            return
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            raise Refusal("target_length")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header or a trailer."""
        if self._is_reparsing:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > self._max_head_bytes:
            raise Refusal("header_length")
        if len(self.headers) >= self._max_headers:
            raise Refusal("header_count")
        # As uvicorn does it: another call for each header would cost more than these checks.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start to answer the request."""
        if self._is_reparsing:
            return
        if self._has_ended or len(self.pipeline) >= MAX_PIPELINED:
            raise Refusal("pipelined")
        super().on_headers_complete()
        self._keeps_alive = self.cycle.keep_alive
        if self.expect_100_continue:
            self._await_expected()
        if not self.cycle.keep_alive:
            self.cycle.transport = cast("asyncio.Transport", _ClosingTransport(self))
        self._moved = self._has_asked = True
        self._receiving, self._since = "body", self.loop.time()
        self._connections.busy(self)

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on, or discard it after the response."""
        self._moved = True
        self._body_bytes += len(body)
        if self.expect_100_continue:
            self._receive_expected()
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > self._limits.discarded_bytes:
                raise Refusal("body_discarded")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        if self.parser.should_upgrade() and self._has_body:
            return
        self._receiving, self._since = "nothing", self.loop.time()
        if self.expect_100_continue:
            self._receive_expected()
        super().on_message_complete()
        if self._is_draining:
            self._has_ended = True
            self.transport.close()

    @property
    def _has_body(self) -> bool:
        return any(name in _FRAMING and value != b"0" for name, value in self.headers)

    def _await_expected(self) -> None:
        """Close after this response unless the body arrives.

        A client that gets an error before it sends its body may never send it. Its next request
        would then be read as the body.
        """
        self.cycle.keep_alive = False
        if self.parser.get_http_version() == "1.0":
            # HTTP/1.0 has no interim responses.
            self.cycle.waiting_for_100_continue = False

    def _receive_expected(self) -> None:
        """Accept the body, whether or not the client waited for 100 Continue."""
        self.expect_100_continue = self.cycle.waiting_for_100_continue = False
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive

    # Called by the response

    def on_response_complete(self) -> None:
        """Answer the next request, or wait for it."""
        # As uvicorn does it, but without a timer for each response. The sweep replaces the timers,
        # and a timer would stop at the first byte of what may not be a request.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            if self.pipeline:
                # Bound what is read ahead of the responses.
                self.flow.pause_reading()
        self._since = self.loop.time()
        if self.cycle.response_complete:
            self._connections.idle(self)

    def check(self, now: float) -> None:
        """Close the connection when its client keeps it waiting for too long."""
        if self.transport.is_closing():
            self._check_unsent(now)
        elif self._running is not None and self._is_answering:
            self._check_answering(self._running, now)
        elif self._has_ended:
            if now - self._since >= LINGER_SECONDS:
                self.transport.close()
        elif self._receiving == "body":
            self._check_body(now)
        elif self._receiving == "head" or not self._has_asked:
            if now - self._since >= self._limits.header_seconds:
                self.end("header_timeout")
        elif now - self._since >= self._limits.keep_alive_seconds:
            self.transport.close()

    @property
    def has_unsent(self) -> bool:
        """Whether part of a response is unsent because the client is not reading."""
        return bool(self.transport.get_write_buffer_size())

    @property
    def _is_answering(self) -> bool:
        running = self._running
        return running is not None and not (running.response_complete or running.disconnected)

    def _check_answering(self, running: RequestResponseCycle, now: float) -> None:
        """Check a request without a response. A response that has started may be a stream."""
        if running.response_started:
            return
        if self.flow.write_paused:
            # The client does not read the responses before it.
            self._check_unsent(now)
        elif self._receiving == "body" and not self.pipeline:
            self._check_body(now)

    def _check_body(self, now: float) -> None:
        """Require a minimum rate of a body, unless the server is the one that does not read it."""
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._since = now
        elif now - self._since >= self._limits.body_seconds:
            if self._body_bytes < MIN_BODY_BYTES:
                self.end("body_timeout")
            self._since, self._body_bytes = now, 0

    def _check_unsent(self, now: float) -> None:
        """Abort when the client has read none of the unsent bytes in time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        elif now - self._since >= self._limits.body_seconds:
            self.transport.abort()

    def end(self, reason: Reason) -> None:
        """Refuse the request, respond if that is possible, and close."""
        self._connections.refusals.add(reason)
        if self._is_answering and (self._receiving != "body" or self.pipeline):
            self._end_after_responses()
            return
        response = RESPONSES.get(reason)
        is_silent = self._receiving == "nothing" and reason == "header_timeout"
        # The client would read a second response as part of the one that has started, or as the
        # response to its next request.
        has_started = self._receiving == "body" and self.cycle.response_started
        if response is None or is_silent or has_started or self._has_ended:
            self.transport.close()
            return
        if self._running is not None and self._is_answering:
            _disconnect(self._running)
        self._has_ended, self._since = True, self.loop.time()
        self.transport.write(render_refusal(*response))
        if reason.startswith("connections"):
            self.transport.close()
        else:
            self.transport.write_eof()

    def _end_after_responses(self) -> None:
        """Drop further input, answer the complete requests, and close.

        The client would read a refusal as the response to an earlier request.
        """
        if self._receiving == "body":
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        assert last is not None
        last.keep_alive = False
        last.transport = cast("asyncio.Transport", _ClosingTransport(self))
        self.cycle, self._has_ended = last, True

    def close_after_response(self) -> None:
        """Close after the last response, sent or aborted.

        A client that is still sending must not see a reset in place of the response.
        """
        if self.transport.is_closing() or not self.cycle.response_complete:
            self.transport.close()
        elif self._has_ended:
            self._since = self.loop.time()
            self.transport.write_eof()
        elif self._receiving == "body":
            self._is_draining = True
            self.transport.write_eof()
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if cycle.scope["method"] == "GET":
            cycle.scope["extensions"] = {CHUNK_WRITER: ChunkWriter(cycle)}  # type: ignore[dict-item]
        super()._start_asgi_task(cycle, app)


class _ClosingTransport:
    """The transport that the last response of a connection writes to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.close_after_response()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Tell the running request that its client has disconnected."""
    cycle.disconnected = True
    cycle.message_event.set()


def plain_protocol(connections: Connections) -> type[asyncio.Protocol]:
    """What uvicorn makes for each connection."""

    def make(
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        return Connection(connections, config, server_state, app_state, _loop)

    return cast("type[asyncio.Protocol]", make)
