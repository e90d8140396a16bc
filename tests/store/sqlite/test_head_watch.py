"""The write-ahead log's time tells whether another process may have committed."""

import os
from pathlib import Path

import pytest

from deploylog.store.sqlite.head_watch import WriteAheadLogWatch

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
