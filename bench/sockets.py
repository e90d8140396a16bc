"""Bare sockets as a peer: every connection that asks for something gets the bytes of a file.

The arguments are the port and the file.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.http1 import HOST


class _Connection(asyncio.Protocol):
    """Answers one request."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if data.startswith(b"GET /readyz"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif data.endswith(b"\r\n\r\n"):
            self._transport.write(self._answer)


async def _serve(port: int, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answer), HOST, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
