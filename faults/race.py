"""Ask one process for what another one has just acknowledged: the answer must have it.

Two processes serve one store. Six writers append to one of them, and ask the other one at once: by
the writer's own rare value, by a word, and for a count; then the other way round. Readers follow
both streams. The writing goes over the end of a segment, so that one process seals it meanwhile.
"""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import msgspec
import psycopg
from bench import servers
from bench.http1 import Client, get, post
from bench.samples import NDJSON

from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.store import migrate_store
from faults.database import store_url
from faults.suite import Outcome, Suite, Trial
from faults.tails import Tail, caught_up, faults_of, following

_WRITERS = 6
_SCOPE = "project/race"
_EVENTS = "/log/v1/events"
_PAGE = 1_000


class _Event(msgspec.Struct):
    id: str
    position: str


class _Page(msgspec.Struct):
    events: list[_Event]
    next: str | None = None


class _Count(msgspec.Struct):
    count: int


async def run(trial: Trial) -> Outcome:
    """All writers, once."""
    with (
        TemporaryDirectory(prefix="faults-race-") as name,
        store_url(trial.store, Path(name)) as url,
    ):
        migrate_store(url)
        _move_head(url, SEGMENT_SIZE - _WRITERS * trial["turns"] // 2)
        async with AsyncExitStack() as running:
            serve = partial(servers.deploylog, Path(name), store=url, program=trial.program)
            one, two = [(await running.enter_async_context(serve())).port for _ in range(2)]
            readers = [Tail(f"scope={_SCOPE}") for _ in range(2)]
            writers = [_Writer(number) for number in range(_WRITERS)]
            async with following(readers[:1], one), following(readers[1:], two):
                await asyncio.gather(*(each.run(one, two, trial["turns"]) for each in writers))
                log = await _read_all(one)
                await caught_up(readers, len(log))
    found = [fault for writer in writers for fault in writer.faults]
    found += [fault for reader in readers for fault in faults_of(reader, log)]
    if len(log) != _WRITERS * trial["turns"]:
        found.append(f"a list has {len(log)} events instead of {_WRITERS * trial['turns']}")
    return Outcome(
        figures={
            "writers": _WRITERS,
            "events": len(log),
            "answers": sum(writer.answers for writer in writers),
        },
        findings=found,
    )


class _Writer:
    """Appends to one process, and asks the other one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.answers = 0
        self.faults: list[str] = []

    async def run(self, one: int, two: int, turns: int) -> None:
        clients = [await Client.open(one), await Client.open(two)]
        for turn in range(turns):
            await self._turn(clients[turn % 2], clients[(turn + 1) % 2], turn)

    async def _turn(self, writing: Client, asked: Client, turn: int) -> None:
        actor, word = f"writer-{self._number}-{turn}", f"turn{self._number}x{turn}"
        event = {"type": "race.test", "actor": actor, "message": f"{word} of many"}
        path = f"{_EVENTS}?source=race&scope={_SCOPE}"
        await writing.expect(201, post(path, msgspec.json.encode(event), NDJSON))
        by_actor = await self._page(asked, f"actor={actor}")
        by_word = await self._page(asked, f"q={word}")
        counted = await asked.expect(200, get(f"{_EVENTS}/count?actor={actor}"))
        found = (len(by_actor), len(by_word), msgspec.json.decode(counted, type=_Count).count)
        self.answers += len(found)
        if found != (1, 1, 1):
            self.faults.append(f"an answer lacks event {actor}: by actor, word and count {found}")

    async def _page(self, client: Client, query: str) -> list[_Event]:
        body = await client.expect(200, get(f"{_EVENTS}?{query}"))
        return msgspec.json.decode(body, type=_Page).events


def _move_head(url: str, head: int) -> None:
    """Let few events fill a segment."""
    sql = f"UPDATE log SET head = {head}"
    if url.startswith("sqlite:"):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        connection.execute(sql)
        connection.close()
        return
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(sql)


async def _read_all(port: int) -> list[tuple[str, int]]:
    client = await Client.open(port)
    log: list[_Event] = []
    after: str | None = ""
    while after is not None:
        cursor = f"&after={after}" if after else ""
        path = f"{_EVENTS}?scope={_SCOPE}&order=oldest&limit={_PAGE}{cursor}"
        page = msgspec.json.decode(await client.expect(200, get(path)), type=_Page)
        log += page.events
        after = page.next
    client.close()
    return [(each.id, int(each.position)) for each in log]


SUITE = Suite(
    name="race",
    about=__doc__.partition("\n")[0],
    run=run,
    protections={"sqlite": ("wait",), "postgresql": ("wait",)},
    numbers={"turns": 250},
    proof={"turns": 60},
)

if __name__ == "__main__":
    SUITE.main()
