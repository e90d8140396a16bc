"""How long 1,000 readers take that resume 10,000 events back, beside the same bytes over sockets.

The events are recorded first; then every reader connects and reads from the start to the newest
event. The peer sends what one reader of Deploylog received, byte by byte, to as many connections.
Every reader must get every event; the bytes between are counted, not parsed.
"""

import asyncio
import select
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers
from bench.http1 import UnexpectedAnswer
from bench.publisher import Plan, publishing
from bench.readers import Crowd, Reader
from bench.report import OURS, Report, fdatasync_us
from bench.servers import Server

_PATH = "/log/v1/events/stream?scope=project/bench&from=start"
_PLAN = Plan(path="/log/v1/events?scope=project/bench", events=0, events_a_request=100)
_READ_BYTES = 1 << 18
_PATIENCE = 600


async def measure(report: Report, run: int, readers: int, events: int) -> None:
    """One run of ours, and of the peer."""
    with TemporaryDirectory(prefix="resume-bench-") as name:
        answer = Path(name) / "answer"
        async with servers.deploylog() as server:
            plan = Plan(path=_PLAN.path, events=events, events_a_request=100)
            with publishing(server.port, plan):
                pass
            answer.write_bytes(_one_answer(server, events))
            wait = fdatasync_us(server.directory)
            ours = _read_all(server.port, readers, events)
            memory = peak_mb(server)
        port = servers.free_port()
        command = (sys.executable, "-m", "bench.sockets", str(port), str(answer))
        async with servers.running(command, Path(name), port, path="/readyz"):
            theirs = _read_all(port, readers, events)
    case = f"{readers:,} resume {events:,} back"
    report.add(
        case,
        OURS,
        run,
        seconds=ours,
        rate=readers * events / ours,
        peak_mb=memory,
        fdatasync_us=wait,
    )
    report.add(case, "sockets", run, seconds=theirs, rate=readers * events / theirs)


def peak_mb(server: Server) -> float:
    """The most memory that the server had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _one_answer(server: Server, events: int) -> bytes:
    with Crowd(server.port, _PATH, 1) as crowd:
        [reader] = crowd.readers
        deadline = time.monotonic() + _PATIENCE
        while len(found := _numbers(reader)) < events:
            if time.monotonic() > deadline:
                raise UnexpectedAnswer(f"a reader got {len(found)} of {events} events")
            crowd.collect_until_quiet(0.5)
        if found != list(range(events)):
            raise UnexpectedAnswer("a reader has an event twice, or out of order")
        return b"".join(arrival.data for arrival in reader.arrivals)


def _numbers(reader: Reader) -> list[int]:
    marks = (frame.text.partition(b'"seq":"')[2][:6] for frame in reader.frames())
    return [int(mark) for mark in marks if mark]


def _read_all(port: int, readers: int, events: int) -> float:
    """The seconds from the first connection until every reader has every event."""
    start = time.perf_counter()
    with Crowd(port, _PATH, readers) as crowd:
        by_fd = {reader.socket.fileno(): reader.socket for reader in crowd.readers}
        found, last = dict.fromkeys(by_fd, 0), dict.fromkeys(by_fd, b"")
        buffer, poll = bytearray(_READ_BYTES), select.epoll()
        view = memoryview(buffer)
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        unfinished, deadline = set(by_fd), time.monotonic() + _PATIENCE
        while unfinished:
            if time.monotonic() > deadline:
                raise UnexpectedAnswer(f"{len(unfinished)} readers do not have everything")
            for fd, _ in poll.poll(1):
                size = by_fd[fd].recv_into(buffer)
                if not size:
                    raise UnexpectedAnswer("the server ended a stream")
                # An event ends with an empty line, and no other line is empty.
                found[fd] += buffer.count(b"\n\n", 0, size) + (last[fd] == b"\n" == view[:1])
                last[fd] = bytes(view[size - 1 : size])
                if found[fd] >= events:
                    unfinished.discard(fd)
        took = time.perf_counter() - start
        poll.close()
    if any(number != events for number in found.values()):
        raise UnexpectedAnswer("a reader got another number of events")
    return took


def run_once(readers: int, events: int) -> None:
    """Measure once, and print."""
    report = Report("resume")
    asyncio.run(measure(report, 1, readers, events))
    report.print_table()
