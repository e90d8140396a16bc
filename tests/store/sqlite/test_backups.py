"""Backups and restores: whole, verified, and never over a store that is in use."""

import asyncio
import fcntl
import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from deploylog.errors import InvalidCursor, OperatorError, SchemaTooNew
from deploylog.events.access import ANONYMOUS
from deploylog.events.event import Event
from deploylog.events.hub import Hub
from deploylog.events.ids import parse_event_id
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.events.streams import OpenStreams
from deploylog.store import backup_store, migrate_store, open_store, restore_store
from deploylog.store.contract import Contents
from deploylog.store.migrations import migrations
from support.cli import deploylog
from support.factories import Commits, new_events
from support.waiting import until


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the backup is made."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "copy.db"


async def record(url: str, number: int = 3) -> list[Event]:
    async with open_store(url, observer=Commits()) as store:
        return await store.log.append(new_events(number))


async def recorded(url: str) -> list[Event]:
    async with open_store(url, observer=Commits()) as store:
        return await store.log.read(Query(order="oldest", limit=1000))


def damage(file: Path) -> None:
    """Let a page in the middle hold something else."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    file.write_bytes(content)


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def put(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def put_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def files_of(file: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in file.parent.glob(f"{file.name}*")}


def remove(file: Path) -> None:
    file.unlink()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Backing up


async def test_a_backup_is_one_file_with_everything_that_only_its_owner_can_read(
    url: str, copy: Path
):
    events = await record(url)

    contents = backup_store(url, copy, force=False)

    assert contents == Contents(events=3, head=3, schema=contents.schema)
    assert names(copy.parent) == {"copy.db"}
    assert mode_of(copy) == 0o600
    assert await recorded(f"sqlite:///{copy}") == events


async def test_a_backup_can_be_read_where_nothing_can_be_written(url: str, copy: Path):
    await record(url)

    backup_store(url, copy, force=False)

    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_backup_replaces_nothing_unless_forced(url: str, copy: Path):
    await record(url)
    put(copy, "precious")

    with pytest.raises(OperatorError, match=r"copy.db exists.*--force"):
        backup_store(url, copy, force=False)

    assert files_of(copy) == {copy: b"precious"}
    backup_store(url, copy, force=True)
    assert len(await recorded(f"sqlite:///{copy}")) == 3


async def test_an_old_file_beside_never_becomes_part_of_a_backup(url: str, copy: Path):
    await record(url)
    put(copy.with_name("copy.db-wal"), "of another file")

    with pytest.raises(OperatorError, match=r"copy.db-wal exists"):
        backup_store(url, copy, force=False)
    backup_store(url, copy, force=True)

    assert names(copy.parent) == {"copy.db"}


@pytest.mark.parametrize("name", ["log.db", "log.db-wal", "log.db-shm", "log.db-journal", "link"])
async def test_a_backup_over_the_store_itself_is_refused(url: str, file: Path, name: str):
    events = await record(url)
    os.link(file, file.with_name("link"))

    with pytest.raises(OperatorError, match="is a file of"):
        backup_store(url, file.with_name(name), force=True)

    assert await recorded(url) == events


async def test_a_backup_over_a_store_in_use_is_refused(url: str, tmp_path: Path):
    await record(url)
    other = tmp_path / "other.db"
    async with open_store(f"sqlite:///{other}", observer=Commits()) as store:
        # In a thread nothing would be proven: SQLite's locks are the process's.
        refusal = await backed_up_elsewhere(url, other)
        await store.log.append(new_events(1))

    assert "in use" in refusal
    assert len(await recorded(f"sqlite:///{other}")) == 1


async def backed_up_elsewhere(url: str, file: Path) -> str:
    return await ended("backup", str(file), "--force", "--store", url)


async def ended(*arguments: str) -> str:
    """What the command says, in a process of its own, as it is refused."""
    done = await deploylog(*arguments)
    assert done.code == 2
    return done.err


async def test_a_damaged_store_makes_no_backup(url: str, file: Path, copy: Path):
    await record(url, 500)
    damage(file)

    with pytest.raises(OperatorError, match="damaged"):
        backup_store(url, copy, force=False)

    assert names(copy.parent) == set()


async def test_a_folder_that_takes_no_backup_is_named(url: str):
    await record(url)

    with pytest.raises(OperatorError, match="cannot write to /proc"):
        backup_store(url, Path("/proc/copy.db"), force=False)


async def test_a_disk_that_is_too_small_for_a_backup_leaves_nothing_of_it(url: str, copy: Path):
    await record(url, 500)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(OperatorError, match=r"cannot write to .*backups"):
            backup_store(url, copy, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert names(copy.parent) == set()
    assert len(await recorded(url)) == 500


def test_what_is_no_store_makes_no_backup(tmp_path: Path, copy: Path):
    letter = tmp_path / "letter"
    letter.write_text("Dear aunt, " * 1000)
    sqlite3.connect(tmp_path / "empty.db").close()

    for name in ("letter", "empty.db", "missing.db"):
        with pytest.raises(OperatorError):
            backup_store(f"sqlite:///{tmp_path / name}", copy, force=False)

    assert names(copy.parent) == set()


# Restoring


async def test_a_store_is_restored_as_it_was_with_ids_of_another_epoch(
    url: str, file: Path, copy: Path
):
    before = await record(url)
    backup_store(url, copy, force=False)
    remove(file)

    restored = restore_store(url, copy, force=False, keep_ids=False)

    after = await recorded(url)
    assert restored.contents.events == 3
    assert restored.previous is None
    assert [event.producer_id for event in after] == [event.producer_id for event in before]
    assert [event.position for event in after] == [1, 2, 3]
    epochs = {parse_event_id(event.id).epoch for event in before + after}
    assert len(epochs) == 2
    assert mode_of(file) == 0o600


async def test_ids_are_retained_on_request(url: str, file: Path, copy: Path):
    before = await record(url)
    backup_store(url, copy, force=False)
    remove(file)

    restore_store(url, copy, force=False, keep_ids=True)

    assert await recorded(url) == before


async def test_no_cursor_of_the_log_that_was_stands_for_an_event_of_the_restored_one(
    url: str, copy: Path
):
    await record(url)
    backup_store(url, copy, force=False)
    async with open_store(url, observer=Commits()) as store:
        [lost] = await store.log.append(new_events(1))
        token_key = await store.secret("page-token")

    restore_store(url, copy, force=True, keep_ids=False)

    async with open_store(url, observer=Commits()) as store:
        [given_again] = await store.log.append(new_events(1))
        service = EventService(
            store.log, Hub(store.log), open_streams=OpenStreams(max_per_principal=1)
        )
        start = await service.start_after(ANONYMOUS, lost.id)
        with pytest.raises(InvalidCursor):
            service.position(lost.id)
        assert await store.secret("page-token") != token_key
    assert given_again.position == lost.position
    assert (start.after, start.gap.reason if start.gap else None) == (0, "unknown")


async def test_the_previous_store_is_renamed(url: str, file: Path, copy: Path):
    await record(url)
    backup_store(url, copy, force=False)
    await record(url)

    with pytest.raises(OperatorError, match=r"log.db exists.*--force"):
        restore_store(url, copy, force=False, keep_ids=False)
    restored = restore_store(url, copy, force=True, keep_ids=False)

    assert len(await recorded(url)) == 3
    assert restored.previous is not None
    assert len(await recorded(f"sqlite:///{restored.previous}")) == 6


async def test_no_write_ahead_log_of_the_store_that_was_is_played_into_the_restored_one(
    url: str, file: Path, copy: Path
):
    await record(url)
    backup_store(url, copy, force=False)
    # As a killed service leaves it: its last events are in the write-ahead log alone.
    async with open_store(url, observer=Commits()) as store:
        await store.log.append(new_events(5))
        left = files_of(file)
    for path, content in left.items():
        put_bytes(path, content)

    restored = restore_store(url, copy, force=True, keep_ids=True)

    assert len(await recorded(url)) == 3
    assert len(await recorded(f"sqlite:///{restored.previous}")) == 8


async def test_a_snapshot_with_its_write_ahead_log_can_be_restored(
    url: str, file: Path, copy: Path
):
    async with open_store(url, observer=Commits()) as store:
        events = await store.log.append(new_events(5))
        for path, content in files_of(file).items():
            put_bytes(copy.with_name(path.name.replace("log.db", "copy.db")), content)
    remove(copy.with_name("copy.db-shm"))

    restore_store(url, copy, force=True, keep_ids=True)

    assert await recorded(url) == events


async def test_a_damaged_backup_restores_nothing(url: str, file: Path, copy: Path):
    events = await record(url, 500)
    backup_store(url, copy, force=False)
    damage(copy)

    with pytest.raises(OperatorError, match="damaged"):
        restore_store(url, copy, force=True, keep_ids=False)

    assert await recorded(url) == events
    assert {name for name in names(file.parent) if "db" in name} == {"log.db"}


async def test_a_damaged_store_can_be_replaced(url: str, file: Path, copy: Path):
    await record(url)
    backup_store(url, copy, force=False)
    put(file, "This is a letter to my aunt. " * 1000)

    restore_store(url, copy, force=True, keep_ids=False)

    assert len(await recorded(url)) == 3


async def test_a_backup_of_a_newer_schema_is_refused(url: str, copy: Path):
    await record(url)
    backup_store(url, copy, force=False)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(SchemaTooNew, match="99"):
        restore_store(url, copy, force=True, keep_ids=False)


async def test_a_store_in_use_is_not_replaced(url: str, copy: Path):
    await record(url)
    backup_store(url, copy, force=False)
    async with open_store(url, observer=Commits()) as store:
        refusal = await ended("restore", str(copy), "--force", "--store", url)
        await store.log.append(new_events(1))

    assert "in use" in refusal
    assert len(await recorded(url)) == 4


async def test_a_program_that_waited_while_the_store_was_replaced_does_not_open_what_was(
    url: str, file: Path, copy: Path
):
    await record(url)
    backup_store(url, copy, force=False)
    with locked(file):
        waiting = asyncio.create_task(ended("migrate", "--store", url))
        await until(lambda: is_open_elsewhere(file))

        replace(copy, file)

    assert "replaced" in await waiting
    assert len(await recorded(url)) == 3


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold SQLite's exclusive lock, as a restore does."""
    with file.open("rb+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX, 512, 0x40000000)
        yield


def replace(copy: Path, file: Path) -> None:
    copy.replace(file)


def is_open_elsewhere(file: Path) -> bool:
    """Whether another process has it open."""
    own = Path(f"/proc/{os.getpid()}")
    return any(is_open(file, each) for each in Path("/proc").glob("[0-9]*") if each != own)


def is_open(file: Path, process: Path) -> bool:
    with suppress(OSError):
        return any(each.exists() and file.samefile(each) for each in (process / "fd").iterdir())
    return False


def test_a_restored_store_of_an_older_schema_is_migrated(
    url: str, file: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
):
    first, *later = migrations("sqlite")
    with monkeypatch.context() as patch:
        patch.setattr("deploylog.store.sqlite.migrations", lambda backend: [first])
        migrate_store(url)
    backup_store(url, copy, force=False)

    restore_store(url, copy, force=True, keep_ids=False)

    assert migrate_store(url) == [step.name for step in later]
