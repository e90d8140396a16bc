"""Migrations: once each, in order, by whichever process comes first."""

from pathlib import Path

import pytest

from deploylog.errors import InvalidSettings, SchemaTooNew
from deploylog.events.store import Query
from deploylog.store import migrate_store, open_store
from deploylog.store.migrations import Migration, migrate, migrations
from support.backends import BACKENDS, Backend
from support.factories import Commits, new_event
from support.migrators import migrate_at_once
from support.processes import new_processes


@pytest.fixture
def store_url(backend: Backend, tmp_path: Path) -> str:
    """Where there is no store yet."""
    return backend.empty_url_at(tmp_path / "log.db")


def step_names(url: str) -> list[str]:
    return [each.name for each in migrations(BACKENDS[url.partition(":")[0]].package)]


def step(number: int) -> Migration:
    return Migration(number=number, name=f"{number:04}_x", sql="")


@pytest.mark.parametrize(("version", "applied"), [(0, [1, 2, 3]), (1, [2, 3]), (3, [])])
def test_the_steps_after_the_version_are_taken_in_order(version: int, applied: list[int]):
    taken: list[int] = []

    names = migrate(
        [step(1), step(2), step(3)], version=version, apply=lambda step: taken.append(step.number)
    )

    assert taken == applied
    assert names == [step(number).name for number in applied]


def test_a_version_that_is_not_known_is_refused():
    with pytest.raises(SchemaTooNew, match=r"version 4.*up to 3"):
        migrate([step(1), step(2), step(3)], version=4, apply=lambda step: None)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_steps_are_numbered_from_one_without_gaps(name: str):
    found = migrations(BACKENDS[name].package)

    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert all(each.sql.strip() for each in found)


def test_migrating_again_takes_no_step(store_url: str):
    first = migrate_store(store_url)
    again = migrate_store(store_url)

    assert first == step_names(store_url)
    assert again == []


@pytest.mark.parametrize("url", ["", "log.db", ":", "mysql:///x"])
def test_what_names_no_store_is_refused(url: str):
    with pytest.raises(InvalidSettings):
        migrate_store(url)


async def test_processes_that_migrate_at_once_make_one_store(store_url: str):
    processes = new_processes()
    together, answers = processes.Barrier(4), processes.Queue()

    running = [
        processes.Process(target=migrate_at_once, args=(store_url, together, answers))
        for _ in range(4)
    ]
    for process in running:
        process.start()
    applied = [answers.get(timeout=30) for _ in running]
    for process in running:
        process.join()

    assert sorted(applied, key=len) == [[], [], [], step_names(store_url)]
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append([new_event()])
        assert len(await store.log.read(Query())) == 1
