"""Two processes on one store: an answer has what was acknowledged before it was asked for.

Six writers append over the end of a segment, so that one process seals it meanwhile.
"""

import asyncio
from pathlib import Path

from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.store import open_store
from support.backends import Backend
from support.factories import Commits
from support.servers import EVENTS, Spawned, line, spawned
from support.waiting import until

WRITERS = 6
ROUNDS = 40


async def test_every_process_finds_what_any_acknowledged(
    backend: Backend, store_url: str, tmp_path: Path
):
    path = tmp_path / "log.db"
    async with open_store(store_url, observer=Commits()):
        pass
    backend.move_head(path, SEGMENT_SIZE - WRITERS * ROUNDS // 2)

    async with spawned(store_url) as one, spawned(store_url) as other:
        await asyncio.gather(*(write(one, other, number) for number in range(WRITERS)))
        await until(lambda: backend.sealed(path) == [0])

        for service in (one, other):
            assert await count(service) == WRITERS * ROUNDS


async def write(one: Spawned, other: Spawned, number: int) -> None:
    """Append to one process, and ask the other one for it at once; then the other way round."""
    for turn in range(ROUNDS):
        actor = f"writer-{number}-{turn}"
        await one.append([line(actor=actor)])

        found = await other.get(f"{EVENTS}?actor={actor}")

        assert [each["actor"] for each in found.json["events"]] == [actor]
        one, other = other, one


async def count(service: Spawned) -> int:
    """The events that a process lists, page by page."""
    cursor, found = "", 0
    while True:
        page = (await service.get(f"{EVENTS}?limit=100{cursor}")).json
        found += len(page["events"])
        if page.get("next") is None:
            return found
        cursor = f"&before={page['next']}"
