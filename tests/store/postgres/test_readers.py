"""The readers of the PostgreSQL store, while their server is gone."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploylog.errors import StoreUnavailable
from deploylog.store.postgres import readers as module
from deploylog.store.postgres.appender import RECONNECT_SECONDS
from deploylog.store.postgres.readers import Readers
from store.postgres.cutting_proxy import cutting_proxy
from support import postgres


class Server:
    """A server that can go away, for those who connect to it by ``conninfo``."""

    def __init__(self, url: str, conninfo: str, folder: Path) -> None:
        self._url = url
        self.conninfo = conninfo
        self._door = folder / ".s.PGSQL.5432"

    def go(self) -> None:
        self._door.rename(self._door.with_suffix(".gone"))
        postgres.run(self._url, _END_OTHERS)

    def come_back(self) -> None:
        self._door.with_suffix(".gone").rename(self._door)


_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    url = postgres.url_at(tmp_path / "log.db")
    # A socket's path must be short.
    with tempfile.TemporaryDirectory() as folder, cutting_proxy(url, Path(folder)) as (conninfo, _):
        yield Server(url, conninfo, Path(folder))


@pytest.fixture
async def readers(server: Server) -> AsyncIterator[Readers]:
    readers = Readers(server.conninfo, query_seconds=0.2)
    assert await readers.queries.rows("SELECT 1") == [(1,)]
    yield readers
    readers.close()


async def test_a_query_waits_for_a_server_that_comes_back(server: Server, readers: Readers):
    server.go()

    query = asyncio.create_task(readers.queries.rows("SELECT 1"))
    # Longer than a query may run: it has not begun.
    done, _ = await asyncio.wait([query], timeout=0.6)
    server.come_back()

    assert not done
    assert await query == [(1,)]


async def test_nobody_waits_for_a_server_that_is_known_to_be_gone(
    server: Server, readers: Readers, monkeypatch: pytest.MonkeyPatch
):
    server.go()
    with monkeypatch.context() as patch:
        patch.setattr(module, "RECONNECT_SECONDS", 0.1)
        with pytest.raises(StoreUnavailable):
            await readers.queries.rows("SELECT 1")

    async with asyncio.timeout(RECONNECT_SECONDS / 2):
        with pytest.raises(StoreUnavailable):
            await readers.queries.rows("SELECT 1")
    server.come_back()

    assert await readers.queries.rows("SELECT 1") == [(1,)]
    assert await readers.rows("SELECT 1") == [(1,)]
