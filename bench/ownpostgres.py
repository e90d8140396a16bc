"""Deploylog on PostgreSQL: ingest beside bare loops into the same tables, and pages beside SQLite.

The peers write the rows that Deploylog has just written, into the tables that it wrote them to:

* ``copy``: 1,000 rows a commit, by COPY, one commit after the other;
* ``row-by-row``: one row a commit, by INSERT, one commit after the other.

Neither has an order to keep, nor looks for rows that are there. Pages are those of ``bench.pages``,
of a copy of the same store (``deploylog copy``), beside the store in SQLite itself.
"""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench import filled, ingest, pages, servers
from bench.http1 import HOST, Load, UnexpectedAnswer
from bench.postgres import postgres
from bench.report import OURS, Report, fdatasync_us, percentile
from bench.samples import Deployment
from deploylog.store import open_store

#: Rows of a commit of the bare COPY loop, and rows of the other.
_COPIED, _INSERTED = 1_000, 2_000

_WARM_UP = 1_000
_PROCESSES = 3
_TABLES = ("events", "identities")

#: The largest store that is copied to be read.
MAX_EVENTS = 1_000_000

Connection = psycopg.Connection[tuple[Any, ...]]
Row = tuple[Any, ...]
Make = Callable[[list[Deployment], range], list[bytes]]


async def measure_batches(report: Report, run: int, events: int) -> None:
    """One process at 100 events a request, and the bare COPY loop."""
    async with _server() as (url, home):
        await _measure(report, "batch", run, url, ingest.make_batches, events, processes=1)
        rate = await asyncio.to_thread(_copy_rate, url)
        report.add("batch", "copy", run, rate=rate, fdatasync_us=fdatasync_us(home))


async def measure_singles(report: Report, run: int, events: int) -> None:
    """One process at one event a request, and the bare INSERT loop."""
    async with _server() as (url, home):
        await _measure(report, "single", run, url, ingest.make_singles, events, processes=1)
        rate = await asyncio.to_thread(_insert_rate, url)
        report.add("single", "row-by-row", run, rate=rate, fdatasync_us=fdatasync_us(home))


async def measure_processes(report: Report, run: int, batched: int, single: int) -> None:
    """Three processes on one server, beside one."""
    for case, make, events in (
        ("batch", ingest.make_batches, batched),
        ("single", ingest.make_singles, single),
    ):
        name = f"{case}, {_PROCESSES} processes"
        for subject, number in ((OURS, _PROCESSES), ("one process", 1)):
            async with _server() as (url, _):
                await _measure(report, name, run, url, make, events, number, subject=subject)


async def _measure(
    report: Report,
    case: str,
    run: int,
    url: str,
    make: Make,
    events: int,
    processes: int,
    *,
    subject: str = OURS,
) -> None:
    with TemporaryDirectory(prefix="postgres-bench-") as name:
        wait = fdatasync_us(Path(name))
        figures = await _fill(Path(name), url, make, events, processes)
    report.add(case, subject, run, **figures, fdatasync_us=wait)


async def _fill(
    folder: Path, url: str, make: Make, events: int, processes: int
) -> dict[str, float]:
    """Record events through so many processes; events per second, and how long answers took."""
    at_once = ingest.BATCH if make is ingest.make_batches else 1
    check = ingest.check_recorded(at_once)
    async with AsyncExitStack() as running:
        ports = [
            (await running.enter_async_context(servers.deploylog(folder, store=url))).port
            for _ in range(processes)
        ]
        deployments = await ingest.open_deployments(ports[0])
        before = _count(url)
        await Load(make(deployments, range(_WARM_UP)), check).run(ports[0], ingest.IN_FLIGHT)
        requests = make(deployments, range(_WARM_UP, _WARM_UP + events))
        loads = [Load(requests[each::processes], check) for each in range(processes)]
        start = time.perf_counter()
        await asyncio.gather(
            *(
                load.run(port, ingest.IN_FLIGHT // processes)
                for load, port in zip(loads, ports, strict=True)
            )
        )
        took = time.perf_counter() - start
    if (found := _count(url) - before) != _WARM_UP + events:
        raise UnexpectedAnswer(f"{_WARM_UP + events} events were acknowledged, {found} are stored")
    latencies = sorted(latency for load in loads for latency in load.latencies)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    figures = {name: percentile(latencies, share) * 1e3 for name, share in shares.items()}
    return {"rate": events / took} | figures


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        [row] = connection.execute("SELECT count(*) FROM events").fetchall()
        return int(row[0])


# Peers


def _copy_rate(url: str) -> float:
    """Events per second of a loop that copies what is there into the same tables, emptied."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = _emptied(connection, limit=None)
        number = len(tables["events"])
        start = time.perf_counter()
        for at in range(0, number, _COPIED):
            with connection.transaction():
                for table, rows in tables.items():
                    _copy(connection, table, rows[at : at + _COPIED])
        return number / (time.perf_counter() - start)


def _copy(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _emptied(connection: Connection, limit: int | None) -> dict[str, Sequence[Row]]:
    """The first rows of each table, which are there no more."""
    selects = {
        table: f"SELECT * FROM {table} ORDER BY position LIMIT {limit or 'ALL'}"
        for table in _TABLES
    }
    rows = {table: connection.execute(select).fetchall() for table, select in selects.items()}
    connection.execute(f"TRUNCATE {', '.join(_TABLES)}")
    return rows


def _insert_rate(url: str) -> float:
    """Events per second of a loop that inserts one event a commit into the same tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = _emptied(connection, limit=_INSERTED)
        start = time.perf_counter()
        for number in range(_INSERTED):
            with connection.transaction():
                for table, rows in tables.items():
                    _insert(connection, table, rows[number])
        return _INSERTED / (time.perf_counter() - start)


def _insert(connection: Connection, table: str, row: Row) -> None:
    values = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table} VALUES ({values})", row, prepare=True)


# Pages


async def measure_pages(report: Report, run: int, events: int, queries: int) -> None:
    """The pages and counts of ``bench.pages``, of the same store in each backend."""
    home = await _copied(events)
    wait = fdatasync_us(home)
    async with postgres(home) as port:
        stores = {OURS: _url(port), "sqlite": filled.url_of(filled.directory_of(events))}
        for subject, url in stores.items():
            async with open_store(url, observer=filled.Unobserved()) as store:
                took = await pages.take_turns(pages.asks_of(store, events), queries)
            for name, each in took.items():
                pages.add_figures(report, f"{name}, {events:,}", subject, run, each, wait)


async def _copied(events: int) -> Path:
    """The directory of a server that has a copy of the store of so many events."""
    home = Path("/var/tmp") / f"deploylog-bench-ownpostgres-{events}"
    if not (home / "filled").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        source = filled.url_of(filled.directory_of(events))
        async with postgres(home) as port:
            command = (sys.executable, "-m", "deploylog", "copy", source, _url(port))
            await asyncio.to_thread(_run, command)
        (home / "filled").touch()
    return home


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, env=servers.environment(), stdout=subprocess.DEVNULL)


def _url(port: int) -> str:
    return f"postgresql://bench@{HOST}:{port}/postgres"


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[str, Path]]:
    """A fresh server: its URL and its directory."""
    with TemporaryDirectory(prefix="postgres-bench-") as name:
        async with postgres(home := Path(name)) as port:
            yield _url(port), home
