"""Replays: a request that was signed once and comes again, long after."""

from collections.abc import Callable

from deploylog.events.bounded_map import BoundedMap

#: Seconds for which the same signature may come again: a client that tries again within the
#: second signs the same, and so do two equal requests of one second.
GRACE_SECONDS = 10

#: Signatures remembered; with more, the oldest are forgotten first.
_REMEMBERED = 100_000


class Replays:
    """Remembers when each signature first came, for as long as it could come again."""

    def __init__(self, *, lifetime: float, clock: Callable[[], float]) -> None:
        """``lifetime`` of a signature in seconds; ``clock`` is monotonic, in seconds."""
        self._lifetime = lifetime
        self._clock = clock
        #: In the order in which they came.
        self._first: BoundedMap[str, float] = BoundedMap(_REMEMBERED)

    def is_replay(self, signature: str) -> bool:
        """Whether this came before, and too long ago to be the same client's second try."""
        now = self._clock()
        first = self._first.get(signature)
        if first is None:
            self._first.put(signature, first := now)
        self._drop(now - self._lifetime)
        return now - first > GRACE_SECONDS

    def _drop(self, before: float) -> None:
        """Drop the signatures that came before this time."""
        while (oldest := self._first.oldest()) is not None and oldest[1] < before:
            self._first.drop(oldest[0])
