"""NUL, which PostgreSQL stores in no text: nothing is found by it, and nothing fails."""

from pathlib import Path

import pytest

from deploylog.errors import DeploymentNotFound
from deploylog.events.access import ALL
from deploylog.events.filters import Filter, any_of
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.store import Query
from deploylog.store import open_store
from support import postgres
from support.factories import Commits, attempt, delivery, new_events
from support.holding import NOW, held
from support.waiting import until


async def test_nothing_is_found_by_it(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()):
        pass
    postgres.run(url, "UPDATE log SET head = %s", SEGMENT_SIZE - 101)
    async with open_store(url, observer=Commits()) as store:
        await store.log.append(new_events(200))
        await until(lambda: bool(postgres.run(url, "SELECT 1 FROM segments")))

        for value in ("\0", "a\0*"):
            query = Query(filter=Filter(all_of=(any_of("actor", (value,)),)))
            assert await store.log.read(query) == []
        assert await store.catalog.stacks(ALL, name="\0") == []
        with pytest.raises(DeploymentNotFound):
            await store.catalog.deployment("\0")


async def test_a_response_that_holds_it_is_recorded(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()) as store:
        new = await held(store)

        await store.deliveries.record("me", [delivery(new, attempt(1, response="a\0b"))], now=NOW)

        [recorded] = await store.deliveries.attempts(new.id)
        assert recorded.response == "a\N{REPLACEMENT CHARACTER}b"
