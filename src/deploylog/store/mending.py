"""Mending: a sealed segment that a read finds damaged is made again from its rows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from deploylog.errors import StoreUnavailable
from deploylog.events.index.blobs import DamagedSegment
from deploylog.store.readers import ConnectionT, Pool

#: Damaged segments that one read may meet.
_MAX_DAMAGED = 64

_Result = TypeVar("_Result")

_LOGGER = logging.getLogger(__name__)


class IndexMender(Generic[ConnectionT]):
    """Runs reads of the index."""

    def __init__(
        self, reseal: Callable[[int], Awaitable[object]], *, damaged: Callable[[str], None]
    ) -> None:
        """``reseal`` makes the segment of a number again; ``damaged`` counts it."""
        self._reseal = reseal
        self._damaged = damaged
        self._running: dict[int, asyncio.Future[object]] = {}

    async def run(
        self, pool: Pool[ConnectionT], read: Callable[[ConnectionT], _Result], *, caller: str = ""
    ) -> _Result:
        """What ``read`` returns, never from a damaged segment; see ``Pool.run``."""
        for _ in range(_MAX_DAMAGED):
            try:
                return await pool.run(read, caller=caller)
            except DamagedSegment as damage:
                await self._mend(damage)
        raise StoreUnavailable("the index is damaged")

    async def _mend(self, damage: DamagedSegment) -> None:
        """Make the segment again, once for all reads that met it."""
        number = damage.number
        running = self._running.get(number)
        if running is None:
            _LOGGER.error("%s; making it again", damage)
            self._damaged("index")
            running = self._running[number] = asyncio.ensure_future(self._reseal(number))
            running.add_done_callback(lambda done: self._running.pop(number, None))
        # A caller that gives up does not end it for the others.
        await asyncio.shield(running)
