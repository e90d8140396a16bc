"""How fast events are recorded over HTTP, against raw SQLite inserts of the same rows.

``batch`` posts 100 events a request, ``single`` one event a request, both with 64 requests in
flight. Every response must be a 201, and every event must be stored. In the same run, the peers
insert the rows that Deploylog has just written:

* ``sqlite``: every row into the same tables with the same indexes, 1,000 events a commit;
* ``sqlite-bare``: events and three postings each, without any secondary index;
* ``sqlite-single``: as ``sqlite``, but one event a commit, one commit after the other.
"""

import argparse
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop

from bench import rawsqlite, servers
from bench.http1 import Answer, Client, Load, UnexpectedAnswer, get
from bench.rawsqlite import Rows
from bench.report import OURS, Report, fdatasync_us, percentile
from bench.samples import (
    Deployment,
    batch_request,
    open_deployment,
    resource_event,
    single_request,
)

BATCH = 100
IN_FLIGHT = 64
_DEPLOYMENTS = 20
_PEER_SINGLES = 2_000
#: Events sent before the clock starts.
_WARM_UP = 1_000


class _Newest(msgspec.Struct):
    position: str


class _Page(msgspec.Struct):
    events: list[_Newest]


async def measure_batches(report: Report, run: int, events: int) -> None:
    """Measure Deploylog and its peers once, at 100 events per request."""
    with TemporaryDirectory(prefix="ingest-bench-") as name:
        directory = Path(name)
        wait = fdatasync_us(directory)
        figures = await fill(directory, make_batches, events, BATCH, IN_FLIGHT)
        report.add("batch", OURS, run, **figures, fdatasync_us=wait)
        rows = rawsqlite.read_rows(directory / "deploylog.db")
        _measure_peer(report, "batch", "sqlite", run, directory, rows)
        _measure_peer(report, "batch", "sqlite-bare", run, directory, rawsqlite.bare(rows))


async def measure_singles(report: Report, run: int, events: int) -> None:
    """Measure Deploylog and its peers once, at one event per request."""
    with TemporaryDirectory(prefix="ingest-bench-") as name:
        directory = Path(name)
        wait = fdatasync_us(directory)
        figures = await fill(directory, make_singles, events, 1, IN_FLIGHT)
        report.add("single", OURS, run, **figures, fdatasync_us=wait)
        rows = rawsqlite.read_rows(directory / "deploylog.db")
        _measure_peer(report, "single", "sqlite", run, directory, rows)
        wait = fdatasync_us(directory)
        rate = rawsqlite.single_rate(rows, directory, _PEER_SINGLES)
        report.add("single", "sqlite-single", run, rate=rate, fdatasync_us=wait)


def _measure_peer(
    report: Report, case: str, subject: str, run: int, directory: Path, rows: Rows
) -> None:
    wait = fdatasync_us(directory)
    rate = rawsqlite.bulk_rate(rows, directory)
    report.add(case, subject, run, rate=rate, fdatasync_us=wait)


async def fill(
    directory: Path,
    make: Callable[[list[Deployment], range], list[bytes]],
    events: int,
    events_a_request: int,
    in_flight: int,
) -> dict[str, float]:
    """Record events in a fresh store; return events per second, and how long a response took."""
    check = check_recorded(events_a_request)
    async with servers.deploylog(directory) as server:
        deployments = await open_deployments(server.port)
        before = await _head(server.port)
        warm_up = make(deployments, range(_WARM_UP))
        await Load(warm_up, check).run(server.port, in_flight)
        requests = make(deployments, range(_WARM_UP, _WARM_UP + events))
        load = Load(requests, check)
        took = await load.run(server.port, in_flight)
        after = await _head(server.port)
    if after - before < _WARM_UP + events:
        raise UnexpectedAnswer(f"the head moved by {after - before}")
    found = _count_stored(directory / "deploylog.db", before)
    if found != _WARM_UP + events:
        raise UnexpectedAnswer(f"{_WARM_UP + events} events were acknowledged, {found} are stored")
    latencies = sorted(load.latencies)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    figures = {name: percentile(latencies, share) * 1e3 for name, share in shares.items()}
    return {"rate": events / took} | figures


async def open_deployments(port: int) -> list[Deployment]:
    client = await Client.open(port)
    stacks = (f"stack-{number % 5}" for number in range(_DEPLOYMENTS))
    deployments = [await open_deployment(client, "bench", stack) for stack in stacks]
    client.close()
    return deployments


async def _head(port: int) -> int:
    client = await Client.open(port)
    body = await client.expect(200, get("/log/v1/events?limit=1"))
    client.close()
    return int(msgspec.json.decode(body, type=_Page).events[0].position)


def check_recorded(events_a_request: int) -> Callable[[Answer], None]:
    def check(answer: Answer) -> None:
        if answer.status != 201 or answer.body.count(b'"position"') != events_a_request:
            raise UnexpectedAnswer(f"{answer.status}: {answer.body[:500]!r}")

    return check


def make_batches(deployments: list[Deployment], numbers: range) -> list[bytes]:
    parts = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    turns = [deployments[part[0] // BATCH % len(deployments)] for part in parts]
    return [
        batch_request(deployment, (resource_event(deployment, number) for number in part))
        for deployment, part in zip(turns, parts, strict=True)
    ]


def make_singles(deployments: list[Deployment], numbers: range) -> list[bytes]:
    turns = [deployments[number % len(deployments)] for number in numbers]
    return [
        single_request(deployment, resource_event(deployment, number))
        for deployment, number in zip(turns, numbers, strict=True)
    ]


def _count_stored(store: Path, after: int) -> int:
    connection = sqlite3.connect(store)
    [found] = connection.execute(
        "SELECT count(*) FROM events WHERE position > ? AND type LIKE 'resource.%'", (after,)
    ).fetchone()
    connection.close()
    return int(found)


async def run(runs: int, batched: int, single: int) -> None:
    """Measure everything, peers in turn."""
    report = Report("ingest")
    for number in range(1, runs + 1):
        await measure_batches(report, number, batched)
        await measure_singles(report, number, single)
    report.print_table()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batched", type=int, default=40_000, help="events sent in batches")
    parser.add_argument("--single", type=int, default=15_000, help="events sent one by one")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(arguments.runs, arguments.batched, arguments.single))
    except servers.Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
