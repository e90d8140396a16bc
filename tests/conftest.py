"""Fixtures: a store of each backend, and what stands on it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.deployments.service import DeploymentService
from deploylog.events.hub import Hub
from deploylog.events.service import EventService
from deploylog.events.streams import OpenStreams
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.factories import Commits, OpenStoreAgain, now
from support.servers import Local, running


@pytest.fixture(params=["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store of each backend can be made."""
    return f"{request.param}:///{tmp_path / 'log.db'}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a store in SQLite, for tests of that file itself."""
    return tmp_path / "log.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


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
    return EventService(store.log, hub, followers=OpenStreams(most=100))


@pytest.fixture
def deployments(store: Store, service: EventService) -> DeploymentService:
    return DeploymentService(service, store.catalogue, clock=now)


@pytest.fixture
def options() -> dict[str, Any]:
    """Settings of ``server``, and other arguments of ``running``; override it in a module."""
    return {}


@pytest.fixture
async def server(store: Store, options: dict[str, Any]) -> AsyncIterator[Local]:
    async with running(store, **options) as server:
        yield server
