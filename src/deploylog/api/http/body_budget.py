"""The budget of request bodies: how many bytes of them are in memory, and how many may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from deploylog.errors import Overloaded

#: Bytes of a body that is small: most appends are.
SMALL = 64 * 1024

#: One in this many bytes of the budget is for small bodies only, so that a few large ones, which
#: may arrive slowly, do not keep everybody from recording.
_RESERVED = 4


class BodyBudget:
    """Counts the bytes of all bodies. Any thread may take."""

    def __init__(self, limit: int) -> None:
        """``limit`` is in bytes."""
        self._limit = limit
        self._lock = Lock()
        #: Bytes of bodies that are being received, parsed or recorded.
        self.held = 0

    @contextmanager
    def share(self) -> Iterator["BodyShare"]:
        """What one request holds, until the end of the block."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.give_back(share.size)

    def require(self, size: int, *, by: int) -> None:
        """Raise Overloaded unless a request that holds ``by`` may hold ``size`` bytes more.

        A request may hold anything while no other one holds any.
        """
        limit = self._limit if by + size <= SMALL else self._limit - self._limit // _RESERVED
        if self.held + size > limit and self.held > by:
            raise Overloaded

    def take(self, size: int, *, by: int) -> None:
        """Add ``size`` bytes to a request that holds ``by``; raises Overloaded."""
        with self._lock:
            self.require(size, by=by)
            self.held += size

    def give_back(self, size: int) -> None:
        """Subtract what a request held."""
        with self._lock:
            self.held -= size


class BodyShare:
    """What one request holds of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size = 0

    def require(self, size: int) -> None:
        """Raise Overloaded unless there is room for ``size`` bytes now; hold none of them."""
        self._budget.require(size, by=self.size)

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more; raises Overloaded."""
        self._budget.take(size, by=self.size)
        self.size += size
