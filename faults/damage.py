"""Flip bytes of a store: what is damaged is named, what is derived is mended, no answer is wrong.

Each case makes a store, notes what queries answer, and damages it behind the back of the service:
in an event, a page of the file or of the database, a blob of the index, the identities, the
catalog. Then queries must answer as before, or say that an event is damaged or that the store
cannot be read: never anything else. ``deploylog verify`` must name the damage, and ``--mend`` must
leave only what cannot be derived.
"""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import psycopg
from bench import servers

from deploylog.errors import DeploylogError
from deploylog.events.event import NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.scope import scope
from deploylog.events.store import Query
from deploylog.store import migrate_store, open_store
from faults.database import Database, database
from faults.suite import Outcome, Suite, Trial
from faults.unobserved import Unobserved
from faults.weakened import PROTECTIONS

_EVENTS = 400
_PAGE = 8_192
_STACK, _DEPLOYMENT = "stack-1", "deployment-1"

_ASKED: Mapping[str, Query] = {
    "all": Query(order="oldest", limit=1_000),
    "actor": Query(filter=Filter(all_of=(any_of("actor", ("actor-3",)),)), limit=1_000),
    "rare": Query(filter=Filter(all_of=(any_of("subject", ("subject-77",)),)), limit=1_000),
    "time": Query(filter=Filter(since=100_000, until=200_000), limit=1_000),
}


class Case(msgspec.Struct, frozen=True):
    """One kind of damage."""

    #: SQL, or what is done to the files while nobody has them open.
    damage: str | Callable[["Place"], None]
    #: The parts of which one must be in the findings; none when nothing checks that.
    parts: Sequence[str]
    is_mended: bool


class Place(msgspec.Struct, frozen=True):
    """Where a store is."""

    url: str
    choice: random.Random
    file: Path | None = None
    server: Database | None = None

    def execute(self, sql: str) -> None:
        """Run a statement behind the back of the service."""
        if self.file is None:
            with psycopg.connect(self.url, autocommit=True) as database:
                database.execute(sql)
            return
        connection = apsw.Connection(str(self.file))
        connection.execute(sql)
        connection.close()


def _flip_page(place: Place) -> None:
    """Flip a byte in the middle of a page of events."""
    if place.file is not None:
        connection = apsw.Connection(str(place.file))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sql = "SELECT pageno, pgsize FROM dbstat WHERE name = 'event_rows' AND pagetype = 'leaf'"
        pages: Any = connection.execute(sql).fetchall()
        connection.close()
        number, size = place.choice.choice(pages)
        _flip(place.file, (number - 1) * size + place.choice.randrange(size // 2, size))
        return
    assert place.server is not None
    [(path,)] = place.server.run("SELECT pg_relation_filepath('events_0')")
    place.server.stop()
    file = place.server.data / path
    _flip(file, place.choice.randrange(_PAGE // 2, min(file.stat().st_size, _PAGE)))
    place.server.start()


def _flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def _flipped(store: str, column: str) -> str:
    if store == "sqlite":
        return f"CAST(substr({column}, 1, 9) || x'fe' || substr({column}, 11) AS BLOB)"
    return f"set_byte({column}, 9, get_byte({column}, 9) # 1)"


def _cases(store: str) -> dict[str, Case]:
    blobs = {
        "bitmap": ("segment_terms", "positions"),
        "bucket": ("segment_buckets", "entries"),
        "words": ("segment_pages", "terms"),
        "times": ("segments", "times"),
    }
    cases = {
        name: Case(f"UPDATE {table} SET {column} = {_flipped(store, column)}", ("segment",), True)
        for name, (table, column) in blobs.items()
    }
    lost = {
        "sqlite": "UPDATE segment_identities SET entries = "
        f"{_flipped(store, 'entries')} WHERE length(entries) > 11",
        "postgresql": "DELETE FROM identities WHERE position % 3 = 0",
    }
    rows = {"sqlite": "event_rows", "postgresql": "events"}[store]
    return {
        "event": Case(
            f"UPDATE {rows} SET message = 'x' WHERE position = {SEGMENT_SIZE - 50}",
            ("event",),
            False,
        ),
        "page": Case(_flip_page, ("event", "file", "database"), False),
        **cases,
        "identity": Case(lost[store], ("identity", "segment"), True),
        "catalog": Case(
            "UPDATE deployments SET status = 'failed', added = 9", ("deployment",), True
        ),
        "stack": Case("UPDATE stacks SET name = 'other'", ("stack",), True),
    }


async def run(trial: Trial) -> Outcome:
    """Each case on a store of its own."""
    if trial.without:
        PROTECTIONS[trial.without]()
    found: list[str] = []
    figures: dict[str, float | int | str] = {"cases": 0, "named": 0, "mended": 0, "refused": 0}
    choice = random.Random(trial.seed)
    for _ in range(trial["rounds"]):
        for name, case in _cases(trial.store).items():
            with _place(trial.store, choice) as place:
                await _fill(place)
                found += [f"{name}: {each}" for each in await _try(place, case, figures)]
    return Outcome(figures=figures, findings=found)


@contextmanager
def _place(store: str, choice: random.Random) -> Iterator[Place]:
    with TemporaryDirectory(prefix="faults-damage-") as folder:
        if store == "sqlite":
            file = Path(folder, "deploylog.db")
            yield Place(f"sqlite:///{file}", choice, file=file)
            return
        with database() as server:
            yield Place(server.url, choice, server=server)


async def _try(place: Place, case: Case, figures: dict[str, Any]) -> list[str]:
    right = await _answers(place.url)
    before, _ = _verify(place.url)
    if before:
        return [f"an undamaged store has findings: {before}"]
    if isinstance(case.damage, str):
        place.execute(case.damage)
    else:
        case.damage(place)
    named, _ = _verify(place.url)
    figures["cases"] += 1
    found = []
    if not any(each["part"] in case.parts for each in named):
        found.append(f"verify names nothing of it: {named[:3]}")
    figures["named"] += not found
    answers = await _answers(place.url)
    found += [
        f"query {query} is answered wrongly in silence"
        for query, answer in answers.items()
        if answer is not None and answer != right[query] and not _tells(answer, right[query])
    ]
    figures["refused"] += sum(answer is None for answer in answers.values())
    _verify(place.url, "--mend")
    left, _ = _verify(place.url)
    if case.is_mended and left:
        found.append(f"is not mended: {left[:3]}")
    figures["mended"] += case.is_mended and not left
    return found


#: Of each event its position and message; and the positions that are told to be damaged.
_Answer = tuple[list[tuple[int, str | None]], list[int]]


def _tells(answer: _Answer, right: _Answer) -> bool:
    """Whether what is missing is told to be damaged."""
    events, damaged = answer
    return bool(damaged) and [each for each in right[0] if each[0] not in damaged] == events


async def _answers(url: str) -> dict[str, _Answer | None]:
    """What each query answers; ``None`` when it is refused."""
    answers: dict[str, _Answer | None] = dict.fromkeys(_ASKED)
    try:
        async with open_store(url, observer=Unobserved()) as store:
            for name, query in _ASKED.items():
                try:
                    page = await store.log.read(query)
                except DeploylogError:
                    continue
                except Exception as error:
                    # No refusal: it would be a 500.
                    answers[name] = [(0, repr(error))], []
                    continue
                events = [(event.position, event.message) for event in page]
                answers[name] = events, [each.position for each in page.damaged]
    except DeploylogError:
        return answers
    return answers


def _verify(url: str, *options: str) -> tuple[list[dict[str, Any]], int]:
    """The findings of the command, and its exit code."""
    command = [sys.executable, "-m", "deploylog", "verify", "--json", "--store", url, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env=servers.environment(), check=False
    )
    lines = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        lines.append({"part": "crash", "what": done.stderr[-500:]})
    return [line for line in lines if "part" in line], done.returncode


async def _fill(place: Place) -> None:
    """A sealed segment of some hundred events, a stack, and a deployment that is going on."""
    migrate_store(place.url)
    place.execute(f"UPDATE log SET head = {SEGMENT_SIZE - _EVENTS // 2}")
    run = scope("project", "acme", "stack", _STACK, "deployment", _DEPLOYMENT)
    stack = scope("project", "acme", "stack", _STACK)
    async with open_store(place.url, observer=Unobserved()) as store:
        await store.log.append([_event(0, "stack.created", (stack,), data=b'{"name":"web"}')])
        await store.log.append([_event(1, "deployment.started", (run,))])
        for first in range(2, _EVENTS, 50):
            numbers = range(first, first + 50)
            events = [_event(n, "resource.create.completed", (run,)) for n in numbers]
            await store.log.append(events)
    async with open_store(place.url, observer=Unobserved()):
        """What is full is sealed now."""


def _event(number: int, type: str, scopes: Any, **more: Any) -> NewEvent:
    fields = {"subject": f"subject-{number}"} | more
    return NewEvent(
        type=type,
        source="damage",
        scopes=scopes,
        time=number * 1_000,
        producer_id=str(number),
        actor=f"actor-{number % 7}",
        message=f"message of number {number}",
        **fields,
    )


SUITE = Suite(
    name="damage",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={"sqlite": ("checksums",), "postgresql": ("checksums",)},
    numbers={"rounds": 1},
)

if __name__ == "__main__":
    SUITE.main()
