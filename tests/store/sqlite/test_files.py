"""The store's files: SQLite opens them, and nothing else in the process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploylog.api.bluelink.plan_files import PlanFiles
from deploylog.errors import PlanNotFound
from deploylog.store import open_store
from support.factories import Commits

#: Prints what is opened by a name that begins as the store's does, other than by SQLite.
_WATCHED = """
import asyncio, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from deploylog.store import migrate_store, open_store, store_exists
from support.factories import Commits, new_event

url = f"sqlite:///{sys.argv[1]}"
opened = []

def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(sys.argv[1]):
        opened.append(arguments[0])

async def use():
    async with open_store(url, observer=Commits()) as store:
        await store.log.append([new_event()])
        await store.ready()
        await store.credentials.list()
        await store.log.prune(time.time_ns())
        assert store.owns(Path(sys.argv[1]).stat())

sys.addaudithook(watch)
store_exists(url)
migrate_store(url)
asyncio.run(use())
# Another copy of SQLite, which knows nothing of the other's locks.
assert "sqlite3" not in sys.modules
open(sys.argv[1]).close()
print(len(opened))
"""


def test_no_descriptor_but_sqlites_touches_the_store(tmp_path: Path):
    tests = str(Path(__file__).parent.parent.parent)

    ended = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(tmp_path / "log.db"), tests],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    # The one that the script itself opens at its end, to show that it is seen.
    assert ended.stdout.split() == ["1"]


async def test_a_file_of_the_store_is_never_opened(tmp_path: Path):
    folder = tmp_path / "plans"
    (folder / "web").mkdir(parents=True)
    file = folder / "web" / "log.db"
    async with open_store(f"sqlite:///{file}", observer=Commits()) as store:
        os.link(file, folder / "plan.json")
        plans = PlanFiles([str(folder)], limit=1 << 20, reserved=store.owns)
        for name in ("web/log.db", "web/log.db-wal", "web/log.db-shm", "plan.json"):
            with pytest.raises(PlanNotFound):
                plans.read(str(folder), name)

        reader = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM log')"
        command = [sys.executable, "-c", reader, str(file)]
        await asyncio.to_thread(subprocess.run, command, check=True)

        await store.ready()
