"""Health: whether the store records, with a log line when it stops and when it resumes."""

import logging
from collections.abc import Callable
from typing import TypeGuard

from deploylog.errors import StoreUnavailable

#: How many seconds a commit proves that the next one will succeed: readiness tries one no more
#: often than this. Trouble is over after as many seconds without a failure: on a disk that is
#: almost full, small commits succeed between large ones that fail.
PROVEN_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class Health:
    """The state of the store after each commit.

    Only the thread of the writer calls ``failed`` and ``wrote``.
    """

    def __init__(
        self,
        store: str,
        *,
        caused_by_data: tuple[type[Exception], ...],
        clock: Callable[[], float],
    ) -> None:
        """``store`` is its name in log lines; ``clock`` is monotonic, in seconds.

        ``caused_by_data`` are the driver's errors that the data of one request can cause.
        """
        self._store = store
        self._caused_by_data = caused_by_data
        self._clock = clock
        #: Why nothing is recorded; ``None`` when the store records.
        self.trouble: str | None = None
        self._since = self._failed = self._wrote = float("-inf")

    @property
    def is_proven(self) -> bool:
        """Whether a recent commit wrote to the disk, and none has failed since."""
        return self.trouble is None and self._clock() - self._wrote < PROVEN_SECONDS

    def is_trouble(self, error: Exception) -> TypeGuard[StoreUnavailable]:
        """Whether the store is in trouble, rather than one request."""
        return isinstance(error, StoreUnavailable) and not isinstance(
            error.__cause__, self._caused_by_data
        )

    def failed(self, error: StoreUnavailable) -> None:
        """Note that a commit failed because of the store."""
        self._failed = self._clock()
        if self.trouble is None:
            self._since = self._failed
            _LOGGER.error("store %s does not record: %s", self._store, error.message)
        self.trouble = error.message
        error.reported = True

    def wrote(self) -> None:
        """Note that a commit wrote to the disk."""
        self._wrote = self._clock()
        if self.trouble is not None and self._wrote - self._failed >= PROVEN_SECONDS:
            self.trouble = None
            seconds = self._wrote - self._since
            _LOGGER.warning("store %s records again, after %.0f s", self._store, seconds)
