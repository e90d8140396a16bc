"""Fixtures: a server that listens."""

from collections.abc import AsyncIterator

import pytest

from deploylog.store.base import Store
from servers import Local, running


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server
