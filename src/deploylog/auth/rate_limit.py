"""Rates: how often each of many may do something (the generic cell rate algorithm)."""

from collections.abc import Callable

#: Keys remembered; those that have waited long enough are forgotten first.
_REMEMBERED = 10_000


class RateLimiter:
    """Lets each key through ``per_second`` times a second, and ``burst`` times at once."""

    def __init__(self, per_second: float, *, burst: int, clock: Callable[[], float]) -> None:
        """No limit when ``per_second`` is 0; ``clock`` is monotonic, in seconds."""
        self._interval = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._clock = clock
        #: When each key would have used up nothing.
        self._rested: dict[str, float] = {}

    def delay(self, key: str) -> float:
        """Seconds until the key may; 0.0 when it may now."""
        if not self._interval:
            return 0.0
        now = self._clock()
        ahead = max(self._rested.get(key, now), now) - now
        return max(ahead - (self._burst - 1) * self._interval, 0.0)

    def acquire(self, key: str) -> float:
        """Use it once, if the key may now; else seconds until it may."""
        if not self._interval:
            return 0.0
        wait = self.delay(key)
        if not wait:
            now = self._clock()
            self._make_room(now)
            self._rested[key] = max(self._rested.get(key, now), now) + self._interval
        return wait

    def _make_room(self, now: float) -> None:
        if len(self._rested) >= _REMEMBERED:
            self._rested = {key: at for key, at in self._rested.items() if at > now}
            # With little room made, this would be done for each key that comes.
            if len(self._rested) > _REMEMBERED // 2:
                self._rested.clear()
