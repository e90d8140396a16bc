"""A receiver of webhooks that costs as little as Python can, in a process of its own.

It answers ``POST /ok/NAME`` at once, and ``POST /slow/NAME`` after a second. ``GET /arrivals``
returns, for each path, the ``webhook-id`` and the time of each request in seconds since 1970.
``GET /count`` returns the number of requests.
"""

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench.http1 import HOST

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: Seconds that a slow answer takes.
SLOW_SECONDS = 1.0

Arrivals = dict[str, list[tuple[str, float]]]


class _Connection(asyncio.Protocol):
    """Reads complete requests, one after another."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = int(_header(head, b"content-length") or 0)
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if method == b"POST":
            self._take(path.decode(), _header(head, b"webhook-id").decode())
        elif path == b"/count":
            self._send(sum(map(len, self._arrivals.values())))
        else:
            self._send(self._arrivals)

    def _send(self, value: object) -> None:
        body = msgspec.json.encode(value)
        self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _take(self, path: str, id: str) -> None:
        self._arrivals.setdefault(path, []).append((id, time.time()))
        if path.startswith("/slow/"):
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._write, _OK)
        else:
            self._write(_OK)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _header(head: bytes, name: bytes) -> bytes:
    lower = head.lower()
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = lower.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


async def _serve(port: int) -> None:
    arrivals: Arrivals = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(arrivals), HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
