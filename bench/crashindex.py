"""Kill a writer repeatedly while it seals segments, and while it indexes what is not sealed yet.

Each round has a store of its own. A process appends until the end of a segment has passed, and is
killed with SIGKILL at a random moment from then on, most often in the middle of sealing. Then a
second process opens the store, and is killed while it seals what is missing; a third one opens it
and is asked. Of the answers it must be true that

* every acknowledged event is found once: by its position, by its own rare term, by a common term,
  and by a word;
* what is counted is what is listed;
* ``deploylog verify`` finds nothing wrong, in the rows and in the index.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import msgspec
import uvloop

from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import AnyOf, Filter
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.scope import scope
from deploylog.events.store import EventLog, Query, following
from deploylog.events.text import parse_text
from deploylog.store import open_store, verify_store
from deploylog.store.contract import Finding

_BATCH = 50

#: Events before the end of the segment. Many terms of its own make each of them work to seal.
_BEFORE = 10_000

#: Seconds after the end of the segment in which the process is killed.
_SEAL_SECONDS = 0.8
_OPEN_SECONDS = 1.4


class _Unobserved:
    def committed(self, seconds: float, events: int) -> None:
        """Not measured here."""

    def damaged(self, reason: str) -> None:
        """Verification reports it."""

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        """Not measured here."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one round found."""

    acknowledged: int
    recorded: int
    #: Whether the segment was sealed when the first and when the second process was killed.
    sealed_by_first: bool
    sealed_by_second: bool
    #: Acknowledged events that a search did not find once.
    missing: int
    findings: int

    @property
    def is_good(self) -> bool:
        return not self.missing and not self.findings


def event(number: int) -> NewEvent:
    """An event with rare and common terms."""
    return NewEvent(
        type="crash.test",
        source="crash",
        scopes=(scope("project", "crash", "part", str(number % 7)),),
        time=time.time_ns(),
        producer_id=str(number),
        subject=f"subject-{number}",
        actor=f"actor-{number % 5}",
        message=f"step {number} took {number * 7}ms for i-{number * 2654435761 % 2**32:08x}",
    )


async def write(url: str) -> None:
    """Append until killed; print how many events are acknowledged."""
    async with open_store(url, observer=_Unobserved()) as store:
        number = 0
        while True:
            await store.log.append([event(number + n) for n in range(_BATCH)])
            number += _BATCH
            print(number, flush=True)


def _new_store(file: Path) -> None:
    async def create() -> None:
        async with open_store(f"sqlite:///{file}", observer=_Unobserved()):
            pass

    asyncio.run(create())
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE log SET head = ?", (SEGMENT_SIZE - 1 - _BEFORE,))
    connection.close()


def _start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.crashindex", *args], stdout=subprocess.PIPE, text=True
    )


def _killed_while_sealing(url: str, choice: random.Random) -> int:
    """Let a process write over the end of the segment, kill it; how much it acknowledged."""
    process = _start("--write", url)
    assert process.stdout is not None
    acknowledged, end = 0, float("inf")
    while time.monotonic() < end and (line := process.stdout.readline()):
        acknowledged = int(line)
        if acknowledged >= _BEFORE and end == float("inf"):
            end = time.monotonic() + choice.uniform(0, _SEAL_SECONDS)
    process.kill()
    rest = process.stdout.read().splitlines(keepends=True)
    process.wait()
    return max([acknowledged, *(int(each) for each in rest if each.endswith("\n"))])


def _killed_while_opening(url: str, choice: random.Random) -> None:
    process = _start("--open", url)
    time.sleep(choice.uniform(0.4, _OPEN_SECONDS))
    process.kill()
    process.wait()


def _is_sealed(file: Path) -> bool:
    connection = apsw.Connection(str(file))
    try:
        return bool(connection.execute("SELECT 1 FROM segments").fetchall())
    finally:
        connection.close()


async def _every_event(log: EventLog) -> list[Event]:
    """The events of every page: one holds 8 MiB at most."""
    found: list[Event] = []
    query = Query(order="oldest", limit=10_000)
    while True:
        page = await log.read(query)
        found += page
        if page.next is None:
            return found
        query = following(query, page.next)


async def _missing(url: str, acknowledged: int) -> tuple[int, int]:
    """Acknowledged events that a search does not find once, and the events that are there."""
    async with open_store(url, observer=_Unobserved()) as store:
        numbers = [int(found.producer_id or -1) for found in await _every_event(store.log)]
        missing = len(set(range(acknowledged)) - set(numbers)) + len(numbers) - len(set(numbers))
        for number in range(0, acknowledged, max(1, acknowledged // 200)):
            rare = Filter(all_of=(AnyOf(field="subject", values=(f"subject-{number}",)),))
            word = Filter(phrases=parse_text(f"{number * 7}ms"))
            for filter in (rare, word):
                found = await store.log.read(Query(filter=filter))
                missing += [each.producer_id for each in found].count(str(number)) != 1
        for actor in range(5):
            common = Query(
                filter=Filter(all_of=(AnyOf(field="actor", values=(f"actor-{actor}",)),))
            )
            counted = await store.log.count(common)
            missing += abs(counted - sum(number % 5 == actor for number in numbers))
        return missing, len(numbers)


def run_round(folder: Path, choice: random.Random) -> Round:
    """One store, and three processes."""
    file = folder / "log.db"
    url = f"sqlite:///{file}"
    _new_store(file)
    acknowledged = _killed_while_sealing(url, choice)
    first = _is_sealed(file)
    if first:
        _unseal(file)
    _killed_while_opening(url, choice)
    second = _is_sealed(file)
    missing, recorded = asyncio.run(_missing(url, acknowledged))
    findings: list[Finding] = []
    verify_store(url, found=findings.append, progress=lambda done, total: None)
    for finding in findings:
        print(finding, file=sys.stderr)
    return Round(
        acknowledged=acknowledged,
        recorded=recorded,
        sealed_by_first=first,
        sealed_by_second=second,
        missing=missing,
        findings=len(findings),
    )


def _unseal(file: Path) -> None:
    """Leave a segment half sealed, as a program that was interrupted would."""
    connection = apsw.Connection(str(file))
    connection.execute("DELETE FROM segments")
    connection.close()


def _parse(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--write", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--open", metavar="URL", help=argparse.SUPPRESS)
    return parser.parse_args(args)


async def _open(url: str) -> None:
    async with open_store(url, observer=_Unobserved()):
        await asyncio.Event().wait()


def main() -> int:
    """Run the rounds; the exit code is 1 when one of them found a fault."""
    options = _parse()
    if options.write:
        uvloop.run(write(options.write))
    if options.open:
        uvloop.run(_open(options.open))
    choice = random.Random(options.seed)
    rounds = []
    for number in range(options.rounds):
        with TemporaryDirectory(prefix="crash-index-") as name:
            rounds.append(run_round(Path(name), choice))
        print(f"{number + 1:3} {msgspec.json.encode(rounds[-1]).decode()}", flush=True)
    bad = [each for each in rounds if not each.is_good]
    print(
        f"{len(rounds)} rounds: {sum(each.acknowledged for each in rounds)} events acknowledged,"
        f" {sum(each.missing for each in rounds)} missing or doubled,"
        f" {sum(each.findings for each in rounds)} findings;"
        f" killed before the segment was sealed in {sum(not r.sealed_by_first for r in rounds)}"
        f" and {sum(not r.sealed_by_second for r in rounds)} rounds"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
