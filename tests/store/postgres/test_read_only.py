"""A primary that takes no writes for now: appends are refused, and reads go on."""

from pathlib import Path

import psycopg

from deploylog.store import open_store
from support import postgres
from support.factories import Commits
from support.servers import EVENTS, line, running


async def test_reads_go_on_while_a_primary_takes_no_writes(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()) as store, running(store) as service:
        ids = await service.append([line()])
        set_read_only(url, "on")

        refused = await service.post(line())
        listed = await service.get(EVENTS)
        found = await service.get(f"{EVENTS}/{ids[0]}")
        set_read_only(url, "off")
        recorded = await service.append([line()])

        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert (listed.ids, found.status) == (ids, 200)
        assert (await service.get(f"{EVENTS}?order=oldest")).ids == [*ids, *recorded]


def set_read_only(url: str, value: str) -> None:
    """For every session from now on; those that are there end."""
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        connection.execute(_END_OTHERS)


_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
