"""Connections: all that are open, how many may be, and which one goes when there are too many."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Protocol

from deploylog.server.connection_limits import Limits
from deploylog.server.refusals import Reason, Refusals

#: Seconds between two sweeps over every connection.
SWEEP_SECONDS = 0.5

#: Candidates to consider when one connection must be evicted.
_MAX_CANDIDATES = 64


class Member(Protocol):
    """An open connection."""

    address: str

    @property
    def has_unsent(self) -> bool:
        """Whether part of a response is unsent because the client is not reading."""
        ...

    def check(self, now: float) -> None:
        """Close it when its client keeps it waiting for too long."""
        ...

    def end(self, reason: Reason) -> None:
        """Refuse the request, respond if that is possible, and close."""
        ...


class Connections:
    """Every open connection, and the limits on all of them."""

    def __init__(self, limits: Limits, refused: Callable[[str], None]) -> None:
        """``refused`` counts refusals by reason."""
        self.limits = limits
        self.refusals = Refusals(refused)
        self._open: set[Member] = set()
        self._by_address: Counter[str] = Counter()
        #: Connections without a complete request so far, and those between two; oldest first.
        self._silent: dict[Member, None] = {}
        self._idle: dict[Member, None] = {}

    def enter(self, connection: Member) -> Reason | None:
        """Count a new connection; return a reason to refuse it when a limit is reached."""
        address = connection.address
        limit = self.limits.connections_per_address
        if limit and address and self._by_address[address] >= limit:
            return "connections_per_address"
        if len(self._open) >= self.limits.connections and not self._evict():
            return "connections"
        self._open.add(connection)
        self._by_address[address] += 1
        self._silent[connection] = None
        return None

    def leave(self, connection: Member) -> None:
        """Remove a connection."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self.busy(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def busy(self, connection: Member) -> None:
        """Mark a connection as answering a request, which protects it from eviction."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def idle(self, connection: Member) -> None:
        """Mark a connection as waiting for its next request."""
        if connection in self._open:
            self._idle[connection] = None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Sweep periodically inside the block."""

        async def watch() -> None:
            loop = asyncio.get_running_loop()
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                self.sweep(loop.time())

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch())
            try:
                yield
            finally:
                task.cancel()

    def sweep(self, now: float) -> None:
        """Close connections that exceed a time limit, and log the refusals."""
        for connection in list(self._open):
            connection.check(now)
        self.refusals.report(now)

    def _evict(self) -> bool:
        """Close the connection that has waited longest without a request; return whether one did.

        Skip one whose client is still reading a response: closing it would take long.
        """
        for waiting in (self._silent, self._idle):
            for oldest in list(islice(waiting, _MAX_CANDIDATES)):
                if oldest.has_unsent:
                    waiting[oldest] = waiting.pop(oldest)
                    continue
                self.leave(oldest)
                oldest.end("evicted")
                return True
        return False
