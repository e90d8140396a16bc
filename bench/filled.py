"""Stores of many events, filled once through the store and kept below ``.bench/``.

The events are those of ``bench.samples``: 20 stacks of one project, with four of five events, and
five other projects, event by event in turn, one a second. 60 events, spread over the whole log,
are a ``resource.create.failed``, and 60 others mallory's: a rare value fills one page however many
events there are. Every third event is visible to one of 100 groups only. A store that was not
finished goes on where it stopped.
"""

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench.report import fdatasync_us, percentile
from bench.samples import resource_event
from bench.servers import ROOT
from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, parse_scope
from deploylog.store import open_store
from deploylog.store.contract import Store

CACHE = ROOT / ".bench"

PROJECT = "acme"
STACKS, OTHERS = 20, 5
RARE_TYPE, RARE_ACTOR = "resource.create.failed", "mallory"
RARE = 60
GROUPS = 100
#: The events' times: one every second, from here on.
FIRST_TIME = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
SECOND = 1_000_000_000

_BATCH = 500
_IN_FLIGHT = 4
#: Events between two points of the curve.
_STEP = 100_000


class _Deployment:
    """A deployment of a stack, as ``bench.samples`` wants it."""

    def __init__(self, project: str, stack: str) -> None:
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{project}/{stack}"))
        stack_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{project}/{stack}")
        path = f"project/{project}/stack/{stack_id}/deployment/{self.id}"
        self.scopes = (path, f"state/{project}/prod/{stack}")
        self.parsed: tuple[Scope, ...] = tuple(map(parse_scope, self.scopes))


DEPLOYMENTS = [_Deployment(PROJECT, f"stack-{number}") for number in range(STACKS)]
DEPLOYMENTS += [_Deployment(f"other-{number}", "web") for number in range(OTHERS)]


class Unobserved:
    """An observer of commits that keeps nothing."""

    def committed(self, seconds: float, events: int) -> None:
        pass

    def damaged(self, reason: str) -> None:
        pass

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        """Not measured here."""


def url_of(directory: Path) -> str:
    """The URL of the store in a directory."""
    return f"sqlite:///{directory / 'deploylog.db'}"


def directory_of(events: int) -> Path:
    """Where the store of so many events is kept."""
    return CACHE / f"store-{events}"


def is_filled(events: int) -> bool:
    """Whether the store of so many events is there, whole."""
    return (directory_of(events) / "filled").exists()


def new_event(number: int, events: int) -> NewEvent:
    """The event of this number in a log of so many."""
    deployment = DEPLOYMENTS[number % len(DEPLOYMENTS)]
    said = resource_event(deployment, number)  # type: ignore[arg-type]
    value = said.get("resourceidvalue")
    return NewEvent(
        type=RARE_TYPE if is_rare(number, events, 2) else said["type"],
        source="terraform",
        scopes=deployment.parsed,
        time=(FIRST_TIME + number) * SECOND,
        producer_id=said["id"],
        groups=(f"team-{number % GROUPS}",) if number % 3 == 0 else (),
        actor=RARE_ACTOR if is_rare(number, events, 3) else said["actor"],
        resource=Resource(
            type=said["resourcetype"],
            name=said["resourcename"],
            key=str(number // 2),
            address=said["resourceaddress"],
            id_key=said.get("resourceidkey"),
            id_value=value,
        ),
        elapsed=said["elapsedms"] * 1_000_000 if value else None,
        message=said["message"],
    )


def is_rare(number: int, events: int, offset: int) -> bool:
    """Whether this is one of the ``RARE`` numbers with this offset: one in each equal part of the
    log, always of the project.
    """
    part = events // RARE
    inside = number % part
    return number < part * RARE and inside == _rare_place(number // part, part, offset)


def rare_numbers(events: int, offset: int) -> list[int]:
    """Every rare number with this offset."""
    part = events // RARE
    return [turn * part + _rare_place(turn, part, offset) for turn in range(RARE)]


def _rare_place(turn: int, part: int, offset: int) -> int:
    """A place within the part, another each time, whose number is of the project's stacks."""
    start, place = turn * part, (turn * 37 + offset) % (part // 2)
    while (start + place) % len(DEPLOYMENTS) % 25 >= STACKS or (start + place) % 3 == 0:
        place += 1
    return place


async def fill(events: int, at_most: int) -> None:
    """Append what the store of so many events lacks, or ``at_most``; keep the curve beside it."""
    directory = directory_of(events)
    directory.mkdir(parents=True, exist_ok=True)
    wait = fdatasync_us(directory)
    async with open_store(url_of(directory), observer=Unobserved()) as store:
        head = await store.log.head()
        end = min(events, head + at_most)
        for start in range(head, end, _STEP):
            numbers = range(start, min(start + _STEP, end))
            took, latencies = await _append(store, numbers, events)
            figures = {
                "bench": "fill",
                "events": numbers.stop,
                "rate": round(len(numbers) / took),
                "append_p50_ms": round(percentile(latencies, 0.5) * 1e3, 2),
                "append_p99_ms": round(percentile(latencies, 0.99) * 1e3, 2),
                "append_max_ms": round(latencies[-1] * 1e3, 2),
                "rss_mb": _rss_mb(),
                "fdatasync_us": round(wait),
            }
            print(json.dumps(figures), flush=True)
            with (directory / "fill.jsonl").open("a") as file:
                file.write(json.dumps(figures) + "\n")
        found = await store.log.head()
    assert found == end, f"{found} events are stored, not {end}"
    # What was not sealed yet is sealed as the store opens: not in a measurement.
    async with open_store(url_of(directory), observer=Unobserved()):
        pass
    if found == events:
        (directory / "filled").touch()


async def _append(store: Store, numbers: range, events: int) -> tuple[float, list[float]]:
    """Append these; the seconds it took, and of each append, ascending."""
    parts = [numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH)]
    batches = [[new_event(number, events) for number in part] for part in parts]
    waiting: Iterator[list[NewEvent]] = iter(batches)
    latencies: list[float] = []
    # One lane appends at a time: events must keep the order of their numbers.
    turn = asyncio.Semaphore(_IN_FLIGHT)

    async def append(batch: list[NewEvent]) -> None:
        begun = time.perf_counter()
        await store.log.append(batch)
        latencies.append(time.perf_counter() - begun)
        turn.release()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for batch in waiting:
            await turn.acquire()
            group.create_task(append(batch))
    return time.perf_counter() - start, sorted(latencies)


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def ensure(events: int) -> Path:
    """The directory of the store of so many events, filled if it was not."""
    if not is_filled(events):
        uvloop.run(fill(events, events))
    return directory_of(events)


def main() -> None:
    """Fill the stores that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--at-most", type=int, help="events to append to each, to go on later")
    arguments = parser.parse_args()
    for events in arguments.events:
        if not is_filled(events):
            uvloop.run(fill(events, arguments.at_most or events))


if __name__ == "__main__":
    main()
