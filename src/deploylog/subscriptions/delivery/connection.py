"""Connections to receivers: one request at a time, and where its response ends.

aiohttp resolves, connects and does TLS. Its client takes several times as long for a request as the
bytes need, so requests are written, and responses parsed, here.

A response with status 204 or 304 ends with its head, whatever its headers say (RFC 9112, section
6.3), and bytes that follow a complete response do not change it. Parsers reject both, so that a
receiver which accepted an event would get it again and again.
"""

import re
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from functools import partial
from typing import Any, cast

import aiohttp
import httptools
import msgspec
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

#: Seconds until an idle connection is closed. Many servers close it after five, and a request sent
#: at that moment is lost.
IDLE_SECONDS = 4.0

#: Why there is no response, for users.
LOST = "the connection was closed before the response"
NOT_HTTP = "the response is not valid HTTP, or its headers are too large"
INCOMPLETE = "the response is incomplete, or not valid HTTP"

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")

_HEAD_END = re.compile(rb"\r?\n\r?\n")

#: The headers that define the length of a body.
_LENGTHS = re.compile(rb"(?im)^(?:content-length|transfer-encoding)[ \t]*:.*\n(?:[ \t].*\n)*")

#: Limits of a head, and of one header in it.
_MAX_HEAD_BYTES = 64 * 1024
_MAX_HEADERS = 128
_MAX_HEADER_BYTES = 8190

#: Bytes of a body that are not its content: sizes of chunks, and trailers.
_MAX_FRAMING_BYTES = 1024 * 1024


class NoResponse(Exception):
    """There is no complete response; the message says why, for users."""


class RawResponse(msgspec.Struct, frozen=True):
    """A response as it was read."""

    status: int
    body: bytes
    retry_after: str | None


class ReceiverConnection(ResponseHandler):
    """A connection to a receiver, and the protocol of its transport."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(loop)
        self._parser_of_responses = httptools.HttpResponseParser(self)
        self._parser_of_responses.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        #: The response that is being read; ``None`` without a request.
        self._response: Future[RawResponse] | None = None
        self._expect(0)

    def _expect(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        #: The part of a head received so far; ``None`` once it is complete.
        self._head: bytes | None = b""
        self._received = 0
        self._status = 0
        self._body = b""
        self._headers = 0
        self._has_length = False
        self._retry_after: str | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        return not self._should_close and self.is_connected()

    async def exchange(self, request: bytes, *, max_bytes: int, seconds: float) -> RawResponse:
        """Send a request, and return the response with at most ``max_bytes`` of its body.

        Raises NoResponse, and TimeoutError after ``seconds``. Unless it is reusable afterwards, the
        connection must be closed.
        """
        self._expect(max_bytes)
        response: Future[RawResponse] = self._loop.create_future()
        self._response = response
        timer = self._loop.call_later(seconds, self._fail, TimeoutError())
        try:
            if self.transport is None:
                raise NoResponse(LOST)
            cast("Any", self.transport).write(request)
            return await response
        finally:
            timer.cancel()
            self._response = None
            if not response.done() or response.cancelled():
                self._should_close = True

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.done():
            # What follows a complete response is no response to the next request.
            self._should_close = True
        elif self._head is None:
            self._parse(data)
        else:
            self._read_head(self._head, data)

    def _read_head(self, before: bytes, data: bytes) -> None:
        # The previous data may end with a part of the end of the head.
        searched = max(len(before) - 3, 0)
        received = before + data
        while end := _end_of_head(received, searched):
            head, received, searched = received[:end], received[end:], 0
            status = _STATUS.match(head)
            if status is None or not status[1].startswith(b"1") or status[1] == b"101":
                self._head = None
                self._start(head, received, status[1] if status is not None else b"")
                return
        self._head = received

    def _start(self, head: bytes, rest: bytes, status: bytes) -> None:
        if len(head) > _MAX_HEAD_BYTES:
            self._fail(NoResponse(NOT_HTTP))
        elif status in (b"204", b"304"):
            without_lengths = _LENGTHS.sub(b"", head)
            if rest or without_lengths != head:
                # What follows, now or later, is no response to the next request.
                self._should_close = True
            self._parse(without_lengths)
        else:
            self._parse(head + rest if rest else head)

    def _parse(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser_of_responses.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._complete(reusable=False)
        except httptools.HttpParserError:
            # After a complete response, it is what follows that is not valid.
            self._fail(NoResponse(INCOMPLETE if self._status else NOT_HTTP))
        if self._received - len(self._body) > _MAX_FRAMING_BYTES:
            self._fail(NoResponse(INCOMPLETE))

    def _complete(self, *, reusable: bool) -> None:
        response = self._response
        if not reusable:
            self._should_close = True
        if response is not None and not response.done():
            body = self._body[: self._max_bytes]
            response.set_result(RawResponse(self._status, body, self._retry_after))

    def _fail(self, error: Exception) -> None:
        self._should_close = True
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)

    # Called by the parser

    def on_message_begin(self) -> None:
        if self._status:
            # Another response, which no request asked for.
            self._should_close = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        if self._headers > _MAX_HEADERS or len(name) + len(value) > _MAX_HEADER_BYTES:
            self._fail(NoResponse(NOT_HTTP))
        match name.lower():
            case b"content-length":
                self._has_length = True
            case b"transfer-encoding":
                self._has_length = b"chunked" in value.lower()
            case b"retry-after" if self._retry_after is None:
                self._retry_after = value.decode("utf-8", "replace")

    def on_headers_complete(self) -> None:
        if not self._status:
            self._status = self._parser_of_responses.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > self._max_bytes:
            self._complete(reusable=False)

    def on_message_complete(self) -> None:
        self._complete(reusable=self._parser_of_responses.should_keep_alive())

    # The end of the connection

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head is not None:
            self._fail(NoResponse(LOST))
        elif self._has_length:
            self._fail(NoResponse(INCOMPLETE))
        elif self._status:
            self._complete(reusable=False)
        self._fail(NoResponse(LOST))
        super().connection_lost(exc)


def _end_of_head(data: bytes, searched: int) -> int:
    """The end of the head, or of data that is no head; 0 while that is not known."""
    if end := _HEAD_END.search(data, searched):
        return end.end()
    is_head = b"HTTP/1.".startswith(data[:7]) and len(data) <= _MAX_HEAD_BYTES
    return 0 if is_head else len(data)


class Connector(aiohttp.TCPConnector):
    """Connects to receivers with ``ReceiverConnection``."""

    def __init__(self, **options: Any) -> None:
        """``options`` are those of ``TCPConnector``."""
        super().__init__(**options)
        # aiohttp has no public option for it; the tests of responses fail when it is gone.
        self._factory = partial(_make_protocol, loop=self._loop)


def _make_protocol(loop: AbstractEventLoop) -> ResponseHandler:
    return ReceiverConnection(loop)


class ConnectionPool:
    """The connections to all receivers."""

    def __init__(
        self, connector: Connector, *, connect_seconds: float, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Opening a connection may take ``connect_seconds``; one that is idle for ``idle_seconds``
        is closed. The caller closes the connector.
        """
        self.connector = connector
        self._idle_seconds = idle_seconds
        self._loop = get_running_loop()
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_seconds)
        #: Those without a request, and since when, the latest last, by scheme, host and port.
        self._idle: dict[str, deque[tuple[float, Connection]]] = {}
        self._is_sweeping = False

    async def take(self, url: URL, origin: str) -> Connection:
        """A connection to ``origin``, that of ``url``.

        Raises TimeoutError, and what the connector raises.
        """
        idle = self._idle.get(origin)
        earliest = self._loop.time() - self._idle_seconds
        while idle:
            since, connection = idle.pop()
            if since > earliest and _is_reusable(connection):
                return connection
            connection.close()
        request = aiohttp.ClientRequest("POST", url, loop=self._loop)
        return await self.connector.connect(request, [], self._timeout)

    def give_back(self, origin: str, connection: Connection) -> None:
        """Keep the connection for the next request, or close it."""
        if not _is_reusable(connection):
            connection.close()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        idle.append((self._loop.time(), connection))
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(self._idle_seconds, self._sweep)

    def close(self) -> None:
        """Close the idle connections."""
        for idle in self._idle.values():
            for _, connection in idle:
                connection.close()
        self._idle.clear()

    def _sweep(self) -> None:
        """Close what was idle for too long."""
        earliest = self._loop.time() - self._idle_seconds
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0][0] <= earliest or not _is_reusable(idle[0][1])):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[origin]
        self._is_sweeping = bool(self._idle)
        if self._is_sweeping:
            self._loop.call_later(self._idle_seconds / 4, self._sweep)


def protocol_of(connection: Connection) -> ReceiverConnection:
    """The protocol of a connection that is open."""
    return cast("ReceiverConnection", connection.protocol)


def _is_reusable(connection: Connection) -> bool:
    protocol = connection.protocol
    return isinstance(protocol, ReceiverConnection) and protocol.is_reusable
