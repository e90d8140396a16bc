"""What an operator does to the store itself, without the service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from deploylog.auth.apikey import make_key
from deploylog.errors import OperatorError
from deploylog.principals import Grant
from deploylog.store import migrate_store, open_store
from deploylog.store import store_exists as exists
from deploylog.store.base import Store, StoredKey

_Result = TypeVar("_Result")


class _NobodyWatches:
    """A ``CommitObserver`` that looks away."""

    def committed(self, seconds: float, events: int) -> None:
        """Look away."""


def add_key(
    store_url: str, *, name: str, groups: Sequence[str], grants: Sequence[Grant]
) -> tuple[StoredKey, str]:
    """Make a key; the second part is the key itself, told this once."""
    key, secret = make_key(name=name, groups=groups, grants=grants, now=time.time_ns())
    _with_store(store_url, lambda store: store.keys.add(key))
    return key, secret


def list_keys(store_url: str) -> list[StoredKey]:
    """Every key, oldest first; raises OperatorError when there is no such store."""
    _require_store(store_url)
    return _with_store(store_url, lambda store: store.keys.list())


def revoke_key(store_url: str, id: str) -> None:
    """Let a key open nothing any more; raises KeyNotFound, or OperatorError without a store."""
    _require_store(store_url)
    _with_store(store_url, lambda store: store.keys.revoke(id, time.time_ns()))


def migrate(store_url: str) -> list[str]:
    """Bring the store to this program's schema; return the names of the steps taken."""
    return migrate_store(store_url)


def store_exists(store_url: str) -> bool:
    """Whether there is a store already, or a key would be the first thing in a new one."""
    return exists(store_url)


def _require_store(store_url: str) -> None:
    if not exists(store_url):
        raise OperatorError(
            f"there is no store at {store_url}: name it with --store, or go where serve was started"
        )


def _with_store(store_url: str, act: Callable[[Store], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with open_store(store_url, observer=_NobodyWatches()) as store:
            return await act(store)

    return asyncio.run(run())
