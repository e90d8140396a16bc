"""A list that waits for events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.servers import EVENTS, Local, line, running
from support.subscribers import add_key

OLDEST = f"{EVENTS}?order=oldest"


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def waiting(server: Local, query: str, headers: Any = None) -> asyncio.Task[Any]:
    """A request that has begun to wait."""
    readers = server.hub.readers
    task = asyncio.create_task(server.get(f"{OLDEST}&{query}", headers=headers))
    await server.until(lambda: server.hub.readers > readers)
    return task


async def test_the_next_event_ends_the_wait(server: Local):
    [first] = await server.append([{"type": "a", "source": "t", "scopes": "x"}])
    task = await waiting(server, f"after={first}&wait=20")

    [second] = await server.append([{"type": "b", "source": "t", "scopes": "x"}])

    assert (await task).ids == [second]


async def test_what_does_not_match_does_not_end_the_wait(server: Local):
    task = await waiting(server, "type=b&wait=20")

    await server.append([{"type": "a", "source": "t", "scopes": "x"}])
    [matching] = await server.append([{"type": "b", "source": "t", "scopes": "x"}])

    assert (await task).ids == [matching]


async def test_what_is_hidden_does_not_end_the_wait(server: Local, store: Store):
    _, writer = await add_key(store, "admin:/", groups=("ops",), name="writer")
    _, reader = await add_key(store, "read:/", name="reader")
    task = await waiting(server, "wait=20", reader)

    hidden = await server.post(line("a", groups="ops"), headers=writer)
    open_ = await server.post(line("b"), headers=writer)

    assert (hidden.status, open_.status) == (201, 201)
    assert (await task).ids == open_.ids


async def test_a_page_with_events_does_not_wait(server: Local):
    [first] = await server.append([{"type": "a", "source": "t", "scopes": "x"}])

    answer = await server.get(f"{OLDEST}&wait=300")

    assert answer.ids == [first]


async def test_the_end_of_the_wait_is_an_empty_page(server: Local):
    answer = await server.get(f"{OLDEST}&wait=1")

    assert (answer.status, answer.ids) == (200, [])


@pytest.mark.parametrize("query", ["wait=1", "order=newest&wait=1", "order=oldest&wait=301"])
async def test_a_wait_that_cannot_be_is_refused(server: Local, query: str):
    answer = await server.get(f"{EVENTS}?{query}")

    assert (answer.status, answer.json["field"]) == (400, "wait")


async def test_not_excludes_as_the_exclamation_mark_does(server: Local):
    for type in ("a", "b", "c"):
        await server.append([{"type": type, "source": "t", "scopes": "x"}])

    answer = await server.get(f"{EVENTS}?not=type=a&type!=b")

    assert [event["type"] for event in answer.json["events"]] == ["c"]


@pytest.mark.parametrize("text", ["type", "type=", "typo=a", "=a"])
async def test_an_exclusion_that_is_none_is_refused(server: Local, text: str):
    answer = await server.get(f"{EVENTS}?not={text}")

    assert (answer.status, answer.json["field"]) == (400, "not")
