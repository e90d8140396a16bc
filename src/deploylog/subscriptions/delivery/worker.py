"""Couriers: each takes one subscription's events to its target, from the checkpoint on."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from deploylog.errors import EventDamaged, EventNotFound, StoreUnavailable
from deploylog.events.access import Visibility
from deploylog.events.event import Event
from deploylog.events.hub import Batch, Gap, Hub, Reader, StreamFilter
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery import retry as schedule
from deploylog.subscriptions.delivery.attempt import Try
from deploylog.subscriptions.delivery.circuit import CircuitBreaker
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.lanes import DeliveryQueue, Place, QueuedBatch
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.sender import Context, Sender
from deploylog.subscriptions.delivery.status_events import Happening, notice
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import (
    Delivery,
    Endpoint,
    Pending,
    Result,
    State,
    Subscription,
)

#: Requests of one subscription that are under way at once, in lanes.
MOST_UNDER_WAY = 64

#: Events among which the one before another in its lane is looked for.
LOOKED_BACK = 50

#: Seconds that requests under way may take once the courier is to stop; what is cut is sent again.
GRACE_SECONDS = 1.0

#: Seconds before the store is tried again.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class DeliveryJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a courier is sent out with."""

    subscription: Subscription
    target: Endpoint
    secrets: tuple[bytes, ...]
    #: What the owner may see.
    visibility: Visibility
    sender: Sender


class DeliveryWorker:
    """Delivers one subscription's events."""

    def __init__(
        self,
        errand: DeliveryJob,
        *,
        hub: Hub,
        deliveries: Deliveries,
        ledger: DeliveryRecorder,
        may_send: Callable[[], bool],
        timing: Clock,
    ) -> None:
        """``may_send`` says whether this process still holds the subscription."""
        self.subscription = errand.subscription
        self.checkpoint = errand.subscription.checkpoint
        self._errand = errand
        self._hub = hub
        self._deliveries = deliveries
        self._ledger = ledger
        self._may_send = may_send
        self._timing = timing
        self._signs_until = _first_end(self.subscription, timing.now())
        self._lanes = DeliveryQueue(self.subscription.order, self.checkpoint)
        self._health = CircuitBreaker(self.subscription)
        self._interest = StreamFilter(
            scope=ROOT, filter=self.subscription.filter, visibility=errand.visibility
        )
        self._caller = f"{self.subscription.owner.kind}:{self.subscription.owner.id}"
        self._stir = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False
        self._gap: tuple[int, int] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping

    def is_outdated(self, now: int) -> bool:
        """Whether it signs with a secret that has ended; ``now`` in ns."""
        return self._signs_until is not None and now >= self._signs_until

    def stop(self) -> None:
        """Start no more requests, and end."""
        self._stopping = True
        self._stir.set()

    async def run(self) -> None:
        """Deliver until stopped, or disabled."""
        await self._restore()
        with self._hub.reader(self._interest, after=self.checkpoint, caller=self._caller) as reader:
            feeding = asyncio.create_task(self._feed(reader))
            feeding.add_done_callback(lambda _: self.stop())
            try:
                await self._deliver()
            finally:
                feeding.cancel()
                await self._finish()
                await asyncio.wait([feeding])
            if not feeding.cancelled():
                feeding.result()

    # What is to be delivered

    async def _restore(self) -> None:
        """Take up what an earlier courier left pending."""
        for pending in await self._deliveries.pending(self.subscription.id):
            if self._stopping:
                return
            try:
                event = await self._hub.log.get(pending.position)
            except EventDamaged as error:
                self._give_up(pending, error.message)
                continue
            except EventNotFound:
                self._give_up(pending, "it is no longer retained")
                continue
            if self._interest.visibility.shows(event):
                self._lanes.restore(event, pending)
            else:
                # Somebody else owns the subscription now, who may see less.
                self._give_up(pending, "its owner may not see it")

    def _give_up(self, pending: Pending, why: str) -> None:
        self._report(pending=(msgspec.structs.replace(pending, dead_lettered=True, error=why),))

    async def _feed(self, reader: Reader) -> None:
        """Read what comes, as far as there is room for it."""
        while True:
            try:
                batch = await reader.next()
            except StoreUnavailable:
                _LOGGER.exception("cannot read for a subscription; trying again")
                await self._timing.wait(asyncio.Event(), RETRY_SECONDS)
                continue
            if batch is None:
                return
            self._add(batch, reader.position)
            # The lanes count their own bytes; others must not wait until there is room in them.
            reader.release()
            while not self._lanes.has_room:
                self._room.clear()
                await self._room.wait()

    def _add(self, batch: Batch, position: int) -> None:
        if batch.gap is not None:
            # Of two gaps in a row the receiver is told of one, which spans both.
            after = self._gap[0] if self._gap is not None else batch.gap.after
            self._gap = (after, batch.gap.floor)
            self._tell("gap", _why(batch.gap), key=str(batch.gap.floor))
        for event in batch.events:
            self._lanes.add(event, gap=self._gap)
            self._gap = None
        if self._gap is None:
            # Otherwise, whoever comes after us would not know of the gap.
            self._lanes.advance(position)
        if not batch.events and self._lanes.checkpoint > self.checkpoint:
            # Nothing for us for a while: whoever comes after us need not look there again.
            self._report()
        self._stir.set()

    # Delivering

    async def _deliver(self) -> None:
        while not self._stopping:
            self._stir.clear()
            await self._ledger.has_room()
            self._start()
            rest = self._rest() if self._may_send() else RETRY_SECONDS
            if not self._stopping:
                await self._timing.wait(self._stir, rest)

    def _start(self) -> None:
        """Let as many requests be under way as there are lanes that may be tried now."""
        while (parcel := self._next_parcel()) is not None:
            task = asyncio.create_task(self._send_on(parcel))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _next_parcel(self, *, leaving: int = 0) -> QueuedBatch | None:
        """What may be sent now, when not too much is under way besides what is ``leaving``."""
        most = self._health.most_under_way(MOST_UNDER_WAY)
        if self._stopping or len(self._sending) - leaving >= most or not self._may_send():
            return None
        lane = self._next_lane(self._timing.now())
        if lane is None:
            return None
        number = self._errand.sender.fold(self._lanes.waiting(lane))
        return self._lanes.take(lane, max(number, 1))

    def _next_lane(self, now: int) -> str | None:
        if not self._health.is_failing:
            return self._lanes.next_lane(now)
        return self._lanes.first_lane() if self._health.may_probe(now) else None

    def _rest(self) -> float | None:
        """Seconds until a request may be made that may not be made now."""
        if len(self._sending) >= self._health.most_under_way(MOST_UNDER_WAY):
            return None
        due = self._lanes.next_due
        if due is not None and self._health.is_failing:
            due = self._health.probe_at
        return max(due - self._timing.now(), 0) / SECOND if due is not None else None

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("a courier failed unexpectedly", exc_info=error)
            # Its lane would be busy for ever; whoever comes next begins from what is written.
            self._stopping = True
        self._stir.set()

    async def _send_on(self, first: QueuedBatch) -> None:
        """Send one parcel after the other, as long as there are some."""
        parcel: QueuedBatch | None = first
        while parcel is not None:
            await self._send(parcel)
            await self._ledger.has_room()
            parcel = self._next_parcel(leaving=1)

    async def _send(self, parcel: QueuedBatch) -> None:
        began = self._timing.now()
        try:
            context = await self._context(parcel)
            verdict = await self._verdict(parcel, context)
        except StoreUnavailable:
            _LOGGER.exception("cannot read what a delivery needs; trying again")
            await self._timing.wait(asyncio.Event(), RETRY_SECONDS)
            self._lanes.release(parcel)
        else:
            self._settle(parcel, verdict, began)

    async def _verdict(self, parcel: QueuedBatch, context: Context) -> Outcome:
        errand = self._errand
        try:
            return await errand.sender.send(
                errand.subscription, errand.target, errand.secrets, parcel.events, context=context
            )
        except StoreUnavailable:
            raise
        except Exception:
            # One event that cannot be made into a request must not end all other deliveries.
            _LOGGER.exception("a delivery of %s failed unexpectedly", self.subscription.id)
            return Outcome(result="retry", answer=Response(error="an unexpected error occurred"))

    async def _context(self, parcel: QueuedBatch) -> Context:
        first = parcel.items[0]
        previous = first.previous or await self._look_back(first.event)
        return Context(
            now=self._timing.now(),
            previous=previous.id if previous is not None else None,
            previous_position=previous.position if previous is not None else None,
            gap=first.gap,
        )

    async def _look_back(self, event: Event) -> Place | None:
        """The event before it in its lane, from the log, as far as it is looked for."""
        lane = self._lanes.name_of(event)
        found = await self._hub.log.read(
            Query(
                scope=lane,
                filter=self._interest.filter,
                visibility=self._interest.visibility,
                before=event.position,
                limit=1 if lane == ROOT else LOOKED_BACK,
                purpose="background",
                caller=self._caller,
            )
        )
        # Below the lane's scope lie those of others.
        same = (each for each in found if self._lanes.name_of(each) == lane)
        return next((Place(each.position, each.id) for each in same), None)

    # What became of it

    def _settle(self, parcel: QueuedBatch, verdict: Outcome, began: int) -> None:
        now = self._timing.now()
        tried = Try(parcel=parcel, verdict=verdict, began=began, ended=now)
        if verdict.result == "delivered":
            self._delivered(tried)
        elif verdict.result == "disable":
            self._disabled(tried)
        elif verdict.result == "dead_letter" or tried.is_last:
            self._dead_lettered(tried)
        else:
            self._failed(tried)
        if self._lanes.has_room:
            self._room.set()

    def _delivered(self, tried: Try) -> None:
        settled = self._lanes.finish(tried.parcel)
        if self._health.succeeded():
            self._lanes.retry_now()
            self._tell("resumed", "it takes events again", key=str(tried.ended))
            self._report(tried, "delivered", settled=settled, state="active")
        else:
            self._report(tried, "delivered", settled=settled)

    def _dead_lettered(self, tried: Try) -> None:
        """Given up, until somebody asks for it to be sent again."""
        dead_lettered = tried.dead_lettered()
        self._lanes.finish(tried.parcel)
        if tried.verdict.result == "retry":
            self._fails(tried, self._timing.chance())
        self._report(tried, "dead_lettered", pending=dead_lettered)

    def _failed(self, tried: Try) -> None:
        chance = self._timing.chance()
        wait = schedule.delay(
            tried.parcel.items[0].tries + 1,
            retry_after=tried.verdict.answer.retry_after,
            chance=chance,
            is_slack=self.subscription.kind == "slack",
        )
        due = tried.ended + wait
        pending = self._lanes.fail(
            tried.parcel, now=tried.ended, due=due, began=tried.began, error=tried.error
        )
        if self._fails(tried, chance):
            self._tell("failing", tried.error, key=str(self._health.failing_since))
            self._report(
                tried, "failed", pending=pending, due=due, state="failing", reason=tried.error
            )
        else:
            self._report(tried, "failed", pending=pending, due=due)

    def _fails(self, tried: Try, chance: float) -> bool:
        """Whether nothing has arrived for so long that it is to be told."""
        wait = schedule.probe_delay(retry_after=tried.verdict.answer.retry_after, chance=chance)
        return self._health.failed(tried.began, tried.ended, wait=wait)

    def _disabled(self, tried: Try) -> None:
        """The receiver wants no more. What it did not take stays pending, for when it does."""
        pending = self._lanes.fail(
            tried.parcel, now=tried.began, due=0, began=tried.began, error=tried.error
        )
        self._tell("disabled", tried.error, key=str(tried.ended))
        self._report(tried, "failed", pending=pending, state="disabled", reason=tried.error)
        self.stop()

    def disable(self, why: str) -> None:
        """Send no more, for a reason that is not the receiver's."""
        self._tell("disabled", why, key=str(self._timing.now()))
        self._report(state="disabled", reason=why)
        self.stop()

    def _report(
        self,
        tried: Try | None = None,
        result: Result = "delivered",
        *,
        settled: Sequence[int] = (),
        pending: Sequence[Pending] = (),
        due: int | None = None,
        state: State | None = None,
        reason: str | None = None,
    ) -> None:
        self.checkpoint = self._lanes.checkpoint
        self._ledger.report(
            Delivery(
                subscription=self.subscription.id,
                attempts=tried.attempts(result, due) if tried is not None else (),
                checkpoint=self.checkpoint,
                delivered_positions=tuple(settled),
                pending=(*pending, *self._lanes.drain_held()),
                messages=tried.verdict.messages if tried is not None else (),
                state=state,
                reason=reason,
                failing_since=self._health.failing_since,
            )
        )

    def _tell(self, what: Happening, why: str, *, key: str) -> None:
        self._ledger.tell(
            notice(self.subscription, what, why=why, time=self._timing.now(), key=key)
        )

    async def _finish(self) -> None:
        """Let what is under way end, or cut it."""
        sending = list(self._sending)
        if not sending:
            return
        _, late = await asyncio.wait(sending, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def _first_end(subscription: Subscription, now: int) -> int | None:
    """When the first of the secrets that sign ``now`` ends, in ns."""
    ends = (term.expires for term in subscription.secrets if term.expires is not None)
    return min((end for end in ends if end > now), default=None)


def _why(gap: Gap) -> str:
    if gap.reason == "damaged":
        return f"events up to position {gap.floor} are damaged"
    return f"events up to position {gap.floor} are no longer retained"
