"""The cheapest HTTP/1.1 client in Python, so that a benchmark measures the server.

Requests are bytes that are built in advance. Of a response only the status and the length are read.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self, cast

import msgspec

HOST = "127.0.0.1"


class UnexpectedAnswer(Exception):
    """The server returned an unexpected response."""


class Answer(msgspec.Struct, frozen=True):
    """A complete response."""

    status: int
    body: bytes


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def post(
    path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """A POST request."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\n{more}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """A persistent connection with one request in flight at a time."""

    def __init__(
        self,
        answered: Callable[["Connection", Answer], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._answered = answered
        self._lost = lost
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._lost(error or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        # An error raised here would only be logged by the loop, and the caller would hang.
        try:
            answer = _parse_answer(self._received)
            if answer:
                self._received = b""
                self._answered(self, answer)
        except Exception as error:
            self._lost(error)

    def send(self, request: bytes) -> None:
        """Send ``request``; the response is passed to ``answered``."""
        if self._transport is None:
            raise ConnectionResetError("the server closed the connection")
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport:
            self._transport.close()


def _parse_answer(received: bytes) -> Answer | None:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise UnexpectedAnswer(f"an answer without a length: {head[:200]!r}")
    length = int(head[start + 17 :].split(b"\r\n", 1)[0])
    body = received[end + 4 :]
    return Answer(int(head[9:12]), body) if len(body) >= length else None


class Client:
    """Sends one request at a time."""

    def __init__(self) -> None:
        self._connection = Connection(self._on_answer, self._on_lost)
        self._response: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        client = cls()
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: client._connection, HOST, port)
        return client

    async def ask(self, request: bytes) -> Answer:
        """Send ``request`` and return the response; raises ConnectionError without one."""
        self._response = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        return await self._response

    async def expect(self, status: int, request: bytes) -> bytes:
        """Send ``request`` and return the body of a response that must have this status."""
        answer = await self.ask(request)
        if answer.status != status:
            raise UnexpectedAnswer(f"{answer.status}: {answer.body[:500]!r}")
        return answer.body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _on_answer(self, _: Connection, answer: Answer) -> None:
        if self._response and not self._response.done():
            self._response.set_result(answer)

    def _on_lost(self, error: Exception) -> None:
        if self._response and not self._response.done():
            self._response.set_exception(error)


class Load:
    """Sends requests as fast as responses arrive, one in flight per connection."""

    def __init__(self, requests: Sequence[bytes], check: Callable[[Answer], None]) -> None:
        self._requests: Iterator[bytes] = iter(requests)
        self._check = check
        self._unanswered = len(requests)
        self._sent: dict[Connection, float] = {}
        #: How long each answer took, in seconds, in the order of the answers.
        self.latencies: list[float] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, port: int, in_flight: int) -> float:
        """Send everything; return the seconds from the first request to the last response."""
        loop = asyncio.get_running_loop()
        connections = [Connection(self._on_answer, self._on_lost) for _ in range(in_flight)]
        for connection in connections:
            await loop.create_connection(lambda opened=connection: opened, HOST, port)  # type: ignore[misc]
        start = time.perf_counter()
        for connection in connections:
            self._send_next(connection)
        await self._done
        took = time.perf_counter() - start
        for connection in connections:
            connection.close()
        return took

    def _send_next(self, connection: Connection) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._sent[connection] = time.perf_counter()
            connection.send(request)

    def _on_answer(self, connection: Connection, answer: Answer) -> None:
        self.latencies.append(time.perf_counter() - self._sent[connection])
        self._check(answer)
        self._unanswered -= 1
        if self._unanswered:
            self._send_next(connection)
        elif not self._done.done():
            self._done.set_result(None)

    def _on_lost(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
