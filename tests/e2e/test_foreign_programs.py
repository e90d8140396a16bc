"""Other programs open the store while the service uses it: nothing acknowledged is lost."""

import asyncio
import signal
import stat
from pathlib import Path

import apsw
import pytest

from foreign import PROGRAMS, READER, run
from servers import EVENTS, Running, line, spawned


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where programs put what they make."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


async def kept(server: Running) -> list[str]:
    return (await server.get(f"{EVENTS}?limit=1000&order=oldest")).ids


def integrity(file: Path) -> str:
    connection = apsw.Connection(str(file))
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "keys-add"])
async def test_what_was_acknowledged_outlives_a_program_that_opened_the_store_and_a_kill(
    name: str, file: Path, url: str, folder: Path
):
    program = PROGRAMS[name]
    async with spawned(url) as server:
        await run(program, file, folder)
        acknowledged = await server.append([line()])
        await run(program, file, folder)
        for _ in range(10):
            acknowledged += await server.append([line() for _ in range(10)])
        await run(program, file, folder)
        acknowledged += await server.append([line()])
        await server.end(signal.SIGKILL)

    async with spawned(url) as again:
        found = await kept(again)

    assert found == acknowledged
    assert await asyncio.to_thread(integrity, file) == "ok"


async def test_what_was_acknowledged_outlives_every_program_and_an_orderly_stop(
    file: Path, url: str, folder: Path
):
    acknowledged = []
    async with spawned(url) as server:
        for name, program in PROGRAMS.items():
            if name != "keys-add":
                await run(program, file, folder)
                acknowledged += await server.append([line(), line()])
        await server.end()

    async with spawned(url) as again:
        found = await kept(again)

    assert found == acknowledged
    assert await asyncio.to_thread(integrity, file) == "ok"


async def test_a_key_that_was_added_beside_the_service_leaves_the_store_whole(
    file: Path, url: str, folder: Path
):
    async with spawned(url) as server:
        before = await server.append([line()])
        key = (await run(PROGRAMS["keys-add"], file, folder)).strip()
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

        await run(READER, file, folder)

        assert {path.name: path.stat().st_ino for path in file.parent.glob("log.db*")} == before
        assert set(before) == {"log.db", "log.db-wal", "log.db-shm"}


async def test_only_the_owner_can_read_a_new_store(file: Path, url: str):
    async with spawned(url) as server:
        await server.append([line()])

        modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob("log.db*")}

    assert modes == {0o600}
