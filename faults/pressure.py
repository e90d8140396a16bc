"""Press the service with slow readers, and with more bytes of requests than it may hold.

Thousands of clients follow one stream, and a tenth of them stops reading for a while, with small
buffers. None may skip an event or be cut off, and the memory of the service stays bounded. Then
many clients send large bodies and do not finish them: over its budget the service refuses with 503
and ``Retry-After``, tells it in metrics, goes on recording what is small, and recovers.
"""

import asyncio
import re
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from bench import servers
from bench.http1 import HOST, Client, get, post
from bench.samples import NDJSON
from bench.servers import Server

from faults.suite import Outcome, Suite, Trial

_PATH = "/log/v1/events?source=pressure&scope=project/pressure"
_STREAM = "/log/v1/events/stream?scope=project/pressure&from=start"

#: Events a request, bytes of each, and seconds between two requests.
_BATCH, _EVENT_BYTES, _PACE_SECONDS = 10, 2_000, 0.5

#: Bytes that a stalled client takes before it is stalled, and of each segment.
_STALLED_BYTES, _STALLED_SEGMENT = 4_096, 536

#: One in this many clients stalls.
_STALLED = 10

#: Seconds for the slowest client to catch up.
_CATCH_UP_SECONDS = 180

#: The budget of streams in MiB, and memory that the service may use beside what it uses when idle,
#: in MB: for that budget, and for what the buffer of each client may hold.
_STREAM_MIB, _STREAM_MB, _MB_A_CLIENT = 32, 64, 0.02

#: Clients that send bodies, bytes of each body, the budget in MiB, and memory for it in MB: events
#: that are parsed take more than their bytes.
_SENDERS, _BODY_BYTES, _BUDGET_MIB, _BODIES_MB = 60, 4 << 20, 32, 160

_NUMBER = re.compile(rb'"subject":\s*"(\d{8})"')


async def run(trial: Trial) -> Outcome:
    """Readers first, then bodies, each on a service of its own."""
    figures: dict[str, float | int | str] = {}
    found: list[str] = []
    for part in (_Readers(trial), _Bodies(trial)):
        found += await part.run(figures)
    return Outcome(figures=figures, findings=found)


class _Readers:
    """Many readers, of which some stall."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    async def run(self, figures: dict[str, float | int | str]) -> list[str]:
        """Follow, stall, catch up; return what was found."""
        clients = self._trial["clients"]
        options = (
            "--max-streams-per-principal", str(clients + 10),
            "--max-connections", str(clients + 100),
            "--heartbeat-seconds", "5",
            "--max-stream-memory-mib", str(_STREAM_MIB),
        )  # fmt: skip
        program = self._trial.program
        async with servers.deploylog(options=options, program=program) as server:
            crowd = await asyncio.to_thread(_Crowd, server.port, clients)
            idle = _memory_mb(server)
            publishing = asyncio.create_task(self._publish(server.port))
            await asyncio.to_thread(crowd.read, self._trial["stall_seconds"], stalls=True)
            events = await publishing
            await asyncio.to_thread(crowd.read_until, events)
            peak = _memory_mb(server, "VmHWM")
            found = crowd.faults(events)
            crowd.close()
        allowed = _STREAM_MB + _MB_A_CLIENT * clients
        figures |= {
            "clients": clients,
            "stalled": crowd.stalled,
            "events": events,
            "deliveries": events * clients,
            "memory_idle_mb": round(idle),
            "memory_peak_mb": round(peak),
        }
        if peak - idle > allowed:
            found.append(f"streams took {peak - idle:.0f} MB, more than {allowed:.0f}")
        return found

    async def _publish(self, port: int) -> int:
        """Publish until the stall is over; return how many events."""
        client = await Client.open(port)
        number = 0
        end = time.monotonic() + self._trial["stall_seconds"]
        while time.monotonic() < end:
            lines = [
                {"type": "a.b", "subject": f"{n:08}", "message": "x" * _EVENT_BYTES}
                for n in range(number, number + _BATCH)
            ]
            body = b"\n".join(map(msgspec.json.encode, lines))
            await client.expect(201, post(_PATH, body, NDJSON))
            number += _BATCH
            await asyncio.sleep(_PACE_SECONDS)
        return number


class _Reader:
    """One client of the stream: how far it has read."""

    def __init__(self, port: int, number: int) -> None:
        self.stalls = number % _STALLED == 0
        # Each of these with a view of its own, so that no two share what they buffer.
        path = f"{_STREAM}&type!=none.n{number}" if self.stalls else _STREAM
        self.socket = socket.socket()
        if self.stalls:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BYTES)
            # As over a network: else the kernel buffers megabytes for each.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _STALLED_SEGMENT)
        self.socket.connect((HOST, port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.socket.setblocking(False)
        self.read = 0
        self.fault = ""
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Look at what has arrived: the numbers of the events, which must follow each other."""
        if not data:
            self.fault = self.fault or f"was cut off after {self.read} events"
        data = self._rest + data
        end = 0
        for match in _NUMBER.finditer(data):
            end = match.end()
            if int(match[1]) != self.read:
                self.fault = self.fault or f"got event {int(match[1])} after {self.read - 1}"
            self.read = int(match[1]) + 1
        self._rest = data[max(end, len(data) - 64) :]


class _Crowd:
    """All readers, in one thread."""

    def __init__(self, port: int, size: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if size + 200 > hard:
            raise servers.Unavailable(f"{size} clients need more open files than {hard}")
        self._readers = {}
        self._epoll = select.epoll()
        for number in range(size):
            reader = _Reader(port, number)
            self._readers[reader.socket.fileno()] = reader
            self._epoll.register(reader.socket, select.EPOLLIN)
        self.stalled = sum(each.stalls for each in self._readers.values())

    def read(self, seconds: float, *, stalls: bool) -> None:
        """Read what arrives; those that stall do not, if ``stalls``."""
        self._register(stalled=not stalls)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read_once()

    def read_until(self, events: int) -> None:
        """Let everybody read, until each has that many events or time is up."""
        self._register(stalled=True)
        end = time.monotonic() + _CATCH_UP_SECONDS
        while time.monotonic() < end:
            self._read_once()
            if all(each.read >= events or each.fault for each in self._readers.values()):
                return

    def _register(self, *, stalled: bool) -> None:
        for fd, reader in self._readers.items():
            if reader.stalls:
                self._epoll.modify(fd, select.EPOLLIN if stalled else 0)

    def _read_once(self) -> None:
        for fd, _ in self._epoll.poll(0.2):
            reader = self._readers[fd]
            data = reader.socket.recv(1 << 18)
            reader.take(data)
            if not data:
                self._epoll.unregister(fd)

    def faults(self, events: int) -> list[str]:
        """What is wrong with what was read."""
        return [f"a client {fault}" for fault in self._faults(events)]

    def _faults(self, events: int) -> Iterator[str]:
        for each in self._readers.values():
            if each.fault:
                yield each.fault
            elif each.read < events:
                yield f"has {each.read} of {events} events"

    def close(self) -> None:
        self._epoll.close()
        for each in self._readers.values():
            each.socket.close()


class _Bodies:
    """Many large bodies, none of which is finished."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    async def run(self, figures: dict[str, float | int | str]) -> list[str]:
        """Send, look, and let go; return what was found."""
        options = ("--max-request-memory-mib", str(_BUDGET_MIB))
        program = self._trial.program
        async with servers.deploylog(options=options, program=program) as server:
            idle = _memory_mb(server)
            client = await Client.open(server.port)
            senders = [asyncio.create_task(_send_most(server.port)) for _ in range(_SENDERS)]
            await asyncio.sleep(2)
            held = await _held(client)
            small = await client.ask(post(_PATH, b'{"type":"a.b"}', NDJSON))
            refusals = [each.result() for each in senders if each.done()]
            for each in senders:
                each.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            peak = _memory_mb(server, "VmHWM")
            found = await _left(client)
        figures |= {
            "bodies": _SENDERS,
            "bodies_mib": _SENDERS * _BODY_BYTES >> 20,
            "bodies_refused": len(refusals),
            "bodies_held_mib": held >> 20,
            "bodies_memory_mb": round(peak - idle),
        }
        if small.status != 201:
            found.append(f"what is small gets {small.status}")
        if not refusals or not all(b" 503 " in each[:20] for each in refusals):
            found.append(f"{len(refusals)} bodies were refused: {refusals[:1]}")
        if not all(b"retry-after: " in each.lower() for each in refusals):
            found.append("a refusal says not when to come back")
        if held > _BUDGET_MIB << 20:
            found.append(f"bodies hold {held} bytes")
        if peak - idle > _BODIES_MB:
            found.append(f"bodies took {peak - idle:.0f} MB")
        return found


async def _send_most(port: int) -> bytes:
    """Send a body but for its end; return the answer that comes all the same."""
    reader, writer = await asyncio.open_connection(HOST, port)
    head = f"POST {_PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {NDJSON}\r\n"
    writer.write(f"{head}Content-Length: {_BODY_BYTES}\r\n\r\n".encode())
    try:
        writer.write(b" " * (_BODY_BYTES - 1))
        answer = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    return answer


async def _held(client: Client) -> int:
    metrics = (await client.ask(get("/metrics"))).body
    found = re.search(rb"^deploylog_request_body_bytes (\S+)$", metrics, re.MULTILINE)
    return int(float(found[1])) if found is not None else -1


async def _left(client: Client) -> list[str]:
    """Whether all was given back, and the refusals were told."""
    for _ in range(50):
        if await _held(client) == 0:
            break
        await asyncio.sleep(0.1)
    else:
        return ["bodies hold bytes although their clients are gone"]
    metrics = (await client.ask(get("/metrics"))).body
    told = b'deploylog_errors_total{kind="Overloaded"}' in metrics
    return [] if told else ["metrics do not tell the refusals"]


def _memory_mb(server: Server, figure: str = "VmRSS") -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{figure}:")]
    return int(line.split()[1]) / 1024


SUITE = Suite(
    name="pressure",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("sqlite",),
    protections={"sqlite": ("flow", "budget")},
    numbers={"clients": 2_000, "stall_seconds": 15},
)

if __name__ == "__main__":
    SUITE.main()
