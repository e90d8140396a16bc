"""Fixtures: a server that listens."""

from collections.abc import AsyncIterator

import pytest

from deploylog.store.contract import Store
from support.servers import Local, running


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server
