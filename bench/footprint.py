"""What a large log costs: to start, in memory, on disk, at rest, and while more is recorded."""

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import filled, ingest, servers
from bench.http1 import Client, get
from bench.readers import Crowd
from bench.report import OURS, Report, fdatasync_us
from bench.servers import Server

_STREAM = "/log/v1/events/stream?scope=project/bench&from=now"
_SETTLE_SECONDS = 3
#: Events that fit into one segment, so that all of them are in the head.
HEAD_EVENTS = 60_000


async def measure_start(report: Report, run: int, events: int) -> None:
    """From the start of the process to the first page, over a store of so many events."""
    directory = filled.directory_of(events)
    start = time.perf_counter()
    async with servers.deploylog(directory) as server:
        client = await Client.open(server.port)
        await client.expect(200, get("/log/v1/events?limit=1"))
        took = time.perf_counter() - start
        client.close()
        await asyncio.sleep(1)
        report.add(f"start, {events:,}", OURS, run, first_answer_s=took, rss_mb=rss_mb(server))


async def measure_readers(report: Report, run: int, events: int, readers: int) -> None:
    """Memory with so many open streams."""
    async with servers.deploylog(filled.directory_of(events)) as server:
        client = await Client.open(server.port)
        await client.expect(200, get("/log/v1/events?limit=1"))
        before = rss_mb(server)
        with Crowd(server.port, _STREAM, readers) as crowd:
            crowd.wait_for_heads(60)
            await asyncio.sleep(1)
            with_readers = rss_mb(server)
        client.close()
    case = f"memory with {readers:,} readers, {events:,}"
    report.add(case, OURS, run, rss_mb=with_readers, rss_before_mb=before)


def measure_disk(report: Report, events: int) -> None:
    """Bytes an event, of a store that was closed."""
    directory = filled.directory_of(events)
    size = sum(file.stat().st_size for file in directory.glob("deploylog.db*"))
    report.add(f"disk, {events:,}", OURS, 1, bytes_an_event=size / events)


async def measure_head(report: Report, run: int) -> None:
    """The memory that a service takes more when ``HEAD_EVENTS`` are in its head."""
    empty = await _memory(None)
    full = await _memory(filled.directory_of(HEAD_EVENTS))
    bytes_an_event = (full - empty) * 1024 * 1024 / HEAD_EVENTS
    report.add(
        f"head of {HEAD_EVENTS:,}", OURS, run, more_mb=full - empty, bytes_an_event=bytes_an_event
    )


async def _memory(directory: Path | None) -> float:
    async with servers.deploylog(directory) as server:
        client = await Client.open(server.port)
        await client.expect(200, get("/log/v1/events?limit=1"))
        await asyncio.sleep(1)
        client.close()
        return rss_mb(server)


async def measure_idle(report: Report, run: int, events: int, seconds: int) -> None:
    """Measure the share of a core that an idle service uses."""
    async with servers.deploylog(filled.directory_of(events)) as server:
        await asyncio.sleep(_SETTLE_SECONDS)
        before = _cpu_seconds(server)
        await asyncio.sleep(seconds)
        share = (_cpu_seconds(server) - before) / seconds
    report.add(f"idle, {events:,}", OURS, run, percent_of_a_core=share * 100)


async def measure_ingest(report: Report, run: int, events: int, batched: int, single: int) -> None:
    """Ingest over HTTP while so many events are there; also across the sealing of segments."""
    cases = (
        ("batches of 100", ingest.make_batches, batched, ingest.BATCH),
        ("one event an ack", ingest.make_singles, single, 1),
    )
    for name, make, number, at_once in cases:
        with ExitStack() as stack:
            fresh = stack.enter_context(TemporaryDirectory(prefix="copy-", dir=filled.CACHE))
            directory = Path(fresh)
            if events:
                _copy(filled.directory_of(events) / "deploylog.db", directory)
            wait = fdatasync_us(directory)
            figures = await ingest.fill(directory, make, number, at_once, ingest.IN_FLIGHT)
        report.add(f"{name}, on top of {events:,}", OURS, run, **figures, fdatasync_us=wait)


def _copy(file: Path, directory: Path) -> None:
    if shutil.which("cp"):
        subprocess.run(("cp", "--reflink=auto", str(file), str(directory)), check=True)
    else:
        shutil.copy(file, directory)
    os.sync()


def rss_mb(server: Server) -> float:
    """The memory that the server has now."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def _cpu_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
