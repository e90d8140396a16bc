"""Large events: every surface serves as many as an API promises, in pages of bounded bytes."""

from collections.abc import AsyncIterator

import pytest

from deploylog.store.base import Store
from factories import new_events
from servers import Local, running

#: Some 38 MB: more than four pages.
LARGE = 150


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def fill(store: Store, number: int = LARGE, **fields: object) -> None:
    """Large events of one stack."""
    for _ in range(0, number, 50):
        await store.log.append(new_events(50, data="x" * 250_000, **fields))


async def test_the_native_api_pages_through_large_events(server: Local, store: Store):
    await fill(store)

    first = (await server.get("/log/v1/events?limit=1000")).json
    ids = [event["id"] for event in first["events"]]
    page = first
    while "next" in page:
        page = (await server.get(f"/log/v1/events?limit=1000&before={page['next']}")).json
        ids += [event["id"] for event in page["events"]]

    assert len(first["events"]) < LARGE
    assert len(set(ids)) == len(ids) == LARGE
