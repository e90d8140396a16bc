"""Kill, restart and cut off PostgreSQL under a service that records, and examine the log.

The service reaches its server through a proxy. Writers post batches, which the service knows by the
ids of events, by the key of a request, or by nothing: then only the store can tell whether a commit
without an answer was made. Each round cuts the connection at COMMIT several times, before or after
the server has committed, then kills the server, restarts it, or parts the network for a while. The
service goes on by itself. What was refused is sent again, unless nothing would make it known. Of
the log the rules of ``bench.crash`` must be true, and each reader must have seen all of it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from bench import servers
from bench.crash import KnownBy, examine, read_log

from faults.database import Database, database
from faults.findings import as_text
from faults.patient import PatientWriter
from faults.proxy import Lost, Proxy, proxy_to
from faults.suite import Outcome, Suite, Trial
from faults.tails import Tail, caught_up, faults_of, following

_WRITERS = 9
_READERS = 2
_LARGEST_BATCH = 5

#: Cuts of each round, and the seconds between two.
_CUTS, _CUT_SECONDS = 6, 0.4

#: Seconds for which the network is gone: less than the service tries again.
_PARTED_SECONDS = 3.0

#: Seconds of quiet after each fault.
_QUIET_SECONDS = 0.5


async def run(trial: Trial) -> Outcome:
    """All rounds on one server."""
    with TemporaryDirectory(prefix="faults-pg-") as name, database() as server:
        async with proxy_to(server.port) as (port, proxy):
            url = server.url.replace(f":{server.port}", f":{port}")
            serve = servers.deploylog(Path(name), store=url, program=trial.program)
            async with serve as service:
                return await _try(service.port, server, proxy, trial)


async def _try(port: int, server: Database, proxy: Proxy, trial: Trial) -> Outcome:
    choice = random.Random(trial.seed)
    kinds = get_args(KnownBy)
    writers = [
        PatientWriter(n, choice, kinds[n % len(kinds)], largest=_LARGEST_BATCH)
        for n in range(_WRITERS)
    ]
    readers = [Tail("scope=project/crash") for _ in range(_READERS)]
    faults = _faults(server, proxy)
    async with following(readers, port):
        writing = [asyncio.create_task(each.write(port)) for each in writers]
        for number in range(trial["rounds"]):
            await _cut(proxy, choice)
            await faults[number % len(faults)]()
            await asyncio.sleep(_QUIET_SECONDS)
        for writer in writers:
            writer.is_done = True
        done = await asyncio.gather(*writing, return_exceptions=True)
        log = await read_log(port)
        await caught_up(readers, len(log))
    found = [f"a writer failed: {error!r}" for error in done if error is not None]
    found += as_text(examine(log, writers))
    places = [(each.id, int(each.position)) for each in log]
    found += [fault for reader in readers for fault in faults_of(reader, places)]
    found += _gaps([position for _, position in places])
    return Outcome(
        figures={
            "rounds": trial["rounds"],
            "cuts_at_commit": proxy.cuts,
            "acknowledged": sum(len(writer.receipts) for writer in writers),
            "refused_meanwhile": sum(writer.refused for writer in writers),
            "longest_pause_seconds": round(max(writer.longest for writer in writers), 1),
            "streams_resumed": sum(reader.resumed for reader in readers),
        },
        findings=found,
    )


async def _cut(proxy: Proxy, choice: random.Random) -> None:
    for _ in range(_CUTS):
        proxy.cut_next(choice.choice(get_args(Lost)))
        await asyncio.sleep(_CUT_SECONDS)


def _faults(server: Database, proxy: Proxy) -> Sequence[Callable[[], Awaitable[None]]]:
    async def kill() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def restart() -> None:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)

    async def part() -> None:
        proxy.part()
        await asyncio.sleep(_PARTED_SECONDS)
        proxy.heal()

    return kill, restart, part


def _gaps(positions: Sequence[int]) -> list[str]:
    if positions and positions != list(range(positions[0], positions[-1] + 1)):
        return ["positions have gaps"]
    return []


SUITE = Suite(
    name="postgres",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("postgresql",),
    protections={"postgresql": ("asking", "sync")},
    numbers={"rounds": 12},
)

if __name__ == "__main__":
    SUITE.main()
