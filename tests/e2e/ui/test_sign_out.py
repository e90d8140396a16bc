"""Signing out, at a service of two processes."""

import asyncio
import time
from pathlib import Path

import pytest

from deploylog.store import open_store
from support.api_keys import new_key
from support.backends import store_url_at
from support.factories import Commits
from support.servers import Running, spawned
from support.sessions import session_of, sign_out

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: What nobody may do with the copy of a cookie, once its owner has signed out.
_PATHS = ("/ui/", "/ui/events", "/ui/events.csv", "/ui/suggestions?field=type")


async def status(site: Running, cookie: str, path: str) -> int:
    headers = {"cookie": cookie, "authorization": ""}
    return (await site.get(path, headers=headers, allow_redirects=False)).status


async def test_who_signs_out_is_out_at_every_process_within_a_second(tmp_path: Path):
    url = store_url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()) as store:
        key = await new_key(store, "read:/")
    async with spawned(url) as here, spawned(url) as there:
        cookie = await session_of(here, key)
        for path in _PATHS:
            assert await status(there, cookie, path) == 200
        stream = await there.http.get("/ui/stream", headers={"cookie": cookie})

        await sign_out(here, cookie)

        left = time.monotonic()
        async with asyncio.timeout(1):
            await stream.read()
        while await status(there, cookie, "/ui/") == 200:
            assert time.monotonic() - left < 1
        for path in _PATHS:
            assert await status(there, cookie, path) in (303, 401)
