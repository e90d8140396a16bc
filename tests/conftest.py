"""Fixtures: a store of each backend, and what stands on it."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from deploylog.auth.encryption import make_encryption_key
from deploylog.deployments.service import DeploymentService
from deploylog.events.hub import Hub
from deploylog.events.service import EventService
from deploylog.events.streams import OpenStreams
from deploylog.events.times import SECOND
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.backends import BACKENDS, DEFAULT, Backend, Damage, Reason, store_url_at
from support.clocks import Clock, WallClock
from support.factories import Commits, OpenStoreAgain, now
from support.processes import NoProcesses
from support.servers import Local, running

E2E = Path(__file__).parent / "e2e"

no_processes = NoProcesses()

# No test asks a server of the world, and to read whom the system trusts takes 26 ms, for each
# service and each process.
os.environ["SSL_CERT_FILE"] = os.devnull

# A shell ignores the interrupt for what it starts in the background, and so would the processes of
# the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No property is about time: an example may take long beside whatever else a machine does.
settings.register_profile("test", deadline=None)
settings.load_profile("test")
# `make unit` checks properties with few examples.
settings.register_profile("unit", settings.get_profile("test"), max_examples=10)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage in what is collected, which is a million objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the unit tests: quick ones that use neither files, and so no store, nor processes."""
    for item in items:
        if is_unit_test(item):
            item.add_marker("unit")


def is_unit_test(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    uses_files = bool(fixtures & {"tmp_path", "tmp_path_factory", "backend"})
    is_excluded = any(item.get_closest_marker(name) for name in ("process", "slow"))
    return not uses_files and not is_excluded and not item.path.is_relative_to(E2E)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("unit") is None:
        return (yield)
    with no_processes.enforced():
        return (yield)


TESTS = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What every store must do is tested on each; what stands on a store, on one of them.

    With ``DEPLOYLOG_TEST_BACKENDS=all`` that is tested on each, too.
    """
    if "backend" in metafunc.fixturenames:
        is_contract = metafunc.definition.path.parent == TESTS / "store"
        is_all = os.environ.get("DEPLOYLOG_TEST_BACKENDS") == "all"
        names = list(BACKENDS) if is_contract or is_all else [DEFAULT]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture
def store_url(backend: Backend, tmp_path: Path) -> str:
    """The URL of a new store of each backend."""
    return backend.url_at(tmp_path / "log.db")


@pytest.fixture
def damage(backend: Backend, tmp_path: Path) -> Damage:
    """Damages events of the store at ``store_url``."""

    def damage(*positions: int, reason: Reason = "unreadable") -> None:
        backend.damage(tmp_path / "log.db", positions, reason)

    return damage


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a new store, for tests that are about something else."""
    return store_url_at(tmp_path / "log.db")


@pytest.fixture
def clock() -> WallClock:
    """The time, from now on; a module whose signatures have a date begins at that."""
    return WallClock(now() // SECOND)


@pytest.fixture
def monotonic() -> Clock:
    return Clock()


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
def open_again(store_url: str, commits: Commits) -> OpenStoreAgain:
    """Opens the store, as often as it is called."""
    return lambda: open_store(store_url, observer=commits)


@pytest.fixture
async def store(open_again: OpenStoreAgain) -> AsyncIterator[Store]:
    async with open_again() as store:
        yield store


@pytest.fixture
async def hub(store: Store) -> AsyncIterator[Hub]:
    hub = Hub(store.log)
    async with hub.following(heartbeat=60):
        yield hub


@pytest.fixture
def service(store: Store, hub: Hub) -> EventService:
    return EventService(store.log, hub, open_streams=OpenStreams(max_per_principal=100))


@pytest.fixture
def deployments(store: Store, service: EventService) -> DeploymentService:
    return DeploymentService(service, store.catalog, clock=now)


@pytest.fixture
def options() -> dict[str, Any]:
    """Settings of ``server``, and other arguments of ``running``; override it in a module."""
    return {}


@pytest.fixture
async def server(store: Store, options: dict[str, Any]) -> AsyncIterator[Local]:
    async with running(store, **options) as server:
        yield server


@pytest.fixture
def encryption_key() -> str:
    return make_encryption_key()


@pytest.fixture
def encryption_key_file(tmp_path: Path, encryption_key: str) -> str:
    file = tmp_path / "encryption.key"
    file.write_text(encryption_key)
    return str(file)
