"""Trust: what was looked up in the store is believed for a moment."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

#: How long a credential is trusted without another look: once revoked, it is refused after this
#: time.
TRUSTED_SECONDS = 0.5

#: Credentials remembered at a time.
_REMEMBERED = 10_000

_Found = TypeVar("_Found")


class Trust(Generic[_Found]):
    """Looks credentials up by id, each once in a while."""

    def __init__(
        self, look_up: Callable[[str], Awaitable[_Found | None]], *, clock: Callable[[], float]
    ) -> None:
        """``look_up`` gives ``None`` for what is not good; ``clock`` is monotonic, in seconds."""
        self._look_up = look_up
        self._clock = clock
        self._trusted: dict[str, tuple[_Found, float]] = {}

    async def get(self, id: str) -> _Found | None:
        """What the store says, or said a moment ago."""
        now = self._clock()
        known = self._trusted.get(id)
        if known is not None and now < known[1]:
            return known[0]
        found = await self._look_up(id)
        self._remember(id, found, now + TRUSTED_SECONDS)
        return found

    def _remember(self, id: str, found: _Found | None, until: float) -> None:
        self._trusted.pop(id, None)
        # Ids that do not exist are anybody's invention: remembered, they would fill the memory.
        if found is None:
            return
        if len(self._trusted) >= _REMEMBERED:
            self._trusted.clear()
        self._trusted[id] = (found, until)
