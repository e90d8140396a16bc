"""Replays: a request that was signed once and comes again, long after."""

from collections.abc import Callable

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
        self._first: dict[str, float] = {}

    def is_replay(self, signature: str) -> bool:
        """Whether this came before, and too long ago to be the same client's second try."""
        now = self._clock()
        first = self._first.setdefault(signature, now)
        self._forget(now - self._lifetime)
        return now - first > GRACE_SECONDS

    def _forget(self, before: float) -> None:
        while self._first:
            oldest, came = next(iter(self._first.items()))
            if came >= before and len(self._first) <= _REMEMBERED:
                return
            del self._first[oldest]
