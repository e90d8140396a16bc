"""Kill the service again and again while it migrates a store that a former version filled.

The former version records, and answers some hundred questions. Each round takes a copy of its
store, starts today's service on it, and kills it twice at a random moment of the migration and of
the indexing that follows. A third start goes to its end. Then every question must have the answer
that it had, retries must get their first receipts, counts must be those of the lists, and
``deploylog verify`` must find nothing.
"""

import hashlib
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import apsw
import msgspec
from bench import servers
from bench.http1 import Client, get
from bench.samples import Deployment, batch_request, open_deployment, resource_event

from faults.former import extract_former
from faults.suite import Outcome, Suite, Trial

_STACKS = 20
_BATCH = 500
#: Every so many batches, one is sent again after the migration.
_RETRIED_EVERY = 20
#: Events that are asked for by their ids.
_SINGLES = 200
_PAGE = 500
#: Pages of each question, but for the one that lists everything.
_PAGES = 4

#: Seconds of the first write in which the schema is migrated.
_SCHEMA_SECONDS = 0.5

_ACTORS = ("alice", "bob", "carol", "ci")
_EVERYTHING = "/log/v1/events?order=oldest"

#: What both versions can be asked, newest and oldest first.
_FILTERS: tuple[dict[str, str], ...] = (
    {"scope": "project/migrated"},
    {"type": "resource.create.completed"},
    {"type": "resource.create.*"},
    {"type": "deployment.started"},
    {"actor": "carol"},
    {"actor": "nobody"},
    {"resourcetype": "aws_s3_object"},
    {"resourcetype": "aws_s3_object", "type": "resource.create.started"},
    {"resourcetype": "aws_instance", "resourcename": "assets"},
    {"source": "terraform", "actor": "bob"},
    {"since": "2026-11-21T04:10:00Z", "until": "2026-11-21T04:11:00Z"},
    {"since": "2026-11-22T00:00:00Z"},
)
_COUNTED = ("type", "actor", "resourcetype")


class _Page(msgspec.Struct):
    events: list[dict[str, Any]]
    next: str | None = None


class _Facet(msgspec.Struct):
    value: str
    count: int


class _Facets(msgspec.Struct):
    top: list[_Facet]


class _Former(msgspec.Struct, frozen=True, kw_only=True):
    """The store that the former version left, and what it answered."""

    store: Path
    #: By the request that appended them, the receipts of a batch.
    receipts: Mapping[bytes, bytes]
    #: By path, a digest of the events found.
    answers: Mapping[str, str]
    #: By field and value, the number of events.
    counts: Mapping[str, Counter[str]]


async def run(trial: Trial) -> Outcome:
    """Fill once; then migrate a copy without a kill, and another one in each round."""
    choice = random.Random(trial.seed)
    with TemporaryDirectory(prefix="faults-migration-") as name:
        folder = Path(name)
        former = await _fill(folder, trial["events"])
        seconds, found = await _migrate(folder, former, trial)
        before_the_end = 0
        for number in range(trial["rounds"]):
            rests = choice.uniform(0, _SCHEMA_SECONDS), choice.uniform(0, seconds)
            before_the_end += _kill(_copied(folder, former), trial, rests)
            _, faults = await _migrate(folder, former, trial)
            found += [f"round {number}: {fault}" for fault in faults]
    return Outcome(
        figures={
            "events": trial["events"],
            "questions": len(former.answers),
            "kills": 2 * trial["rounds"],
            "kills_before_the_end": before_the_end,
        },
        findings=found,
    )


async def _fill(folder: Path, events: int) -> _Former:
    (folder / "former").mkdir()
    program = extract_former(folder / "program")
    async with servers.deploylog(folder / "former", program=program) as server:
        client = await Client.open(server.port)
        stacks = [await open_deployment(client, "migrated", f"s{n}") for n in range(_STACKS)]
        receipts: dict[bytes, bytes] = {}
        for number in range(events // _BATCH):
            request = _batch(stacks[number % _STACKS], number * _BATCH)
            answer = await client.expect(201, request)
            if number % _RETRIED_EVERY == 0:
                receipts[request] = answer
        everything = [event async for event in _events(client, _EVERYTHING)]
        singles = random.Random(0).sample(everything, _SINGLES)
        paths = [*_questions(), *(f"/log/v1/events/{event['id']}" for event in singles)]
        answers = {path: await _answer(client, path) for path in paths}
        answers[_EVERYTHING] = _digest(everything)
        client.close()
    counts = {name: Counter(event.get(name, "") for event in everything) for name in _COUNTED}
    return _Former(store=server.store, receipts=receipts, answers=answers, counts=counts)


def _batch(stack: Deployment, first: int) -> bytes:
    numbers = range(first, first + _BATCH)
    return batch_request(
        stack, [resource_event(stack, n, actor=_ACTORS[n % 7 % len(_ACTORS)]) for n in numbers]
    )


def _questions() -> Iterable[str]:
    for each in _FILTERS:
        for order in ("newest", "oldest"):
            yield f"/log/v1/events?{urlencode({**each, 'order': order})}"


def _copied(folder: Path, former: _Former) -> Path:
    """The folder of a copy of the former version's store, which was stopped and is one file."""
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(former.store, copy / former.store.name)
    return copy


def _kill(copy: Path, trial: Trial, rests: Iterable[float]) -> int:
    """Start a service for each of ``rests``, and kill it so many seconds after its first write;
    how many left something to do.
    """
    store = copy / "deploylog.db"
    serve = ("serve", "--port", str(servers.free_port()), "--store", f"sqlite:///{store}")
    unfinished = 0
    for seconds in rests:
        with (copy / "killed.log").open("ab") as log:
            process = subprocess.Popen(
                (sys.executable, *trial.program, *serve),
                env=servers.environment(),
                stdout=log,
                stderr=log,
            )
        _wait_for_write(store, process)
        time.sleep(seconds)
        process.kill()
        process.wait()
        unfinished += _is_unfinished(store, trial["events"])
    return unfinished


def _wait_for_write(store: Path, process: subprocess.Popen[bytes]) -> None:
    log = store.with_name(f"{store.name}-wal")
    before = log.stat().st_size if log.exists() else 0
    while process.poll() is None and (not log.exists() or log.stat().st_size <= before):
        time.sleep(0.005)


def _is_unfinished(store: Path, events: int) -> bool:
    connection = apsw.Connection(str(store))
    try:
        [(sealed,)] = connection.execute("SELECT count(*) FROM segments").fetchall()
    except apsw.SQLError:
        return True  # Of the former schema: it has no segments.
    finally:
        connection.close()
    return int(str(sealed)) < events >> 16


async def _migrate(folder: Path, former: _Former, trial: Trial) -> tuple[float, list[str]]:
    """Migrate the copy to the end, examine and remove it; the seconds taken, and what is wrong."""
    if not (copy := folder / "copy").exists():
        _copied(folder, former)
    start = time.monotonic()
    try:
        async with servers.deploylog(copy, program=trial.program) as server:
            seconds = time.monotonic() - start
            client = await Client.open(server.port)
            found = [fault async for fault in _faults(client, former)]
            client.close()
    except servers.Unavailable as error:
        return time.monotonic() - start, [f"the service did not start: {error}"]
    finally:
        verified = _verify(copy / former.store.name)
        shutil.rmtree(copy)
    return seconds, found + verified


async def _faults(client: Client, former: _Former) -> AsyncIterator[str]:
    for path, answer in former.answers.items():
        if await _answer(client, path) != answer:
            yield f"GET {path} has another answer"
    for name, counts in former.counts.items():
        body = await client.expect(200, get(f"/log/v1/events/facets?field={name}&top=1000"))
        found = {facet.value: facet.count for facet in msgspec.json.decode(body, type=_Facets).top}
        if found != {value: count for value, count in counts.items() if value}:
            yield f"the values of {name} are counted wrong"
    for request, receipts in former.receipts.items():
        if msgspec.json.decode(await client.expect(201, request)) != msgspec.json.decode(receipts):
            yield "a retry gets other receipts"


def _verify(store: Path) -> list[str]:
    command = (sys.executable, "-m", "deploylog", "verify", "--store", f"sqlite:///{store}")
    done = subprocess.run(command, env=servers.environment(), capture_output=True, text=True)
    return [f"verify: {done.stdout}{done.stderr}"] if done.returncode else []


async def _answer(client: Client, path: str) -> str:
    if "?" not in path:
        return _digest([msgspec.json.decode(await client.expect(200, get(path)))])
    pages = None if path == _EVERYTHING else _PAGES
    return _digest([event async for event in _events(client, path, pages)])


async def _events(client: Client, path: str, pages: int | None = None) -> AsyncIterator[Any]:
    """The events of the first ``pages`` pages, or of all."""
    turn = "after" if "order=oldest" in path else "before"
    following = f"{path}&limit={_PAGE}"
    while pages != 0:
        page = msgspec.json.decode(await client.expect(200, get(following)), type=_Page)
        for event in page.events:
            yield event
        if page.next is None:
            return
        following = f"{path}&limit={_PAGE}&{turn}={page.next}"
        pages = None if pages is None else pages - 1


def _digest(events: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.blake2b()
    for event in events:
        digest.update(msgspec.json.encode(event, order="sorted"))
    return digest.hexdigest()


SUITE = Suite(
    name="migration",
    about=__doc__.partition("\n")[0],
    run=run,
    stores=("sqlite",),
    protections={"sqlite": ("transaction",)},
    numbers={"rounds": 20, "events": 200_000},
)

if __name__ == "__main__":
    SUITE.main()
