"""How fast events reach 1,000 SSE readers, against nginx with nchan in the same run.

``paced`` publishes 50 events a second, and measures from the moment before an event is sent to
the moment a reader has all of it. The others publish flat out, and count deliveries from the
first publish to the last delivery: ``burst single`` one event a request, pipelined, both alike;
``burst`` as each is best used, Deploylog in batches of 100, nchan as before, for it knows no
batches. Every reader must get every event, in order.

Deploylog writes each event to disk before any reader receives it; nchan stores it in memory only.
Both receive the same bytes. Deploylog sends more, because the log adds attributes.
``client_busy`` is the share of the time that the readers' process computed: near 1, it is the
readers that were measured.
"""

import argparse
import asyncio
import gc
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

import msgspec

from bench import servers
from bench.http1 import UnexpectedAnswer
from bench.publisher import Plan, publishing
from bench.readers import Crowd, Reader
from bench.report import OURS, Report, fdatasync_us, percentile
from bench.servers import Server

_PACE = 50
_PACED_SECONDS = 8
_BURST_EVENTS = 300
_BURST_BATCH = 100
#: Longer than a publisher needs to start.
_QUIET_SECONDS = 2.0
_TIMEOUT_SECONDS = 60

_NUMBER_AND_TIME = re.compile(rb'"seq":\s*"(\d{6})",\s*"sent":\s*"(\d+)"')


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A server to measure, and its addresses."""

    name: str
    start: Callable[[], AbstractAsyncContextManager[Server]]
    stream: str
    paced: Plan
    bursts: dict[str, Plan]


class Delivery(msgspec.Struct, frozen=True):
    """One event, at one reader; ns since 1970."""

    number: int
    sent: int
    received: int


_OURS_PATH = "/log/v1/events?scope=project/bench"
_PACED_EVENTS = _PACE * _PACED_SECONDS

SUBJECTS = (
    Subject(
        name=OURS,
        start=servers.deploylog,
        stream="/log/v1/events/stream?scope=project/bench&from=now",
        paced=Plan(path=_OURS_PATH, events=_PACED_EVENTS, pace=_PACE),
        bursts={
            "burst": Plan(path=_OURS_PATH, events=_BURST_EVENTS, events_a_request=_BURST_BATCH),
            "burst single": Plan(path=_OURS_PATH, events=_BURST_EVENTS, pipelined=True),
        },
    ),
    Subject(
        name="nchan",
        start=servers.nchan,
        stream="/sub",
        paced=Plan(path="/pub", events=_PACED_EVENTS, pace=_PACE),
        bursts=dict.fromkeys(
            ("burst", "burst single"), Plan(path="/pub", events=_BURST_EVENTS, pipelined=True)
        ),
    ),
)


async def measure_paced(report: Report, subject: Subject, run: int, readers: int) -> None:
    """Measure the latency of an event."""
    async with subject.start() as server:
        wait = fdatasync_us(server.directory)
        deliveries, busy = _deliver(server, subject, subject.paced, readers)
    took = sorted((each.received - each.sent) / 1e6 for each in deliveries)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    figures = {"p50_ms": p50, "p99_ms": p99, "client_busy": busy, "fdatasync_us": wait}
    report.add("paced", subject.name, run, **figures)


async def measure_burst(
    report: Report, subject: Subject, case: str, run: int, readers: int
) -> None:
    """Measure the deliveries per second."""
    async with subject.start() as server:
        wait = fdatasync_us(server.directory)
        deliveries, busy = _deliver(server, subject, subject.bursts[case], readers)
    rate = len(deliveries) / _span(deliveries)
    report.add(case, subject.name, run, rate=rate, client_busy=busy, fdatasync_us=wait)


def _span(deliveries: list[Delivery]) -> float:
    """Return the seconds from the first publish to the last delivery."""
    first = min(each.sent for each in deliveries)
    last = max(each.received for each in deliveries)
    return (last - first) / 1e9


def _deliver(
    server: Server, subject: Subject, plan: Plan, readers: int
) -> tuple[list[Delivery], float]:
    """Publish to a crowd; return every delivery, and the share of time the crowd computed."""
    with Crowd(server.port, subject.stream, readers) as crowd:
        crowd.wait_for_heads(_TIMEOUT_SECONDS)
        with publishing(server.port, plan), _no_garbage_collection():
            start = time.process_time()
            crowd.collect_until_quiet(_QUIET_SECONDS)
            computed = time.process_time() - start
            deliveries = _await_all(crowd, plan.events)
    return deliveries, computed / _span(deliveries)


def _await_all(crowd: Crowd, events: int) -> list[Delivery]:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        by_reader = [list(_deliveries(reader)) for reader in crowd.readers]
        if all(len(deliveries) >= events for deliveries in by_reader):
            break
        if time.monotonic() > deadline:
            raise UnexpectedAnswer(f"a reader has fewer than {events} events")
        crowd.collect_until_quiet(_QUIET_SECONDS)
    for deliveries in by_reader:
        if [each.number for each in deliveries] != list(range(events)):
            raise UnexpectedAnswer("a reader has an event twice, or out of order")
    return [each for deliveries in by_reader for each in deliveries]


def _deliveries(reader: Reader) -> Iterator[Delivery]:
    for frame in reader.frames():
        found = _NUMBER_AND_TIME.search(frame.text)
        if found:
            yield Delivery(int(found[1]), int(found[2]), frame.time)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def run(runs: int, readers: int) -> None:
    """Measure everything, peers in turn."""
    report = Report("stream")
    async with servers.nchan():
        pass  # fail now if nchan is not installed, not after a minute
    for number in range(1, runs + 1):
        for subject in SUBJECTS:
            await measure_paced(report, subject, number, readers)
        for case in ("burst", "burst single"):
            for subject in SUBJECTS:
                await measure_burst(report, subject, case, number, readers)
    report.print_table()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--readers", type=int, default=1_000)
    arguments = parser.parse_args()
    try:
        asyncio.run(run(arguments.runs, arguments.readers))
    except servers.Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
