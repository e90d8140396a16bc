"""The feed of a worker: fills its queue with what was left pending, and then from the log."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from deploylog.errors import EventDamaged, EventNotFound, StoreUnavailable
from deploylog.events.batch import Batch, Gap
from deploylog.events.event import Event
from deploylog.events.hub import Hub, Reader
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.job import DeliveryJob
from deploylog.subscriptions.delivery.lanes import DeliveryQueue, EventRef
from deploylog.subscriptions.delivery.reports import DeliveryReports
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import Pending

#: Events to search for the previous event of a lane.
LOOKBACK_EVENTS = 50

#: Seconds between two tries to use the store.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class EventFeed:
    """Reads the events of one subscription."""

    def __init__(
        self,
        job: DeliveryJob,
        queue: DeliveryQueue,
        reports: DeliveryReports,
        *,
        hub: Hub,
        deliveries: Deliveries,
        clock: Clock,
        on_events: Callable[[], None],
    ) -> None:
        """``on_events`` is called when the queue has more to send."""
        self._job = job
        self._queue = queue
        self._reports = reports
        self._hub = hub
        self._deliveries = deliveries
        self._clock = clock
        self._on_events = on_events
        self._filter = job.filter
        self._room = asyncio.Event()
        self._gap: tuple[int, int] | None = None

    async def restore(self, *, is_stopping: Callable[[], bool]) -> None:
        """Queue the events that an earlier worker left pending."""
        for pending in await self._deliveries.pending(self._job.subscription.id):
            if is_stopping():
                return
            try:
                event = await self._hub.log.get(pending.position)
            except EventDamaged as error:
                self._give_up(pending, error.message)
                continue
            except EventNotFound:
                self._give_up(pending, "the event is no longer retained")
                continue
            if self._filter.visibility.shows(event):
                self._queue.restore(event, pending)
            else:
                # The subscription has another owner now, who may see less.
                self._give_up(pending, "the owner may not see the event")

    async def run(self) -> None:
        """Queue the events after the checkpoint while the queue has room."""
        after, caller = self._job.subscription.checkpoint, self._job.caller
        with self._hub.reader(self._filter, after=after, caller=caller) as reader:
            while (batch := await self._next(reader)) is not None:
                self._add(await self._selected(batch), reader.position)
                # The queue counts these bytes itself, so other readers need not wait for its room.
                reader.release()
                await self._wait_for_room()

    def notice_room(self) -> None:
        """Read on if the queue has room: events have left it."""
        if self._queue.has_room:
            self._room.set()

    async def previous_of(self, event: Event) -> EventRef | None:
        """The event before it in its lane, if the log has it within ``LOOKBACK_EVENTS``."""
        lane = self._queue.name_of(event)
        candidates = await self._hub.log.read(
            Query(
                scope=lane,
                filter=self._filter.filter,
                visibility=self._filter.visibility,
                before=event.position,
                limit=1 if lane == ROOT and self._job.places is None else LOOKBACK_EVENTS,
                purpose="background",
                caller=self._job.caller,
            )
        )
        for each in candidates:
            # The scope also contains events of the lanes below it.
            if self._queue.name_of(each) == lane and await self._job.select([each]):
                return EventRef(each.position, each.id)
        return None

    def _give_up(self, pending: Pending, error: str) -> None:
        given_up = msgspec.structs.replace(pending, dead_lettered=True, error=error)
        self._reports.report(pending=(given_up,))

    async def _next(self, reader: Reader) -> Batch | None:
        while True:
            try:
                return await reader.next()
            except StoreUnavailable:
                _LOGGER.exception("cannot read events for %s; retrying", self._job.subscription.id)
                await self._clock.wait(asyncio.Event(), RETRY_SECONDS)

    async def _selected(self, batch: Batch) -> Batch:
        """The batch without the events that are not of the places of the subscription."""
        while True:
            try:
                return Batch(await self._job.select(batch.events), batch.gap)
            except StoreUnavailable:
                _LOGGER.exception(
                    "cannot select events for %s; retrying", self._job.subscription.id
                )
                await self._clock.wait(asyncio.Event(), RETRY_SECONDS)

    def _add(self, batch: Batch, position: int) -> None:
        if batch.gap is not None:
            self._note(batch.gap)
        for event in batch.events:
            self._queue.add(event, gap=self._gap)
            self._gap = None
        if self._gap is None:
            # Otherwise the next worker would not learn of the gap.
            self._queue.advance(position)
        if not batch.events and self._queue.checkpoint > self._reports.checkpoint:
            # No events for a while: spare the next worker this part of the log.
            self._reports.report()
        self._on_events()

    def _note(self, gap: Gap) -> None:
        # The receiver learns of consecutive gaps as one that spans them.
        after = self._gap[0] if self._gap is not None else gap.after
        self._gap = (after, gap.floor)
        self._reports.emit("gap", _reason(gap), key=str(gap.floor))

    async def _wait_for_room(self) -> None:
        while not self._queue.has_room:
            self._room.clear()
            await self._room.wait()


def _reason(gap: Gap) -> str:
    if gap.reason == "damaged":
        return f"events up to position {gap.floor} are damaged"
    return f"events up to position {gap.floor} are no longer retained"
