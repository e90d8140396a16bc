"""What every store must do with its own secrets: drawn once, and another in each store."""

from pathlib import Path

from deploylog.store import open_store
from support.backends import Backend
from support.factories import (
    Commits,
    OpenStoreAgain,
)


async def test_a_secret_is_drawn_once(open_again: OpenStoreAgain):
    async with open_again() as store:
        key = await store.secret("page-token")
    async with open_again() as store:
        assert await store.secret("page-token") == key
    assert len(key) >= 32


async def test_two_stores_have_different_secrets(
    backend: Backend, tmp_path: Path, commits: Commits
):
    keys = set()
    for name in ("a", "b"):
        async with open_store(backend.url_at(tmp_path / name), observer=commits) as store:
            keys.add(await store.secret("page-token"))

    assert len(keys) == 2
