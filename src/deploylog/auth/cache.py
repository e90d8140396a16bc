"""A cache of credentials, each valid for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from deploylog.events.bounded_map import BoundedMap

#: Seconds for which a credential is cached: the longest time a revoked one is still accepted.
CACHE_TTL = 0.5

#: Maximum number of cached credentials.
_MAX_ENTRIES = 10_000

_Value = TypeVar("_Value")


class TtlCache(Generic[_Value]):
    """Loads values by id, each at most once per ``CACHE_TTL``, however many requests need it."""

    def __init__(
        self, load: Callable[[str], Awaitable[_Value | None]], *, clock: Callable[[], float]
    ) -> None:
        """``load`` returns ``None`` for an invalid credential, which is not cached; ``clock`` is
        monotonic, in seconds.
        """
        self._load = load
        self._clock = clock
        self._cached: BoundedMap[str, tuple[_Value, float]] = BoundedMap(_MAX_ENTRIES)
        #: Loads in flight, and when their results expire.
        self._loading: dict[str, tuple[asyncio.Task[_Value | None], float]] = {}

    async def get(self, id: str) -> _Value | None:
        """Return the cached or loaded value."""
        now = self._clock()
        cached = self._cached.get(id)
        if cached is not None and now < cached[1]:
            return cached[0]
        loading = self._loading.get(id)
        if loading is None or now >= loading[1]:
            until = now + CACHE_TTL
            task = asyncio.create_task(self._fetch(id, until))
            self._loading[id] = loading = task, until
            task.add_done_callback(lambda done: self._done(id, done))
        # A caller that is cancelled must not cancel the load for the others.
        return await asyncio.shield(loading[0])

    def drop(self, id: str) -> None:
        """Load the value again when it is asked for next."""
        self._cached.drop(id)

    async def _fetch(self, id: str, until: float) -> _Value | None:
        value = await self._load(id)
        self._store(id, value, until)
        return value

    def _done(self, id: str, task: asyncio.Task[_Value | None]) -> None:
        loading = self._loading.get(id)
        if loading is not None and loading[0] is task:
            del self._loading[id]
        # All callers may be gone: mark the exception as retrieved.
        if not task.cancelled():
            task.exception()

    def _store(self, id: str, value: _Value | None, until: float) -> None:
        self._cached.drop(id)
        # A client can invent ids without end: cached, they would fill the memory.
        if value is None:
            return
        self._cached.put(id, (value, until))
