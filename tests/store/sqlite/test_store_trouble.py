"""The store's files are gone, or the disk is full: nothing is acknowledged, and it is logged."""

import asyncio
import logging
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploylog.errors import OperatorError, StoreUnavailable
from deploylog.server.logs import _NotReported
from deploylog.store import migrate_store
from support.servers import EVENTS, Spawned, line, spawned
from support.waiting import until

#: Trouble is over this many seconds after the last failure.
SOON = {"deploylog.store.health.PROVEN_SECONDS": 0.2}

NOBODY = 65534


@pytest.fixture
async def server(url: str) -> AsyncIterator[Spawned]:
    async with spawned(url, constants=SOON) as server:
        yield server


def checkpoint(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint").fetchall()


def replace(file: Path) -> None:
    shutil.copy(file, copy := file.with_suffix(".copy"))
    copy.replace(file)


def overwrite(file: Path) -> None:
    """As ``cp older.db log.db`` does it."""
    file.write_bytes(file.read_bytes()[:-4096])


def delete(suffix: str) -> Callable[[Path], None]:
    return lambda file: Path(f"{file}{suffix}").unlink()


def delete_all(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        delete(suffix)(file)


def rename_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))


def make_folder(parent: Path) -> Path:
    (folder := parent / "store").mkdir()
    return folder


def size_of(file: Path) -> int:
    """Of the write-ahead log."""
    return Path(f"{file}-wal").stat().st_size


HARMS = {
    "database deleted": delete(""),
    "write-ahead log deleted": delete("-wal"),
    "shared memory deleted": delete("-shm"),
    "all deleted": delete_all,
    "database replaced": replace,
    "database overwritten": overwrite,
    "folder renamed": rename_folder,
}


@pytest.mark.parametrize("harm", HARMS)
async def test_nothing_is_acknowledged_once_the_store_s_files_are_gone(harm: str, tmp_path: Path):
    file = make_folder(tmp_path) / "log.db"
    async with spawned(f"sqlite:///{file}") as server:
        ids = await server.append([line() for _ in range(20)])
        checkpoint(file)
        ids += await server.append([line()])

        HARMS[harm](file)

        ready = await server.get("/readyz")
        answers = [await server.post(line()) for _ in range(3)]
        listed = await server.get(f"{EVENTS}?order=oldest")
        alive = await server.get("/healthz")
        _, output = await server.end()

    assert [answer.status for answer in answers] == [503] * 3
    assert "log.db" in answers[0].json["detail"]
    assert (ready.status, ready.json["detail"]) == (503, answers[0].json["detail"])
    assert (listed.ids[:20], alive.status) == (ids[:20], 200)
    assert output.count("ERROR") == 1, output
    assert "Traceback" not in output


async def test_the_store_records_again_when_its_file_is_back(server: Spawned, file: Path):
    first = await server.append([line()])
    away = file.with_name("away")
    os.rename(file, away)
    refused = await server.post(line())

    os.rename(away, file)

    second = await server.append([line()])
    await until(lambda: is_ready(server))
    await server.end(signal.SIGKILL)
    async with spawned(f"sqlite:///{file}") as again:
        found = (await again.get(f"{EVENTS}?order=oldest")).ids
    assert refused.status == 503
    assert found == first + second


async def is_ready(server: Spawned) -> bool:
    return (await server.get("/readyz")).status == 200


@contextmanager
def full_disk(server: Spawned, file: Path) -> Iterator[None]:
    """Let no file of the process grow beyond what the write-ahead log has: the kernel refuses."""
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    limits = (size_of(file), hard)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_logged_once_and_nothing_acknowledged_is_lost(
    server: Spawned, file: Path
):
    acknowledged = await server.append([line() for _ in range(20)])

    with full_disk(server, file):
        refused = [(await server.post(line(message="x" * 20_000))).status for _ in range(3)]
        probed = [(await server.get("/readyz")) for _ in range(3)]
        listed = (await server.get(f"{EVENTS}?order=oldest")).ids
    acknowledged += await server.append([line()])
    await until(lambda: is_ready(server))
    acknowledged += await server.append([line()])
    _, output = await server.end(signal.SIGKILL)

    async with spawned(f"sqlite:///{file}") as again:
        found = (await again.get(f"{EVENTS}?order=oldest")).ids
    assert refused == [503] * 3
    assert [answer.status for answer in probed] == [503] * 3
    assert "disk" in probed[0].json["detail"]
    assert listed == acknowledged[:20]
    assert found == acknowledged
    logged = [line for line in output.splitlines() if " store " in line]
    assert ["does not record" in logged[0], "records again" in logged[1]] == [True, True]
    assert len(logged) == 2
    assert output.count("ERROR") == 1


async def test_readiness_finds_a_full_disk_before_the_first_append(server: Spawned, file: Path):
    await server.append([line()])
    assert await is_ready(server)

    with full_disk(server, file):

        async def is_unready() -> bool:
            return not await is_ready(server)

        await until(is_unready)
    await until(lambda: is_ready(server))


async def test_readiness_writes_a_page_now_and_then_not_for_every_probe(url: str, file: Path):
    async with spawned(url) as server:
        await server.append([line()])
        before = size_of(file)

        for _ in range(20):
            assert await is_ready(server)

        assert size_of(file) - before <= 2 * (4096 + 24)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user can enter: pytest's own only its owner can."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        migrate_store(f"sqlite:///{folder / 'log.db'}")
        (folder / "log.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o700)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, if the tests have them."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["log.db", "new.db"])
def test_a_store_that_cannot_be_written_is_refused(readable: Path, name: str):
    with as_nobody(), pytest.raises(OperatorError, match=f"cannot open the store .*{name}"):
        migrate_store(f"sqlite:///{readable / name}")


async def test_a_store_that_cannot_be_created_is_refused():
    with pytest.raises(OperatorError, match="cannot open the store"):
        await asyncio.to_thread(migrate_store, "sqlite:////proc/log.db")


async def test_a_write_ahead_log_without_its_database_is_not_replaced(url: str, file: Path):
    async with spawned(url) as server:
        await server.append([line()])
        await server.end(signal.SIGKILL)
    before = size_of(file)
    os.rename(file, file.with_name("away"))

    with pytest.raises(OperatorError, match=r"log\.db-wal is there"):
        await asyncio.to_thread(migrate_store, url)

    assert size_of(file) == before
    os.rename(file.with_name("away"), file)
    async with spawned(url) as again:
        assert len((await again.get(EVENTS)).ids) == 1


def test_a_failure_that_the_store_logged_is_not_logged_by_every_loop_that_retries():
    logged, new = StoreUnavailable(), StoreUnavailable()
    logged.reported = True

    passed = [_NotReported().filter(failure(error)) for error in (logged, new, ValueError())]

    assert passed == [False, True, True]


def failure(error: Exception) -> logging.LogRecord:
    about = (type(error), error, None)
    return logging.LogRecord("x", logging.ERROR, "", 0, "trying again", (), about)
