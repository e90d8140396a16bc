"""Addresses: a unix socket, and base paths."""

import stat
from pathlib import Path

import aiohttp
import pytest

from deploylog.errors import OperatorError
from deploylog.server.listeners import remove_abandoned
from deploylog.store.contract import Store
from support.servers import running, spawned


async def test_a_unix_socket_is_listened_on_for_this_user_only(store_url: str, tmp_path: Path):
    socket_path = tmp_path / "deploylog.sock"

    async with spawned(store_url, unix_socket=str(socket_path)) as service:
        mode = stat.S_IMODE(socket_path.stat().st_mode)
        connector = aiohttp.UnixConnector(str(socket_path))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get("http://unix/v1/health") as health,
            http.get("http://unix/log/v1/projects") as projects,
        ):
            answered = (health.status, projects.status)
        await service.end()

    assert mode == 0o600
    assert answered == (200, 200)
    assert not socket_path.exists()


async def test_the_socket_of_a_killed_service_is_taken_over_but_not_that_of_a_living_one(
    store_url: str, tmp_path: Path
):
    socket_path = str(tmp_path / "deploylog.sock")

    async with spawned(store_url, unix_socket=socket_path) as service:
        service.process.kill()
        await service.process.wait()
    async with spawned(store_url, unix_socket=socket_path):
        with pytest.raises(OperatorError, match="another process listens there"):
            remove_abandoned(socket_path)


def test_a_file_of_another_kind_is_not_removed(tmp_path: Path):
    file = tmp_path / "mine"
    file.write_text("mine")

    with pytest.raises(OperatorError, match="it is not a socket"):
        remove_abandoned(str(file))

    assert file.read_text() == "mine"


async def test_every_path_is_found_below_a_base_path_too(store: Store):
    async with running(store, base_paths="/bluelink, /prod/api/") as service:
        for base in ("", "/bluelink", "/prod/api"):
            assert (await service.get(f"{base}/v1/health")).status == 200
            assert (await service.get(f"{base}/log/v1/projects")).json == {"projects": []}
            root = await service.get(f"{base}/", allow_redirects=False)
            assert root.headers["location"] == f"{base}/docs"
        assert (await service.get("/bluelinkx/v1/health")).status == 404
        assert (await service.get("/bluelink/bluelink/v1/health")).status == 404
