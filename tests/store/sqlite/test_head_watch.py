"""The write-ahead log's time tells whether another process may have committed."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from deploylog.store.head_watch import HeadWatch
from deploylog.store.sqlite.head_watch import Notices, WriteAheadLogWatch, noticing

SECOND = 1_000_000_000


class World:
    """A file, and two clocks that only move when they are told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_000 * SECOND
        path.touch()
        self.write()
        self.watch = WriteAheadLogWatch(
            str(path), clock=lambda: self.now, monotonic=lambda: self.now
        )

    def write(self) -> None:
        os.utime(self.path, ns=(self.now, self.now))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "log.db-wal")


def test_a_file_that_nobody_writes_is_not_asked_again(world: World):
    world.now += 2 * SECOND
    assert world.watch.may_have_moved()

    world.now += SECOND

    assert not world.watch.may_have_moved()


def test_a_write_is_seen(world: World):
    world.now += 2 * SECOND
    assert world.watch.may_have_moved()
    world.write()

    assert world.watch.may_have_moved()


def test_two_writes_at_one_time_are_both_seen(world: World):
    """A file system's clock may not have moved between them."""
    world.write()
    assert world.watch.may_have_moved()
    world.now += SECOND // 100

    assert world.watch.may_have_moved()


def test_it_is_asked_now_and_again_whatever_the_time_of_the_file(world: World):
    world.now += 2 * SECOND
    assert world.watch.may_have_moved()

    world.now += 6 * SECOND

    assert world.watch.may_have_moved()


def test_a_missing_file_may_have_moved(world: World):
    world.now += 2 * SECOND
    world.path.unlink()

    assert world.watch.may_have_moved()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
class TestNotices:
    """A write of another process wakes the watch: here, no timer does."""

    @pytest.mark.parametrize("is_there", [True, False], ids=["there", "made later"])
    async def test_a_write_is_noticed(self, tmp_path: Path, is_there: bool):
        path = tmp_path / "log.db-wal"
        if is_there:
            path.touch()
        notices = Notices.of(str(path), watch := HeadWatch(), seconds=0)
        assert notices is not None

        path.write_bytes(b"x")

        async with asyncio.timeout(60):
            await watch.wait()
        notices.stop()

    async def test_each_of_two_writes_is_noticed(self, tmp_path: Path):
        path = tmp_path / "log.db-wal"
        notices = Notices.of(str(path), watch := HeadWatch(), seconds=0.01)
        assert notices is not None

        async with asyncio.timeout(60):
            for text in (b"x", b"y"):
                path.write_bytes(text)
                await watch.wait()
        notices.stop()

    async def test_other_files_of_the_folder_are_none_of_its_business(self, tmp_path: Path):
        notices = Notices.of(str(tmp_path / "log.db-wal"), watch := HeadWatch(), seconds=0)
        assert notices is not None

        (tmp_path / "server.log").write_bytes(b"x")
        notices.read()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await watch.wait()
        notices.stop()

    async def test_without_inotify_a_timer_looks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(**_: object) -> None:
            raise OSError("too many instances")

        monkeypatch.setattr("deploylog.store.sqlite.head_watch.INotify", refuse)
        path = tmp_path / "log.db-wal"
        with noticing(WriteAheadLogWatch(str(path)), watch := HeadWatch(), seconds=0.001):
            async with asyncio.timeout(60):
                await watch.wait()
