"""Trust: what was looked up in the store is believed for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from deploylog.events.bounded_map import BoundedMap

#: How long a credential is trusted without another look: once revoked, it is refused after this
#: time.
CACHE_TTL = 0.5

#: Credentials remembered at a time.
_REMEMBERED = 10_000

_Found = TypeVar("_Found")


class TtlCache(Generic[_Found]):
    """Looks credentials up by id, each once in a while, however many requests show it."""

    def __init__(
        self, look_up: Callable[[str], Awaitable[_Found | None]], *, clock: Callable[[], float]
    ) -> None:
        """``look_up`` gives ``None`` for what is not good; ``clock`` is monotonic, in seconds."""
        self._look_up = look_up
        self._clock = clock
        self._trusted: BoundedMap[str, tuple[_Found, float]] = BoundedMap(_REMEMBERED)
        #: What is being looked up, and until when that may be believed.
        self._looking: dict[str, tuple[asyncio.Task[_Found | None], float]] = {}

    async def get(self, id: str) -> _Found | None:
        """What the store says, or said a moment ago."""
        now = self._clock()
        known = self._trusted.get(id)
        if known is not None and now < known[1]:
            return known[0]
        looking = self._looking.get(id)
        if looking is None or now >= looking[1]:
            until = now + CACHE_TTL
            task = asyncio.create_task(self._look(id, until))
            self._looking[id] = looking = task, until
            task.add_done_callback(lambda done: self._done(id, done))
        # Others wait for it, too, when one of them is gone.
        return await asyncio.shield(looking[0])

    async def _look(self, id: str, until: float) -> _Found | None:
        found = await self._look_up(id)
        self._remember(id, found, until)
        return found

    def _done(self, id: str, task: asyncio.Task[_Found | None]) -> None:
        looking = self._looking.get(id)
        if looking is not None and looking[0] is task:
            del self._looking[id]
        # Nobody may be left who waits for it.
        if not task.cancelled():
            task.exception()

    def _remember(self, id: str, found: _Found | None, until: float) -> None:
        self._trusted.drop(id)
        # Ids that do not exist are anybody's invention: remembered, they would fill the memory.
        if found is None:
            return
        self._trusted.put(id, (found, until))
