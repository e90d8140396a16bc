"""The ledger: what became of requests, written down for all couriers together.

A courier goes on while its report is written. Reports that come meanwhile share the next commit.
"""

import asyncio
import logging
from collections.abc import Callable

from deploylog.events.event import NewEvent
from deploylog.events.store import EventLog
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import Delivery

#: Reports that may wait to be written before couriers wait for it: after a crash so much, at the
#: most, is sent again.
MOST_UNWRITTEN = 500

#: Seconds in which reports gather: the writing thread and the couriers share the interpreter, and
#: few large transactions cost both much less than many small ones.
GATHER_SECONDS = 0.02

#: Seconds before the store is tried again.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class DeliveryRecorder:
    """Writes reports down, in their order."""

    def __init__(
        self,
        deliveries: Deliveries,
        log: EventLog,
        *,
        holder: str,
        lost: Callable[[str], None],
        told: Callable[[Delivery], None],
        clock: Callable[[], int],
    ) -> None:
        """``lost`` is told of subscriptions that ``holder`` holds no more, ``told`` of each report
        that is on disk; ``clock`` gives ns, and is the one that leases are counted by.
        """
        self._deliveries = deliveries
        self._log = log
        self._holder = holder
        self._lost = lost
        self._told = told
        self._clock = clock
        self._reports: list[Delivery] = []
        self._notices: list[NewEvent] = []
        self._come = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        #: How many reports and notices were taken, and how many of them are dealt with.
        self._taken = 0
        self._written = 0
        self._wrote = asyncio.Event()
        self._ending = False

    def report(self, delivery: Delivery) -> None:
        """Take a report."""
        self._reports.append(delivery)
        self._taken += 1
        self._come.set()
        if len(self._reports) >= MOST_UNWRITTEN and not self._ending:
            self._room.clear()

    def tell(self, notice: NewEvent) -> None:
        """Take what the log is to say; it is recorded before the reports that are taken after."""
        self._notices.append(notice)
        self._taken += 1
        self._come.set()

    async def has_room(self) -> None:
        """Wait while too much is unwritten."""
        await self._room.wait()

    def stop_waiting(self) -> None:
        """Let nobody wait for room any more: whoever does could not come to an end."""
        self._ending = True
        self._room.set()

    async def flush(self) -> None:
        """Wait until everything that was taken so far is on disk."""
        taken = self._taken
        while self._written < taken:
            self._wrote.clear()
            await self._wrote.wait()

    async def write(self) -> None:
        """Write reports for ever."""
        while True:
            await self._come.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._come.clear()
            reports, self._reports = self._reports, []
            notices, self._notices = self._notices, []
            self._room.set()
            if reports or notices:
                await self._persist(reports, notices)
            self._written += len(reports) + len(notices)
            self._wrote.set()

    async def _persist(self, reports: list[Delivery], notices: list[NewEvent]) -> None:
        while True:
            try:
                await self._write(reports, notices)
            except Exception:
                # Whatever it is: a report that is dropped is an event that is sent again.
                _LOGGER.exception("cannot record deliveries; trying again")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _write(self, reports: list[Delivery], notices: list[NewEvent]) -> None:
        if notices:
            # First, since their ids tell a repeat: after a crash between the two they would be
            # missing for good.
            await self._log.append(notices)
        lost = await self._deliveries.record(self._holder, reports, now=self._clock())
        for report in reports:
            if report.subscription not in lost:
                self._told(report)
        for id in lost:
            self._lost(id)
