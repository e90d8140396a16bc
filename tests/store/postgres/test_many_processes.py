"""Many processes append to one log, and readers follow it: nothing is skipped."""

import asyncio
from pathlib import Path

from deploylog.events.event import Event
from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.contract import Store
from support import postgres
from support.factories import Commits
from support.processes import new_processes
from support.writers import write_numbers

WRITERS, EVENTS = 8, 250


async def follow(store: Store, number: int) -> list[Event]:
    """The first ``number`` events as a tailing reader gets them, each position once."""
    seen: list[Event] = []
    async for head in store.log.heads():
        after = seen[-1].position if seen else 0
        seen += await store.log.read(Query(after=after, before=head + 1, order="oldest", limit=500))
        if len(seen) >= number:
            break
    return seen


async def test_a_tailing_reader_skips_nothing_of_eight_processes(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    processes = new_processes()
    async with (
        open_store(url, observer=Commits()) as one,
        open_store(url, observer=Commits()) as two,
    ):
        writers = [
            processes.Process(target=write_numbers, args=(url, writer, EVENTS))
            for writer in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        try:
            async with asyncio.timeout(120):
                followed = await asyncio.gather(
                    *(follow(store, WRITERS * EVENTS) for store in (one, two))
                )
        finally:
            for writer in writers:
                await asyncio.to_thread(writer.join)
        everything = await one.log.read(Query(order="oldest", limit=100_000))

    positions = [event.position for event in everything]
    assert positions == list(range(1, WRITERS * EVENTS + 1))
    assert followed == [everything, everything]
    for number in range(WRITERS):
        own = [int(e.subject or "") for e in everything if e.actor == f"writer-{number}"]
        assert own == list(range(EVENTS))
