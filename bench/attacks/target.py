"""The target of an attack: an address, a read-only key, and raw connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec

from bench.http1 import HOST, Client

_PIECE = 64 * 1024


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The server under attack."""

    port: int
    #: Of a principal that may read everything and write nothing.
    reader_key: str
    #: Of a principal that may only write, for events that an attack needs.
    writer_key: str

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """One connection, closed at the end."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def send(self, pieces: Iterable[bytes]) -> bytes:
        """Send as much as the server accepts; return its response until it closes or stalls."""
        received = b""
        with suppress(ConnectionError):
            async with self.connection() as (reader, writer):
                with suppress(ConnectionError):
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                received = await reader.read(_PIECE)
        return received

    def request(self, method: str, path: str, body: bytes, *headers: str) -> bytes:
        """Return a request with the read-only key."""
        return _request(self.reader_key, method, path, body, *headers)

    async def append(self, number: int, *, batch: int, size: int) -> None:
        """Record events, each with data of this size."""
        event = {"source": "attack", "scopes": "project/attacked", "subject": "web"}
        lines = (
            msgspec.json.encode({**event, "type": f"load.test.{n % 50}", "data": "x" * size})
            for n in range(batch)
        )
        media = "Content-Type: application/x-ndjson"
        path = "/log/v1/events"
        request = _request(self.writer_key, "POST", path, b"\n".join(lines), media)
        client = await Client.open(self.port)
        for _ in range(number // batch):
            await client.expect(201, request)
        client.close()


def _request(key: str, method: str, path: str, body: bytes, *headers: str) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: {HOST}",
        f"X-API-Key: {key}",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def nothing(target: Target) -> None:
    """Prepare nothing."""


class Attack(msgspec.Struct, frozen=True):
    """An attack, which runs until it is cancelled."""

    run: Callable[[Target], Awaitable[None]]
    #: Runs before the attack, and before anything is measured.
    prepare: Callable[[Target], Awaitable[None]] = nothing

    @property
    def name(self) -> str:
        """Its name."""
        return self.run.__name__


async def repeat(target: Target, pieces: list[bytes], *, at_once: int) -> None:
    """Send the same request repeatedly, on several connections, until cancelled."""

    async def one() -> None:
        while True:
            await target.send(pieces)
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(one())
