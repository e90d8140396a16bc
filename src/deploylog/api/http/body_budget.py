"""The budget of request bodies: how many bytes of them are in memory, and how many may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from deploylog.errors import Overloaded


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

    def take(self, size: int, *, by: int) -> None:
        """Add ``size`` bytes to a request that holds ``by``.

        Raises Overloaded over the limit, unless nobody else holds anything.
        """
        with self._lock:
            if self.held + size > self._limit and self.held > by:
                raise Overloaded
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

    def grow_to(self, size: int) -> None:
        """Hold ``size`` bytes, unless it is more already; raises Overloaded."""
        if size > self.size:
            self._budget.take(size - self.size, by=self.size)
            self.size = size

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more; raises Overloaded."""
        self.grow_to(self.size + size)
