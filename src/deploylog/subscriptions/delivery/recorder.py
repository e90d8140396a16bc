"""The recorder: writes the reports of all workers to the store.

Workers continue while their reports are written. Reports that arrive meanwhile share the next
commit.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from deploylog.events.event import NewEvent
from deploylog.events.store import EventLog
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import Delivery

#: Unwritten reports at which workers wait for the recorder: after a crash, at most this many
#: deliveries are sent again.
MAX_UNWRITTEN = 500

#: Seconds for which reports gather: the writing thread and the workers share the interpreter, and
#: few large transactions cost both much less than many small ones.
GATHER_SECONDS = 0.02

#: Seconds between two tries to write.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class DeliveryRecorder:
    """Records reports, and the events about subscriptions, in the order in which they arrive."""

    def __init__(
        self,
        deliveries: Deliveries,
        log: EventLog,
        *,
        holder: str,
        on_lost: Callable[[str], None],
        on_recorded: Callable[[Sequence[Delivery]], None],
        clock: Callable[[], int],
        max_unwritten: int = MAX_UNWRITTEN,
    ) -> None:
        """``on_lost`` gets the id of a subscription that ``holder`` no longer holds, and
        ``on_recorded`` the reports that are durable. ``clock`` returns the ns of leases.
        """
        self._deliveries = deliveries
        self._log = log
        self._holder = holder
        self._on_lost = on_lost
        self._on_recorded = on_recorded
        self._clock = clock
        self._max_unwritten = max_unwritten
        self._reports: list[Delivery] = []
        self._events: list[NewEvent] = []
        self._pending = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        #: The reports and events accepted so far, and those of them that were written.
        self._accepted = 0
        self._written = 0
        self._flushed = asyncio.Event()
        self._is_stopping = False

    def report(self, delivery: Delivery) -> None:
        """Record a report soon."""
        self._reports.append(delivery)
        self._accepted += 1
        self._pending.set()
        if len(self._reports) >= self._max_unwritten and not self._is_stopping:
            self._room.clear()

    def emit(self, event: NewEvent) -> None:
        """Append an event to the log soon, before the reports that follow."""
        self._events.append(event)
        self._accepted += 1
        self._pending.set()

    async def wait_for_room(self) -> None:
        """Wait while too many reports are unwritten."""
        await self._room.wait()

    def stop_waiting(self) -> None:
        """Let ``wait_for_room`` return at once from now on, so that workers can stop."""
        self._is_stopping = True
        self._room.set()

    async def flush(self) -> None:
        """Wait until everything accepted so far is durable."""
        accepted = self._accepted
        while self._written < accepted:
            self._flushed.clear()
            await self._flushed.wait()

    async def run(self) -> None:
        """Write reports until cancelled."""
        while True:
            await self._pending.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._pending.clear()
            reports, self._reports = self._reports, []
            events, self._events = self._events, []
            self._room.set()
            if reports or events:
                await self._persist(reports, events)
            self._written += len(reports) + len(events)
            self._flushed.set()

    async def _persist(self, reports: list[Delivery], events: list[NewEvent]) -> None:
        while True:
            try:
                await self._write(reports, events)
            except Exception:
                # Whatever went wrong: a report that is dropped is an event that is sent again.
                _LOGGER.exception("cannot record deliveries; retrying")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _write(self, reports: list[Delivery], events: list[NewEvent]) -> None:
        if events:
            # First, since their ids make a repeated append harmless: after a crash between the two
            # writes, they would otherwise be missing for good.
            await self._log.append(events)
        lost = await self._deliveries.record(self._holder, reports, now=self._clock())
        self._on_recorded([each for each in reports if each.subscription not in lost])
        for id in lost:
            self._on_lost(id)
