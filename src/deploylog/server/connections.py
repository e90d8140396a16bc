"""Connections: HTTP/1.1 with limits on all that comes before a request is complete.

uvicorn with httptools has none: a header may be as long as the memory, and may take for ever.
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

from deploylog.server.settings import Settings

#: Seconds between two looks at every connection.
SWEEP_SECONDS = 0.5

#: Seconds between two log lines about refused requests.
REPORT_SECONDS = 60.0

#: Seconds for which a refused client may still send, so that it reads the answer and no reset.
LINGER_SECONDS = 1.0

#: Requests that one connection may send ahead of the answers.
MOST_PIPELINED = 256

#: Connections that are weighed before one is evicted.
_MOST_WEIGHED = 64

#: Bytes of a body that must arrive in each ``body_seconds``.
LEAST_BYTES = 1024

#: Headers that say where a body ends.
_FRAMING = (b"content-length", b"transfer-encoding")

#: The most open files that the service asks for, and the most connections that it takes of itself.
_MOST_FILES = 65_536
_MOST_CONNECTIONS = 16_384

#: The share of open files that stays free for the store and for outgoing calls.
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

#: The answer to each refusal; the others close the connection.
_ANSWERS: dict[Reason, tuple[int, str]] = {
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
    #: Bytes of a body that are read after its request was answered.
    discarded_bytes: int
    connections: int
    #: 0 is no limit.
    connections_per_address: int


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings ask for."""
    return Limits(
        target_bytes=settings.max_target_bytes,
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        discarded_bytes=settings.max_body_bytes,
        connections=settings.max_connections or _room(),
        connections_per_address=settings.max_connections_per_address,
    )


def raise_file_limit() -> None:
    """Ask for as many open files as the system allows, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _room() -> int:
    """The connections that the limit on open files leaves room for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(min(files - files // _RESERVED, _MOST_CONNECTIONS), 1)


class _Refusal(Exception):
    """Ends the parsing of a request; never leaves this module."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Connections:
    """Every open connection, and the limits that hold for them together."""

    def __init__(self, limits: Limits, refused: Callable[[str], None]) -> None:
        """``refused`` counts what is refused, by reason."""
        self.limits = limits
        self._refused = refused
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        #: Those that have never sent a whole request, and those between two: the oldest first.
        self._silent: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._counts: Counter[str] = Counter()
        self._report_due = 0.0

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn makes for each connection."""

        def make(
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> Connection:
            return Connection(self, config, server_state, app_state, _loop)

        return cast("type[asyncio.Protocol]", make)

    def enter(self, connection: "Connection") -> Reason | None:
        """Count a new connection; the reason when there is no room for it."""
        address = connection.address
        most = self.limits.connections_per_address
        if most and address and self._by_address[address] >= most:
            return "connections_per_address"
        if len(self._open) >= self.limits.connections and not self._evict():
            return "connections"
        self._open.add(connection)
        self._by_address[address] += 1
        self._silent[connection] = None
        return None

    def leave(self, connection: "Connection") -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self.busy(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def busy(self, connection: "Connection") -> None:
        """Its request is being answered: it is not in anyone's way."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def idle(self, connection: "Connection") -> None:
        """Its request is answered."""
        if connection in self._open:
            self._idle[connection] = None

    def refuse(self, reason: Reason) -> None:
        """Count a refusal; the log has one line a minute, not one for each."""
        self._counts[reason] += 1
        self._refused(reason)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look at every connection once in a while."""

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
        """End what takes too long, and say what was refused."""
        for connection in list(self._open):
            connection.check(now)
        if self._counts and now >= self._report_due:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self._counts.items()))
            _LOGGER.warning("refused before a request was complete: %s", counts)
            self._counts.clear()
            self._report_due = now + REPORT_SECONDS

    def _evict(self) -> bool:
        """Close the connection that has waited longest without a request; whether there was one.

        One whose answer is still being read has to wait for its turn: closing it would take long.
        """
        for waiting in (self._silent, self._idle):
            for oldest in list(islice(waiting, _MOST_WEIGHED)):
                if oldest.has_unsent:
                    waiting[oldest] = waiting.pop(oldest)
                    continue
                self.leave(oldest)
                oldest.end("evicted")
                return True
        return False


class Connection(HttpToolsProtocol):
    """A connection that ends when its client sends too much, or too slowly."""

    def __init__(
        self,
        connections: Connections,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """``connections`` has the limits."""
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self._limits = connections.limits
        self._most_head_bytes = connections.limits.header_bytes
        self._most_headers = connections.limits.headers
        self.address = ""
        #: What is being received: nothing, a request's head, or its body.
        self._receiving: Literal["nothing", "head", "body"] = "nothing"
        #: When that began, or the window in which a body has to move.
        self._since = 0.0
        self._has_asked = False
        self._moved = False
        #: Bytes received since the parser last finished a head or a piece of a body.
        self._unparsed = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._discarded = 0
        self._unsent = 0
        #: Nothing more is parsed: what comes is dropped.
        self._has_ended = False
        #: What is being answered, which may be before ``cycle``: the last that was received.
        self._running: RequestResponseCycle | None = None
        self._keeps_alive = True
        self._is_reparsing = False
        #: The last answer is sent, and the rest of its request is dropped before we close.
        self._is_parting = False

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or refuse it at once."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self.address = self.client[0] if self.client else ""
        if reason := self._all.enter(self):
            self.end(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._all.leave(self)
        if self._running is not None:
            # uvicorn informs only the last of several requests.
            _disconnect(self._running)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close, after the answer that is under way."""
        self._keeps_alive = False
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse a piece of a request."""
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
        """Parse it all: a request that asks for another protocol is answered in this one."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._receiving == "body":
                    self._parse_body()

    def _parse_body(self) -> None:
        """Make a parser that expects the body of the request whose head is parsed.

        The one that parsed the head skips the body, as it would be in the other protocol. Clients
        that offer HTTP/2 (``Upgrade: h2c``) send it in this one.
        """
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_reparsing = True
        self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        self._is_reparsing = False

    # The parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._is_reparsing:
            return
        super().on_message_begin()
        self._receiving, self._since = "head", self.loop.time()
        self._head_bytes = self._body_bytes = self._discarded = 0

    def on_url(self, url: bytes) -> None:
        """Some of the target."""
        if self._is_reparsing:
            return
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            raise _Refusal("target_length")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or what follows a body as one."""
        if self._is_reparsing:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > self._most_head_bytes:
            raise _Refusal("header_length")
        if len(self.headers) >= self._most_headers:
            raise _Refusal("header_count")
        # As uvicorn does it: another call for each header would cost more than these checks.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: somebody answers it."""
        if self._is_reparsing:
            return
        if self._has_ended or len(self.pipeline) >= MOST_PIPELINED:
            raise _Refusal("pipelined")
        super().on_headers_complete()
        self._keeps_alive = self.cycle.keep_alive
        if self.expect_100_continue:
            self._await_expected()
        if not self.cycle.keep_alive:
            self.cycle.transport = cast("asyncio.Transport", _Parting(self))
        self._moved = self._has_asked = True
        self._receiving, self._since = "body", self.loop.time()
        self._all.busy(self)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which nobody may want any more."""
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
        """The request is whole."""
        self._moved = True
        if self.parser.should_upgrade() and self._has_body:
            return
        self._receiving, self._since = "nothing", self.loop.time()
        if self.expect_100_continue:
            self._receive_expected()
        super().on_message_complete()
        if self._is_parting:
            self._has_ended = True
            self.transport.close()

    @property
    def _has_body(self) -> bool:
        return any(name in _FRAMING and value != b"0" for name, value in self.headers)

    def _await_expected(self) -> None:
        """A client that is refused before it sends its body may never send it: what it sends next
        would be taken for the body, so the refusal has to be the last answer.
        """
        self.cycle.keep_alive = False
        if self.parser.get_http_version() == "1.0":
            # It does not know of answers that are none.
            self.cycle.waiting_for_100_continue = False

    def _receive_expected(self) -> None:
        """The body comes, asked for or not."""
        self.expect_100_continue = self.cycle.waiting_for_100_continue = False
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive

    # The answer's side

    def on_response_complete(self) -> None:
        """The next request is answered, or awaited."""
        # As uvicorn does it, without a timer for each response: the sweep does it for all, and a
        # timer ends with the first byte of what may be no request.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            if self.pipeline:
                # What is read ahead of the answers is bounded.
                self.flow.pause_reading()
        self._since = self.loop.time()
        if self.cycle.response_complete:
            self._all.idle(self)

    def check(self, now: float) -> None:
        """End the connection when it waits for its client for too long."""
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
        """Whether some of an answer is not sent, as its client has not read what was before."""
        return bool(self.transport.get_write_buffer_size())

    @property
    def _is_answering(self) -> bool:
        running = self._running
        return running is not None and not (running.response_complete or running.disconnected)

    def _check_answering(self, running: RequestResponseCycle, now: float) -> None:
        """An answer has no limit of time once it has begun: it may be a stream."""
        if running.response_started:
            return
        if self.flow.write_paused:
            # Nobody reads the answers before it.
            self._check_unsent(now)
        elif self._receiving == "body" and not self.pipeline:
            self._check_body(now)

    def _check_body(self, now: float) -> None:
        """A body must move, unless we are the ones who do not read it."""
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            self._since = now
        elif now - self._since >= self._limits.body_seconds:
            if self._body_bytes < LEAST_BYTES:
                self.end("body_timeout")
            self._since, self._body_bytes = now, 0

    def _check_unsent(self, now: float) -> None:
        """What is not sent has to become less: its client reads some of it."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        elif now - self._since >= self._limits.body_seconds:
            self.transport.abort()

    def end(self, reason: Reason) -> None:
        """Refuse what the client sends, answer if it can be answered, and close."""
        self._all.refuse(reason)
        if self._is_answering and (self._receiving != "body" or self.pipeline):
            self._end_after_answers()
            return
        answer = _ANSWERS.get(reason)
        is_silent = self._receiving == "nothing" and reason == "header_timeout"
        # An answer in the middle of another one would be taken for a part of it, and one after it
        # for the answer to what is asked next.
        has_begun = self._receiving == "body" and self.cycle.response_started
        if answer is None or is_silent or has_begun or self._has_ended:
            self.transport.close()
            return
        if self._running is not None and self._is_answering:
            _disconnect(self._running)
        self._has_ended, self._since = True, self.loop.time()
        self.transport.write(_render(*answer))
        if reason.startswith("connections"):
            self.transport.close()
        else:
            self.transport.write_eof()

    def _end_after_answers(self) -> None:
        """Drop what the client sends from here on, answer what came whole before, and close.

        A refusal would be taken for the answer to a request before the one that is at fault.
        """
        if self._receiving == "body":
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        assert last is not None
        last.keep_alive = False
        last.transport = cast("asyncio.Transport", _Parting(self))
        self.cycle, self._has_ended = last, True

    def part(self) -> None:
        """Close, as the last answer was sent, or torn off.

        A client that is still sending would see a reset in place of the answer.
        """
        if self.transport.is_closing() or not self.cycle.response_complete:
            self.transport.close()
        elif self._has_ended:
            self._since = self.loop.time()
            self.transport.write_eof()
        elif self._receiving == "body":
            self._is_parting = True
            self.transport.write_eof()
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)


class _Parting:
    """The transport, as an answer sees it after which its connection is closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.part()


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Inform what is answering that its client is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def _render(status: int, message: str) -> bytes:
    text = message.encode()
    head = (
        f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(text)}\r\n"
        "connection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + head.encode() + text
