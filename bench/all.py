"""Everything that is measured, beside every peer, in one run: medians, ratios, and the goals.

Parts: p1 and p2 ingest, p3 and p4 streams, p5 queries, p6 webhooks, p7 readers that catch up, p8
start, memory and disk, p9 the store in PostgreSQL, curves. Each prints a JSON line a measurement;
at the end there is one table of medians and one of the goals. A run with a wrong or missing answer
gives no figure.

``--log`` adds the lines to a file too, and ``--from`` takes those of earlier runs into the tables,
so that a machine that is only yours at times can be measured part by part.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import (
    filled,
    footprint,
    goals,
    ingest,
    jetstream,
    ownpostgres,
    pages,
    postgres,
    redispeer,
    resume,
    servers,
    stream,
    webhooks,
)
from bench.http1 import UnexpectedAnswer
from bench.redispeer import Outcome
from bench.report import Report, fdatasync_us, percentile
from bench.samples import resource_event
from bench.servers import Server
from bench.stream import Subject

_READERS = 1_000
_RESUMED = 10_000
_DELIVERIES = 19_200
_BATCHED, _SINGLE = 40_000, 15_000
#: JetStream syncs each message, so that fewer of them say as much.
_JETSTREAM_EVENTS = 6_000
_QUERIES = 200
_IDLE_SECONDS = 30
#: One event an ack, so many that segments are sealed meanwhile.
_OVER_SEGMENTS = 150_000
_PACES = (50, 100)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    rounds: int
    #: The largest store.
    events: int
    queries: int
    readers: int
    resumed: int
    deliveries: int

    @property
    def sizes(self) -> list[int]:
        """The stores to query: powers of ten up to the largest."""
        sizes = [size for size in (10_000, 100_000, 1_000_000) if size < self.events]
        return [*sizes, self.events]

    @property
    def in_postgres(self) -> int:
        """The store to copy to PostgreSQL."""
        return min(self.events, ownpostgres.MAX_EVENTS)


# Ingest


async def _p1(report: Report, run: int, wanted: Run) -> None:
    with report.part("P1"):
        await ingest.measure_batches(report, run, _BATCHED)
    await _peers_of_ingest(report, "P1 batch", run, at_once=ingest.BATCH)


async def _p2(report: Report, run: int, wanted: Run) -> None:
    with report.part("P2"):
        await ingest.measure_singles(report, run, _SINGLE)
    await _peers_of_ingest(report, "P2 single", run, at_once=1)


async def _peers_of_ingest(report: Report, case: str, run: int, *, at_once: int) -> None:
    number = _BATCHED if at_once > 1 else _SINGLE
    events = list(_events(number))
    scopes = [filled.DEPLOYMENTS[each % 20].scopes[0] for each in range(number)]
    bodies = [
        msgspec.json.encode({"specversion": "1.0", "source": "terraform", "scopes": scope} | event)
        for event, scope in zip(events, scopes, strict=True)
    ]
    few = bodies[:_JETSTREAM_EVENTS]
    in_flight = ingest.IN_FLIGHT

    async with jetstream.jetstream() as server:
        outcome = await jetstream.publish(server.port, few, in_flight * at_once)
    _add_outcome(report, case, "jetstream", run, outcome)
    if at_once > 1:
        async with jetstream.jetstream() as server:
            outcome = await jetstream.publish_batches(server.port, few, at_once)
        _add_outcome(report, case, "jetstream-atomic", run, outcome)
    async with redispeer.redis() as server:
        outcome = await redispeer.add(server.port, bodies, at_once, in_flight)
    _add_outcome(report, case, "redis", run, outcome)
    outcome = await postgres.insert(events, scopes, at_once, in_flight)
    _add_outcome(report, case, "postgresql", run, outcome)


def _events(number: int) -> Iterator[dict[str, object]]:
    for each in range(number):
        yield resource_event(filled.DEPLOYMENTS[each % 20], each)  # type: ignore[arg-type]


def _add_outcome(report: Report, case: str, subject: str, run: int, outcome: Outcome) -> None:
    figures = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    latencies = {
        name: percentile(outcome.latencies, share) * 1e3 for name, share in figures.items()
    }
    with TemporaryDirectory() as name:
        wait = fdatasync_us(Path(name))
    report.add(case, subject, run, rate=outcome.rate, **latencies, fdatasync_us=wait)


# Streams


@asynccontextmanager
async def _sse_starlette() -> AsyncIterator[Server]:
    port = servers.free_port()
    command = (sys.executable, "-m", "bench.ssepeer", str(port))
    with TemporaryDirectory(prefix="sse-bench-") as name:
        async with servers.running(command, Path(name), port, path="/readyz") as server:
            yield server


def _subjects() -> list[Subject]:
    nchan = next(subject for subject in stream.SUBJECTS if subject.name == "nchan")
    peer = msgspec.structs.replace(nchan, name="sse-starlette", start=_sse_starlette)
    return [*stream.SUBJECTS, peer]


async def _p3(report: Report, run: int, wanted: Run) -> None:
    for case in ("burst single", "burst"):
        for subject in _subjects():
            with report.part("P3"):
                await stream.measure_burst(report, subject, case, run, wanted.readers)


async def _p4(report: Report, run: int, wanted: Run) -> None:
    for pace in _PACES:
        for subject in stream.SUBJECTS:
            plan = msgspec.structs.replace(subject.paced, pace=pace, events=pace * 8)
            paced = msgspec.structs.replace(subject, paced=plan)
            with report.part(f"P4 {pace}/s"):
                await stream.measure_paced(report, paced, run, wanted.readers)


async def _p7(report: Report, run: int, wanted: Run) -> None:
    with report.part("P7"):
        await resume.measure(report, run, wanted.readers, wanted.resumed)


# Queries


async def _p5(report: Report, run: int, wanted: Run) -> None:
    with report.part("P5"):
        for events in wanted.sizes:
            await pages.measure(report, run, events, wanted.queries)
            if events == 1_000_000:
                await postgres.measure(report, run, events, wanted.queries)
        if run == 1:
            await pages.measure_worst(report, run, min(wanted.events, 1_000_000))


# PostgreSQL as the store


async def _p9(report: Report, run: int, wanted: Run) -> None:
    with report.part("P9"):
        await ownpostgres.measure_batches(report, run, _BATCHED)
        await ownpostgres.measure_singles(report, run, _SINGLE)
        await ownpostgres.measure_processes(report, run, _BATCHED, _SINGLE)
        await ownpostgres.measure_pages(report, run, wanted.in_postgres, wanted.queries)


# Webhooks


async def _p6(report: Report, run: int, wanted: Run) -> None:
    peer = await webhooks.bare_rate(wanted.deliveries)
    with report.part("P6"):
        for case in ("per_deployment", "strict"):
            await webhooks.measure(report, case, run, wanted.deliveries, peer)
            report.add(case, "alertmanager", run, rate=await webhooks.alertmanager_rate())


# Size


async def _p8(report: Report, run: int, wanted: Run) -> None:
    with report.part("P8"):
        for events in wanted.sizes:
            await footprint.measure_start(report, run, events)
        for events in {wanted.sizes[0], wanted.events}:
            await footprint.measure_readers(report, run, events, wanted.readers)
        if run == 1:
            for events in wanted.sizes:
                footprint.measure_disk(report, events)


async def _curves(report: Report, run: int, wanted: Run) -> None:
    """Measure the figures without a goal: the expensive ones in the first run only."""
    with report.part("curve"):
        await footprint.measure_head(report, run)
        if run > 1:
            return
        for events in (0, wanted.events):
            await footprint.measure_ingest(report, run, events, _BATCHED, _OVER_SEGMENTS)
        await footprint.measure_idle(report, run, wanted.events, _IDLE_SECONDS)


_PARTS: dict[str, Callable[[Report, int, Run], Awaitable[None]]] = {
    "p1": _p1,
    "p2": _p2,
    "p3": _p3,
    "p4": _p4,
    "p5": _p5,
    "p6": _p6,
    "p7": _p7,
    "p8": _p8,
    "p9": _p9,
    "curves": _curves,
}
#: Parts whose clients are plain sockets and epoll, which want no event loop that competes.
_ON_ASYNCIO = ("p3", "p4", "p7")


def _measure(report: Report, parts: list[str], wanted: Run, first_round: int) -> None:
    for run in range(first_round, first_round + wanted.rounds):
        for part in parts:
            runner = asyncio.run if part in _ON_ASYNCIO else uvloop.run
            runner(_PARTS[part](report, run, wanted))  # type: ignore[operator]


def _fill(parts: list[str], wanted: Run) -> None:
    """Make the stores before anything is measured."""
    if {"p5", "p8", "curves"} & set(parts):
        for events in wanted.sizes:
            filled.ensure(events)
    if "p9" in parts:
        filled.ensure(wanted.in_postgres)
    if "curves" in parts:
        filled.ensure(footprint.HEAD_EVENTS)


def _print(report: Report) -> None:
    report.print_table()
    table = Table(title="goals")
    for column in ("part", "goal", "measured", "met"):
        table.add_column(column)
    for row in goals.rows(report):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first-round", type=int, default=1, help="its number, in --log")
    parser.add_argument("--events", type=int, default=10_000_000, help="of the largest store")
    parser.add_argument("--queries", type=int, default=_QUERIES, help="of each case and round")
    parser.add_argument("--readers", type=int, default=_READERS)
    parser.add_argument("--resumed", type=int, default=_RESUMED, help="events that a reader lacks")
    parser.add_argument(
        "--deliveries", type=int, default=_DELIVERIES, help="of webhooks, 4,096 or more"
    )
    parser.add_argument("--log", type=Path, metavar="PATH", help="add every line to this file too")
    parser.add_argument(
        "--from", type=Path, nargs="+", default=[], metavar="PATH", dest="earlier",
        help="take the lines of earlier runs into the tables",
    )  # fmt: skip
    arguments = parser.parse_args()
    report = Report("all", log=arguments.log)
    wanted = Run(
        rounds=arguments.rounds,
        events=arguments.events,
        queries=arguments.queries,
        readers=arguments.readers,
        resumed=arguments.resumed,
        deliveries=arguments.deliveries,
    )
    for log in arguments.earlier:
        report.read(log)
    try:
        if arguments.rounds:
            _fill(arguments.only, wanted)
            _measure(report, arguments.only, wanted, arguments.first_round)
    except (servers.Unavailable, UnexpectedAnswer) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    _print(report)


if __name__ == "__main__":
    main()
