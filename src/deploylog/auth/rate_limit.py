"""Rate limiting by key, with the generic cell rate algorithm (GCRA)."""

from collections.abc import Callable

#: Maximum number of tracked keys; keys at their full allowance are dropped first.
_MAX_KEYS = 10_000


class RateLimiter:
    """Allows each key ``per_second`` acquisitions a second, and ``burst`` at once."""

    def __init__(self, per_second: float, *, burst: int, clock: Callable[[], float]) -> None:
        """``per_second=0`` means no limit; ``clock`` is monotonic, in seconds."""
        self._interval = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._clock = clock
        #: When each key is at its full allowance again (the theoretical arrival time).
        self._full_at: dict[str, float] = {}

    def delay(self, key: str) -> float:
        """Seconds until the key can acquire; 0.0 if it can now."""
        if not self._interval:
            return 0.0
        now = self._clock()
        ahead = max(self._full_at.get(key, now), now) - now
        return max(ahead - (self._burst - 1) * self._interval, 0.0)

    def acquire(self, key: str) -> float:
        """Acquire once and return 0.0, or return the seconds until the key can."""
        if not self._interval:
            return 0.0
        delay = self.delay(key)
        if not delay:
            now = self._clock()
            self._make_room(now)
            self._full_at[key] = max(self._full_at.get(key, now), now) + self._interval
        return delay

    def _make_room(self, now: float) -> None:
        if len(self._full_at) >= _MAX_KEYS:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
            # With little room freed, this scan would run for each new key.
            if len(self._full_at) > _MAX_KEYS // 2:
                self._full_at.clear()
