"""Redis as a peer: a stream to which every event is added, ``appendfsync always``."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers
from bench.http1 import HOST, UnexpectedAnswer
from bench.servers import Server

_KEY = b"events"


class Outcome:
    """What one load did."""

    def __init__(self, rate: float, latencies: list[float]) -> None:
        """Events a second, and how long each request took (s), in any order."""
        self.rate = rate
        self.latencies = sorted(latencies)


@asynccontextmanager
async def redis() -> AsyncIterator[Server]:
    """Run Redis with an append-only file that is synced before each answer."""
    program = servers.find_program("redis-server", "redis-server")
    with TemporaryDirectory(prefix="redis-bench-") as name:
        port = servers.free_port()
        options = {
            "port": port,
            "bind": HOST,
            "dir": name,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        command = [program]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        async with servers.listening(tuple(command), Path(name), port) as server:
            yield server


async def add(port: int, bodies: Sequence[bytes], events_a_request: int, in_flight: int) -> Outcome:
    """Add every event; raises UnexpectedAnswer unless all are there afterwards."""
    parts = [
        b"".join(map(_xadd, bodies[start : start + events_a_request]))
        for start in range(0, len(bodies), events_a_request)
    ]
    waiting, latencies = iter(parts), list[float]()

    async def lane() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        for part in waiting:
            begun = time.perf_counter()
            writer.write(part)
            await _replies(reader, part.count(b"\r\nXADD\r\n"))
            latencies.append(time.perf_counter() - begun)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(in_flight)))
    rate = len(bodies) / (time.perf_counter() - start)
    if await _length(port) < len(bodies):
        raise UnexpectedAnswer("Redis has fewer events than it acknowledged")
    return Outcome(rate, latencies)


def _xadd(body: bytes) -> bytes:
    return _command(b"XADD", _KEY, b"*", b"event", body)


def _command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


async def _replies(reader: asyncio.StreamReader, count: int) -> None:
    """Await so many replies to XADD: a line with the length of an id, and one with the id."""
    lines, received = 0, b""
    while lines < 2 * count:
        received = await reader.read(1 << 16)
        if not received or received.startswith(b"-"):
            raise UnexpectedAnswer(f"Redis: {received[:200]!r}")
        lines += received.count(b"\r\n")


async def _length(port: int) -> int:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(_command(b"XLEN", _KEY))
    line = await reader.readline()
    writer.close()
    return int(line[1:])
