"""A crowd of SSE readers in one process, cheap enough that a benchmark measures the server.

While events flow the readers only store chunks and their times, and parse them afterwards.
"""

import resource
import select
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple, Self

from bench.http1 import HOST, UnexpectedAnswer

_READ_BYTES = 1 << 18

_REQUEST = "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"


class Arrival(NamedTuple):
    """Bytes that a reader received, and when (ns since 1970)."""

    time: int
    data: bytes


class Frame(NamedTuple):
    """One SSE event as received, and when its end arrived."""

    time: int
    text: bytes


class Reader:
    """One open stream."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setblocking(False)
        self.arrivals: list[Arrival] = []
        self.socket.send(_REQUEST.format(path=path, host=HOST).encode())

    @property
    def is_answered(self) -> bool:
        """Whether the head of the response has arrived."""
        return b"\r\n\r\n" in b"".join(arrival.data for arrival in self.arrivals)

    def frames(self) -> Iterator[Frame]:
        """Yield every complete event so far."""
        body = _Body()
        rest = b""
        for arrived, data in self.arrivals:
            *texts, rest = (rest + body.feed(data)).split(b"\n\n")
            yield from (Frame(arrived, text) for text in texts)


class Crowd:
    """Many open streams of one server."""

    def __init__(self, port: int, path: str, size: int) -> None:
        _allow_open_files(size + 100)
        self.readers = [Reader(port, path) for _ in range(size)]
        self._by_fd = {reader.socket.fileno(): reader for reader in self.readers}
        self._epoll = select.epoll()
        for fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for reader in self.readers:
            reader.socket.close()

    def wait_for_heads(self, seconds: float) -> None:
        """Return once every reader has received the head of a 200."""
        deadline = time.monotonic() + seconds
        while not all(reader.is_answered for reader in self.readers):
            if time.monotonic() > deadline:
                raise UnexpectedAnswer(f"not every stream has started after {seconds} s")
            self.collect_until_quiet(0.1)
        for reader in self.readers:
            if b" 200 " not in reader.arrivals[0].data[:16]:
                raise UnexpectedAnswer(repr(reader.arrivals[0].data[:300]))

    def collect_until_quiet(self, seconds: float) -> None:
        """Store what arrives, until nothing has arrived for ``seconds``."""
        buffer = bytearray(_READ_BYTES)
        view = memoryview(buffer)
        by_fd, poll, clock = self._by_fd, self._epoll.poll, time.time_ns
        while ready := poll(seconds):
            for fd, _ in ready:
                reader = by_fd[fd]
                size = reader.socket.recv_into(buffer)
                if not size:
                    raise UnexpectedAnswer("the server ended a stream")
                reader.arrivals.append(Arrival(clock(), bytes(view[:size])))


class _Body:
    """Extracts the body of a response from its pieces, without the head and chunk sizes."""

    def __init__(self) -> None:
        self._rest = b""
        self._has_head = False
        self._is_chunked = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that ``data`` completes."""
        self._rest += data
        if not self._has_head:
            self._take_head()
        if not self._has_head:
            return b""
        if self._is_chunked:
            return b"".join(self._take_chunks())
        body, self._rest = self._rest, b""
        return body

    def _take_head(self) -> None:
        head, end, body = self._rest.partition(b"\r\n\r\n")
        if end:
            self._has_head = True
            self._is_chunked = b"transfer-encoding: chunked" in head.lower()
            self._rest = body

    def _take_chunks(self) -> Iterator[bytes]:
        start = 0
        while (border := self._rest.find(b"\r\n", start)) >= 0:
            end = border + 2 + int(self._rest[start:border].split(b";")[0], 16)
            if len(self._rest) < end + 2:
                break
            yield self._rest[border + 2 : end]
            start = end + 2
        self._rest = self._rest[start:]


def _allow_open_files(count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < count:
        raise UnexpectedAnswer(f"{count} open files are needed and {hard} allowed (ulimit -Hn)")
