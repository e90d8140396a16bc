"""Detection of replays: a signature that is sent again after the grace period."""

from collections.abc import Callable

from deploylog.events.bounded_map import BoundedMap

#: Seconds within which a signature may repeat: a client that retries within the second produces the
#: same signature, and so do two equal requests of one second.
GRACE_SECONDS = 10

#: Default limit of remembered signatures; the oldest are dropped first.
MAX_SIGNATURES = 100_000


class ReplayCache:
    """Remembers when each signature was first seen, until it expires on its own."""

    def __init__(
        self, *, lifetime: float, clock: Callable[[], float], limit: int = MAX_SIGNATURES
    ) -> None:
        """``lifetime`` of a signature in seconds; ``clock`` is monotonic, in seconds."""
        self._lifetime = lifetime
        self._clock = clock
        #: By signature, oldest first.
        self._first_seen: BoundedMap[str, float] = BoundedMap(limit)

    def is_replay(self, signature: str) -> bool:
        """Whether the signature was first seen too long ago for this to be a client's retry."""
        now = self._clock()
        first = self._first_seen.get(signature)
        if first is None:
            self._first_seen.put(signature, first := now)
        self._drop(now - self._lifetime)
        return now - first > GRACE_SECONDS

    def _drop(self, before: float) -> None:
        """Drop the signatures first seen before this time."""
        while (oldest := self._first_seen.oldest()) is not None and oldest[1] < before:
            self._first_seen.drop(oldest[0])
