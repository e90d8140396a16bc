"""Other programs open the store while the service uses it: nothing acknowledged is lost."""

import asyncio
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from support.cli import deploylog
from support.servers import EVENTS, Running, line, spawned
from support.waiting import PATIENCE, until

#: Runs on a store's file to its end, leaves what it makes in a folder, and says what it printed.
Program = Callable[[Path, Path], Awaitable[str]]


def shell(*command: str) -> Program:
    """A command with ``{file}`` and ``{folder}``."""

    async def run(file: Path, folder: Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *(each.format(file=file, folder=folder) for each in command),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    return run


def python(source: str) -> Program:
    """A script that uses Python's own SQLite."""
    return shell(sys.executable, "-c", f"import sqlite3\n{source}")


def ours(*arguments: str) -> Program:
    """A command of ours."""

    async def run(file: Path, folder: Path) -> str:
        given = [each.format(folder=folder) for each in arguments]
        done = await deploylog(*given, "--store", f"sqlite:///{file}")
        assert done.code == 0, done.err
        return done.out

    return run


READER: Program = python(
    "c = sqlite3.connect('{file}')\nc.execute('SELECT count(*) FROM events').fetchone()\nc.close()"
)


PROGRAMS: dict[str, Program] = {
    "reader": READER,
    "vacuum-into": python(
        "import uuid\nc = sqlite3.connect('{file}')\n"
        "c.execute('VACUUM INTO ?', (f'{folder}/{{uuid.uuid4()}}.db',))\nc.close()"
    ),
    "backup-api": python(
        "import uuid\nc = sqlite3.connect('{file}')\n"
        "d = sqlite3.connect(f'{folder}/{{uuid.uuid4()}}.db')\nc.backup(d)\nd.close()\nc.close()"
    ),
    "checkpoint": python(
        "c = sqlite3.connect('{file}')\n"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()\nc.close()"
    ),
    "cp": shell("sh", "-c", "cp {file}* {folder}/"),
    "keys-add": ours("keys", "add", "ci", "--grant", "admin:/"),
    "keys-list": ours("keys", "list"),
    "migrate": ours("migrate"),
    "backup": ours("backup", "{folder}/backup.db", "--force"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where programs put what they make."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


async def ids_in(server: Running) -> list[str]:
    return (await server.get(f"{EVENTS}?limit=1000&order=oldest")).ids


def integrity(file: Path) -> str:
    connection = apsw.Connection(str(file))
    try:
        return str(connection.pragma("integrity_check"))
    finally:
        connection.close()


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "keys-add"])
async def test_what_was_acknowledged_outlives_a_program_that_opened_the_store_and_a_kill(
    name: str, file: Path, url: str, folder: Path
):
    program = PROGRAMS[name]
    async with spawned(url) as server:
        await program(file, folder)
        acknowledged = await server.append([line()])
        await program(file, folder)
        for _ in range(10):
            acknowledged += await server.append([line() for _ in range(10)])
        await program(file, folder)
        acknowledged += await server.append([line()])
        await server.end(signal.SIGKILL)

    async with spawned(url) as again:
        found = await ids_in(again)

    assert found == acknowledged
    assert await asyncio.to_thread(integrity, file) == "ok"


async def test_what_was_acknowledged_outlives_every_program_and_an_orderly_stop(
    file: Path, url: str, folder: Path
):
    acknowledged = []
    async with spawned(url) as server:
        for name, program in PROGRAMS.items():
            if name != "keys-add":
                await program(file, folder)
                acknowledged += await server.append([line(), line()])
        await server.end()

    async with spawned(url) as again:
        found = await ids_in(again)

    assert found == acknowledged
    assert await asyncio.to_thread(integrity, file) == "ok"


async def test_a_key_that_was_added_beside_the_service_leaves_the_store_whole(
    file: Path, url: str, folder: Path
):
    async with spawned(url) as server:
        before = await server.append([line()])
        key = (await PROGRAMS["keys-add"](file, folder)).strip()
        bearer = {"Authorization": f"Bearer {key}"}
        answer = await server.post([line() | {"specversion": "1.0", "id": "1"}],
            "application/cloudevents-batch+json", headers=bearer)  # fmt: skip
        await server.end(signal.SIGKILL)

    async with spawned(url) as again:
        found = (await again.get(f"{EVENTS}?order=oldest", headers=bearer)).ids

    assert answer.status == 201
    assert found == before + answer.ids
    assert await asyncio.to_thread(integrity, file) == "ok"


async def test_another_program_s_end_leaves_the_write_ahead_log_where_it_is(
    file: Path, url: str, folder: Path
):
    async with spawned(url) as server:
        await server.append([line()])
        before = {path.name: path.stat().st_ino for path in file.parent.glob("log.db*")}

        await READER(file, folder)

        assert {path.name: path.stat().st_ino for path in file.parent.glob("log.db*")} == before
        assert set(before) - {"log.db.key", "log.db.serving"} == {
            "log.db",
            "log.db-wal",
            "log.db-shm",
        }


async def test_only_the_owner_can_read_a_new_store(file: Path, url: str):
    async with spawned(url) as server:
        await server.append([line()])

        modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob("log.db*")}

    assert modes == {0o600}


async def test_a_backup_made_while_others_write_is_a_prefix_of_the_log(
    file: Path, url: str, folder: Path
):
    copies = [folder / f"{n}.db" for n in range(3)]
    async with spawned(url) as server:
        acknowledged: list[str] = []
        before: list[int] = []

        async def write() -> None:
            while True:
                acknowledged.extend(await server.append([line(message="x" * 500)] * 20))

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(write())
            for copy in copies:
                await until(lambda: len(acknowledged) > 100 * (len(before) + 1))
                before.append(len(acknowledged))
                await ours("backup", str(copy))(file, folder)
            writing.cancel()
        await server.end(signal.SIGKILL)

    for copy, number in zip(copies, before, strict=True):
        async with spawned(f"sqlite:///{copy}") as restored:
            found = await read_all(restored)
        assert len(found) >= number
        assert found[: len(acknowledged)] == acknowledged[: len(found)]


async def read_all(server: Running) -> list[str]:
    ids: list[str] = []
    while page := (
        await server.get(f"{EVENTS}?order=oldest&limit=1000" + (f"&after={ids[-1]}" if ids else ""))
    ).ids:
        ids += page
    return ids


async def test_a_restore_waits_for_the_service_to_stop_and_its_readers_get_a_gap(
    file: Path, url: str, folder: Path
):
    restore = ours("restore", "{folder}/backup.db", "--force")
    async with spawned(url) as server:
        await server.append([line(), line()])
        await PROGRAMS["backup"](file, folder)
        [seen] = await server.append([line()])
        with pytest.raises(AssertionError, match="in use"):
            await restore(file, folder)
        acknowledged = await server.append([line()])
        await server.end(signal.SIGKILL)

    output = await restore(file, folder)

    assert output.startswith("restored 2 events, head 2, schema ")
    async with spawned(url) as again:
        assert acknowledged[0] not in (await again.get(EVENTS)).ids
        [new] = await again.append([line()])
        async with again.stream(headers={"Last-Event-ID": seen}) as stream:
            gap = await stream.next()
            ids = await stream.take(3)
    assert (gap.event, gap.data["reason"]) == ("gap", "unknown")
    assert ids[-1] == new
