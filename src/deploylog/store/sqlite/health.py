"""Health: whether the store records, with one log line when it stops and one when it goes on."""

import logging
from collections.abc import Callable

import apsw

from deploylog.errors import StoreUnavailable

#: How long, in seconds, a commit proves that the next one will succeed: readiness tries one at
#: most this often. And how long there must be no failure before trouble is over: on a disk that is
#: almost full small commits succeed between large ones that fail.
PROVEN_SECONDS = 5.0

#: What one request's data can cause. All else is the store's trouble.
_CAUSED_BY_DATA = (
    apsw.ConstraintError,
    apsw.TooBigError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
)

_LOGGER = logging.getLogger(__name__)


def is_trouble(error: Exception) -> bool:
    """Whether the store is in trouble, rather than one request."""
    return isinstance(error, StoreUnavailable) and not isinstance(error.__cause__, _CAUSED_BY_DATA)


class Health:
    """What the commits say of the store. Only the writing thread calls ``failed`` and ``wrote``."""

    def __init__(self, store: str, *, clock: Callable[[], float]) -> None:
        """``store`` is what log lines call it; ``clock`` is monotonic, in seconds."""
        self._store = store
        self._clock = clock
        #: Why nothing is recorded; ``None`` when all is well.
        self.trouble: str | None = None
        self._begun = self._failed = self._wrote = float("-inf")

    @property
    def is_proven(self) -> bool:
        """Whether all is well, and something was written a moment ago."""
        return self.trouble is None and self._clock() - self._wrote < PROVEN_SECONDS

    def failed(self, error: StoreUnavailable) -> None:
        """A commit failed because of the store."""
        self._failed = self._clock()
        if self.trouble is None:
            self._begun = self._failed
            _LOGGER.error("store %s does not record: %s", self._store, error.message)
        self.trouble = error.message
        error.reported = True

    def wrote(self) -> None:
        """A commit wrote to the disk."""
        self._wrote = self._clock()
        if self.trouble is not None and self._wrote - self._failed >= PROVEN_SECONDS:
            self.trouble = None
            seconds = self._wrote - self._begun
            _LOGGER.warning("store %s records again, after %.0f s", self._store, seconds)
