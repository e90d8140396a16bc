"""A proxy before a PostgreSQL server, which loses connections when it is told to."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from bench.http1 import HOST

#: What a cut at COMMIT loses: the answer to it, or the COMMIT itself.
Lost = Literal["answer", "commit"]

_READ_BYTES = 1 << 16


class Proxy:
    """Forwards bytes to a port."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._next: Lost | None = None
        #: Set while bytes are forwarded; cleared, as if the network were gone.
        self._connected = asyncio.Event()
        self._connected.set()
        #: How many connections were cut.
        self.cuts = 0

    def cut_next(self, lost: Lost) -> None:
        """Cut the next connection that commits."""
        self._next = lost

    def part(self) -> None:
        """Forward nothing, and refuse nothing either: what is sent stays on its way."""
        self._connected.clear()

    def heal(self) -> None:
        """Forward again."""
        self._connected.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways."""
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        lost: list[Lost] = []
        ways = [
            asyncio.create_task(self._send(reader, back, lost)),
            asyncio.create_task(self._receive(there, writer, lost)),
        ]
        # At the end of the loop a stream's task must not be cancelled, or asyncio complains.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for each in (writer, back):
            each.transport.abort()

    async def _send(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, lost: list[Lost]
    ) -> None:
        commit = _Commit()
        with suppress(OSError):
            while data := await client.read(_READ_BYTES):
                await self._connected.wait()
                if commit.is_in(data) and self._next is not None:
                    lost.append(self._next)
                    self._next = None
                    self.cuts += 1
                    if lost == ["commit"]:
                        return
                server.write(data)
                await server.drain()

    async def _receive(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, lost: list[Lost]
    ) -> None:
        with suppress(OSError):
            while data := await server.read(_READ_BYTES):
                await self._connected.wait()
                if lost and b"COMMIT\x00" in data:
                    return
                client.write(data)
                await client.drain()


class _Commit:
    """What a COMMIT looks like on one connection: a text, or what it was prepared as."""

    def __init__(self) -> None:
        self._prepared = b""

    def is_in(self, data: bytes) -> bool:
        """Whether the client commits."""
        found = _PREPARED.search(data)
        if found is not None:
            self._prepared = b"\x00%s\x00" % found[1]
        return b"COMMIT\x00" in data or bool(self._prepared and self._prepared in data)


_PREPARED = re.compile(rb"(\w+)\x00COMMIT\x00")


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[tuple[int, Proxy]]:
    """A proxy to a port of this machine, and its own port."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], proxy
    finally:
        server.close()
