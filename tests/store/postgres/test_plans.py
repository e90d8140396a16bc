"""Plans of statements that run with each commit: made while a table is empty, and kept."""

from pathlib import Path

import pytest

from deploylog.store import open_store
from deploylog.store.postgres.append import POSITIONS
from deploylog.store.postgres.connection import connect, conninfo_of
from deploylog.store.postgres.head_watch import NEWEST
from support import postgres
from support.factories import Commits, new_events


@pytest.mark.parametrize(
    ("sql", "call"),
    [
        (POSITIONS.replace("%s", "$1"), "probe (ARRAY[1, 2, 3])"),
        (NEWEST, "probe"),
    ],
    ids=["identities", "head"],
)
async def test_a_plan_made_while_a_table_is_empty_looks_each_row_up(
    tmp_path: Path, sql: str, call: str
):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()) as store:
        await store.log.append(new_events(1))
    with connect(conninfo_of(url)) as connection:
        connection.execute(f"PREPARE probe AS {sql}")

        plan = [str(row[0]) for row in connection.execute(f"EXPLAIN EXECUTE {call}")]

    assert any("Index Cond" in line for line in plan)
    assert not any("Hash" in line or "Merge" in line for line in plan)
