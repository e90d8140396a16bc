"""The readers of the SQLite store: pools apart, a deadline, and interrupts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from deploylog.errors import QueryTooExpensive, StoreUnavailable, TooMany
from deploylog.store.readers import QUERY_READERS
from deploylog.store.sqlite import open_sqlite
from deploylog.store.sqlite.connection import connect
from deploylog.store.sqlite.readers import Readers
from support.factories import Commits
from support.servers import EVENTS, running
from support.waiting import until

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def endless(connection: apsw.Connection) -> None:
    connection.execute(ENDLESS).fetchall()


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[Readers]:
    connect(tmp_path / "log.db").close()
    readers = Readers(tmp_path / "log.db", query_seconds=0.2)
    yield readers
    readers.close()


async def test_a_query_that_takes_too_long_is_stopped(readers: Readers):
    async with asyncio.timeout(10):
        with pytest.raises(QueryTooExpensive):
            await readers.queries.run(endless)

        assert await readers.queries.rows("SELECT 1") == [(1,)]


async def test_a_lookup_does_not_wait_for_queries(readers: Readers):
    async with asyncio.timeout(10):
        queries = [asyncio.create_task(readers.queries.run(endless)) for _ in range(40)]
        await asyncio.sleep(0)

        assert await readers.rows("SELECT 1") == [(1,)]
        assert not any(query.done() for query in queries)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)


async def test_a_query_does_not_wait_for_the_crowd_of_another_caller(readers: Readers):
    async with asyncio.timeout(10):
        crowd = [asyncio.create_task(readers.queries.run(endless, caller="ann")) for _ in range(40)]
        await asyncio.sleep(0)

        assert await readers.queries.rows("SELECT 1", caller="bob") == [(1,)]
        assert not any(query.done() for query in crowd)
        outcomes = await asyncio.gather(*crowd, return_exceptions=True)

    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {QueryTooExpensive, TooMany}


async def test_a_caller_whose_queries_end_as_its_next_gives_up_was_still_in_its_own_way(
    tmp_path: Path,
):
    connect(tmp_path / "log.db").close()
    readers = Readers(tmp_path / "log.db", query_seconds=0)
    turns = readers.queries._turns
    while not turns.is_full("ann"):
        await turns.acquire("ann")
    held = turns.in_use
    waiting = asyncio.create_task(readers.queries.run(endless, caller="ann"))
    await asyncio.sleep(0)

    for _ in range(held):
        turns.release("ann")

    with pytest.raises(TooMany):
        await waiting
    assert turns.in_use == 0
    readers.close()


async def test_a_query_whose_caller_leaves_is_stopped(tmp_path: Path):
    connect(tmp_path / "log.db").close()
    readers = Readers(tmp_path / "log.db", query_seconds=3600)
    async with asyncio.timeout(10):
        queries = [
            asyncio.create_task(readers.queries.run(endless, caller=str(number)))
            for number in range(QUERY_READERS)
        ]
        await asyncio.sleep(0.01)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)

        assert await readers.queries.rows("SELECT 1") == [(1,)]
    readers.close()


async def test_to_close_stops_what_runs(tmp_path: Path):
    connect(tmp_path / "log.db").close()
    readers = Readers(tmp_path / "log.db", query_seconds=3600)
    query = asyncio.create_task(readers.queries.run(endless))
    await asyncio.sleep(0.01)

    readers.close()

    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await query


async def test_a_query_stops_when_its_client_disconnects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun = threading.Event()

    def read_for_ever(connection: apsw.Connection, *args: object, **kwargs: object) -> None:
        begun.set()
        endless(connection)

    async with (
        open_sqlite(tmp_path / "log.db", observer=Commits(), query_seconds=30) as store,
        running(store) as server,
    ):
        monkeypatch.setattr("deploylog.store.sqlite.events.read_events", read_for_ever)
        turns = store.log._readers.queries._turns

        asking = asyncio.create_task(server.get(EVENTS))
        await until(begun.is_set)
        assert turns.in_use == 1
        asking.cancel()

        await until(lambda: turns.in_use == 0)
