"""Step the clock an hour back and forth while the service records: ids must rise all the same.

Writers post batches and readers follow, while the clock of the service jumps. Ids and positions
rise, nothing is lost, and each reader sees the whole log. The time of recording never falls.
"""

import asyncio
import random
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from bench import servers
from bench.crash import examine, read_log
from bench.http1 import Client, get

from faults.database import store_url
from faults.findings import as_text
from faults.patient import PatientWriter
from faults.suite import Outcome, Suite, Trial
from faults.tails import Tail, caught_up, faults_of, following

_WRITERS = 6
_READERS = 2
_LARGEST_BATCH = 8
_STEP_SECONDS = 0.3
_HOUR = 3_600


class _Recorded(msgspec.Struct):
    recordedtime: str


class _Page(msgspec.Struct):
    events: list[_Recorded]
    next: str | None = None


async def run(trial: Trial) -> Outcome:
    """All steps in one run of the service."""
    with (
        TemporaryDirectory(prefix="faults-clock-") as name,
        store_url(trial.store, Path(name)) as url,
    ):
        (steps := Path(name, "steps")).write_text("0")
        program = ("-m", "faults.stepped", str(steps), trial.without or "-")
        async with servers.deploylog(Path(name), store=url, program=program) as server:
            return await _try(server.port, steps, trial)


async def _try(port: int, steps: Path, trial: Trial) -> Outcome:
    choice = random.Random(trial.seed)
    writers = [
        PatientWriter(n, choice, "key" if n % 2 else "ids", largest=_LARGEST_BATCH)
        for n in range(_WRITERS)
    ]
    readers = [Tail("scope=project/crash") for _ in range(_READERS)]
    async with following(readers, port):
        writing = [asyncio.create_task(each.write(port)) for each in writers]
        for _ in range(trial["steps"]):
            await asyncio.sleep(_STEP_SECONDS)
            _step(steps, choice.choice((-_HOUR, 0, _HOUR)))
        for writer in writers:
            writer.is_done = True
        await asyncio.gather(*writing)
        log = await read_log(port)
        await caught_up(readers, len(log))
    found = as_text(examine(log, writers))
    found += await _falling(port)
    places = [(each.id, int(each.position)) for each in log]
    found += [fault for reader in readers for fault in faults_of(reader, places)]
    return Outcome(figures={"steps": trial["steps"], "events": len(log)}, findings=found)


def _step(file: Path, seconds: int) -> None:
    # At once, for the service may read it at any moment.
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


async def _falling(port: int) -> list[str]:
    client = await Client.open(port)
    times: list[str] = []
    after: str | None = ""
    while after is not None:
        cursor = f"&after={after}" if after else ""
        body = await client.expect(200, get(f"/log/v1/events?order=oldest&limit=1000{cursor}"))
        page = msgspec.json.decode(body, type=_Page)
        times += [event.recordedtime for event in page.events]
        after = page.next
    number = sum(after < before for before, after in pairwise(times))
    return [f"the time of recording falls {number} times"] if number else []


SUITE = Suite(
    name="clock",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={"sqlite": ("rising",), "postgresql": ("rising",)},
    numbers={"steps": 30},
    proof={"steps": 8},
)

if __name__ == "__main__":
    SUITE.main()
