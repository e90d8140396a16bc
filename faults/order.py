"""Let many processes append to one log while readers follow it: no reader may skip an event.

Eight processes append at once. Two readers in another process follow the head, and read what is
new, as streams and deliveries do. Each must have read the whole log: every event once, in order,
and nothing that appeared below what it had read already.
"""

import asyncio
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import servers

from deploylog.events.event import Event
from deploylog.events.store import EventLog, Query
from deploylog.store import open_store
from faults.database import store_url
from faults.suite import Outcome, Suite, Trial
from faults.unobserved import Unobserved

_READERS = 2
_BATCH = 20
_PAGE = 1_000

#: Seconds for readers to catch up once all writers have ended.
_CATCH_UP_SECONDS = 30


async def run(trial: Trial) -> Outcome:
    """All writers and readers, once."""
    with (
        TemporaryDirectory(prefix="faults-order-") as name,
        store_url(trial.store, Path(name)) as url,
    ):
        async with open_store(url, observer=Unobserved()) as store:
            readers = [_Reader(store.log) for _ in range(_READERS)]
            reading = [asyncio.create_task(each.follow()) for each in readers]
            start = time.monotonic()
            failed = await _write(url, trial, Path(name))
            seconds = time.monotonic() - start
            log = await _read_all(url)
            await _catch_up(readers, log)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
    found = [f"{failed} writers failed"] if failed else []
    found += _faults_of_log(log, trial)
    for reader in readers:
        found += _faults_of(reader.seen, [each.position for each in log])
    return Outcome(
        figures={
            "writers": trial["writers"],
            "readers": _READERS,
            "events": len(log),
            "events_per_second": round(len(log) / seconds),
            "looks": sum(reader.looks for reader in readers),
        },
        findings=found,
    )


class _Reader:
    """Follows the head, as the hub does."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.seen: list[int] = []
        self.looks = 0

    async def follow(self) -> None:
        async for head in self._log.heads():
            while (after := self.seen[-1] if self.seen else 0) < head:
                query = Query(after=after, before=head + 1, order="oldest", limit=_PAGE)
                page = await self._log.read(query)
                self.looks += 1
                self.seen += [event.position for event in page]
                if page.next is None:
                    break


async def _write(url: str, trial: Trial, folder: Path) -> int:
    """Run all writers to their end, in a folder; return how many failed."""
    share = trial["events"] // trial["writers"]
    processes: Sequence[Process] = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "faults.writer", url, str(number), str(share), str(_BATCH),
            trial.without or "-", cwd=folder, env=servers.environment(),
        )
        for number in range(trial["writers"])
    ]  # fmt: skip
    return sum([await process.wait() != 0 for process in processes])


async def _read_all(url: str) -> list[Event]:
    """The log as a process finds it that opens the store now, and has not followed it."""
    events: list[Event] = []
    async with open_store(url, observer=Unobserved()) as store:
        while True:
            after = events[-1].position if events else 0
            page = await store.log.read(Query(after=after, order="oldest", limit=_PAGE))
            if not page:
                return events
            events += page


async def _catch_up(readers: Sequence[_Reader], log: Sequence[Event]) -> None:
    end = time.monotonic() + _CATCH_UP_SECONDS
    newest = log[-1].position if log else 0
    while any(not each.seen or each.seen[-1] < newest for each in readers):
        if time.monotonic() > end:
            return
        await asyncio.sleep(0.05)


def _faults_of_log(log: Sequence[Event], trial: Trial) -> list[str]:
    ids = [event.producer_id for event in log]
    share = trial["events"] // trial["writers"]
    missing = share * trial["writers"] - len(set(ids))
    doubled = len(ids) - len(set(ids))
    falling = sum(before.id >= after.id for before, after in pairwise(log))
    faults = {"missing": missing, "recorded twice": doubled, "out of the order of ids": falling}
    return [f"{number} events {what}" for what, number in faults.items() if number]


def _faults_of(seen: Sequence[int], positions: Sequence[int]) -> list[str]:
    found = []
    if skipped := len(set(positions) - set(seen)):
        found.append(f"a reader skipped {skipped} events")
    if any(after <= before for before, after in pairwise(seen)):
        found.append("a reader read an event twice, or out of order")
    return found


SUITE = Suite(
    name="order",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={"sqlite": ("lock",), "postgresql": ("lock",)},
    numbers={"events": 40_000, "writers": 8},
    proof={"events": 8_000},
)

if __name__ == "__main__":
    SUITE.main()
