"""Connections: HTTP/1.1 with limits that hold before a request is complete.

uvicorn with httptools has none: a header may fill the memory, and may take indefinitely.
"""

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Literal, cast

import httptools
import msgspec
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from deploylog.api.http.chunks import CHUNK_WRITER
from deploylog.server.settings import Settings

#: Seconds between two sweeps over every connection.
SWEEP_SECONDS = 0.5

#: Seconds between two log lines about refused requests.
REPORT_SECONDS = 60.0

#: Seconds that a refused client may still send, so that it reads the response and not a reset.
LINGER_SECONDS = 1.0

#: Requests that one connection may send ahead of the responses.
MAX_PIPELINED = 256

#: Candidates to consider when one connection must be evicted.
_MAX_CANDIDATES = 64

#: Bytes of a body that must arrive in each ``body_seconds``.
MIN_BODY_BYTES = 1024

#: Headers that frame a body.
_FRAMING = (b"content-length", b"transfer-encoding")

#: The highest limit on open files to ask for, and the highest default limit on connections.
_MAX_FILES = 65_536
_MAX_CONNECTIONS = 16_384

#: One in this many open files stays free for the store and for outgoing requests.
_RESERVED = 4

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
_RESPONSES: dict[Reason, tuple[int, str]] = {
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


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection may cost before its request is complete."""

    target_bytes: int
    header_bytes: int
    headers: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    #: Bytes of a body to read after the response.
    discarded_bytes: int
    connections: int
    #: 0 is no limit.
    connections_per_address: int


def limits_of(settings: Settings) -> Limits:
    """The limits in the settings."""
    return Limits(
        target_bytes=settings.max_target_bytes,
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        discarded_bytes=settings.max_body_bytes,
        connections=settings.max_connections or _default_connections(),
        connections_per_address=settings.max_connections_per_address,
    )


def raise_file_limit() -> None:
    """Raise the limit on open files as far as the system allows, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _default_connections() -> int:
    """The number of connections that fit under the limit on open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(min(files - files // _RESERVED, _MAX_CONNECTIONS), 1)


class _Refusal(Exception):
    """Stops the parsing of a request; never leaves this module."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Connections:
    """Every open connection, and the limits on all of them."""

    def __init__(self, limits: Limits, refused: Callable[[str], None]) -> None:
        """``refused`` counts refusals by reason."""
        self.limits = limits
        self._refused = refused
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        #: Connections without a complete request so far, and those between two; oldest first.
        self._silent: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._counts: Counter[str] = Counter()
        self._report_due = 0.0

    def protocol(self) -> type[asyncio.Protocol]:
        """The protocol that uvicorn creates for each connection."""

        def make(
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> Connection:
            return Connection(self, config, server_state, app_state, _loop)

        return cast("type[asyncio.Protocol]", make)

    def enter(self, connection: "Connection") -> Reason | None:
        """Count a new connection; return a reason to refuse it when a limit is reached."""
        address = connection.address
        limit = self.limits.connections_per_address
        if limit and address and self._by_address[address] >= limit:
            return "connections_per_address"
        if len(self._open) >= self.limits.connections and not self._evict():
            return "connections"
        self._open.add(connection)
        self._by_address[address] += 1
        self._silent[connection] = None
        return None

    def leave(self, connection: "Connection") -> None:
        """Remove a connection."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self.busy(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def busy(self, connection: "Connection") -> None:
        """Mark a connection as answering a request, which protects it from eviction."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def idle(self, connection: "Connection") -> None:
        """Mark a connection as waiting for its next request."""
        if connection in self._open:
            self._idle[connection] = None

    def refuse(self, reason: Reason) -> None:
        """Count a refusal; the log gets one line a minute, not one for each."""
        self._counts[reason] += 1
        self._refused(reason)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Sweep periodically inside the block."""

        async def watch() -> None:
            loop = asyncio.get_running_loop()
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                self.sweep(loop.time())

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch())
            try:
                yield
            finally:
                task.cancel()

    def sweep(self, now: float) -> None:
        """Close connections that exceed a time limit, and log the refusals."""
        for connection in list(self._open):
            connection.check(now)
        if self._counts and now >= self._report_due:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self._counts.items()))
            _LOGGER.warning("refused before a request was complete: %s", counts)
            self._counts.clear()
            self._report_due = now + REPORT_SECONDS

    def _evict(self) -> bool:
        """Close the connection that has waited longest without a request; return whether one did.

        Skip one whose client is still reading a response: closing it would take long.
        """
        for waiting in (self._silent, self._idle):
            for oldest in list(islice(waiting, _MAX_CANDIDATES)):
                if oldest.has_unsent:
                    waiting[oldest] = waiting.pop(oldest)
                    continue
                self.leave(oldest)
                oldest.end("evicted")
                return True
        return False


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
            self.end(refusal.reason if isinstance(refusal, _Refusal) else "malformed")
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
            raise _Refusal("target_length")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header or a trailer."""
        if self._is_reparsing:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > self._max_head_bytes:
            raise _Refusal("header_length")
        if len(self.headers) >= self._max_headers:
            raise _Refusal("header_count")
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
            raise _Refusal("pipelined")
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
                raise _Refusal("body_discarded")
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
        self._connections.refuse(reason)
        if self._is_answering and (self._receiving != "body" or self.pipeline):
            self._end_after_responses()
            return
        response = _RESPONSES.get(reason)
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
        self.transport.write(_render(*response))
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


class ChunkWriter:
    """Writes chunks of a response that has started, without a message to ASGI for each."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow

    @property
    def is_full(self) -> bool:
        """Whether the transport has more unsent bytes than it should buffer."""
        return self._flow.write_paused and not self._cycle.disconnected

    def write(self, data: bytes) -> bool:
        """Write the chunk, unless the buffer is full or the client has disconnected."""
        cycle = self._cycle
        if self._flow.write_paused or cycle.disconnected or cycle.transport.is_closing():
            return False
        cycle.transport.write(data)
        return True

    async def drain(self) -> None:
        """Return when the buffer has room, or the client has disconnected."""
        while self.is_full:
            await self._flow.drain()


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


def _render(status: int, message: str) -> bytes:
    text = message.encode()
    head = (
        f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + text
