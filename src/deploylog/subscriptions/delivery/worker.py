"""The worker of a subscription: delivers its events, starting at the checkpoint."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from deploylog.errors import EventDamaged, EventNotFound, StoreUnavailable
from deploylog.events.access import Visibility
from deploylog.events.batch import Batch, Gap
from deploylog.events.event import Event
from deploylog.events.hub import Hub, Reader
from deploylog.events.ring import StreamFilter
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.delivery.attempt import SentBatch
from deploylog.subscriptions.delivery.circuit import CircuitBreaker
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.lanes import MAX_BYTES, DeliveryQueue, EventRef, QueuedBatch
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.sender import Context, Sender
from deploylog.subscriptions.delivery.status_events import Status, status_event
from deploylog.subscriptions.selection import PlaceSelector
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import (
    Delivery,
    Endpoint,
    Pending,
    Result,
    State,
    Subscription,
)

#: Requests of one subscription that may be in flight.
MAX_IN_FLIGHT = 64

#: Events to search for the previous event of a lane.
LOOKBACK_EVENTS = 50

#: Seconds for which a stopping worker waits for its requests. Their events are sent again if it
#: cancels them.
GRACE_SECONDS = 1.0

#: Seconds between two tries to use the store.
RETRY_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class DeliveryJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker delivers, and how."""

    subscription: Subscription
    endpoint: Endpoint
    secrets: tuple[bytes, ...]
    #: What the owner may see.
    visibility: Visibility
    sender: Sender
    #: Whether what an earlier worker left pending is sent at once: a user changed something.
    retries_at_once: bool = False
    #: What the subscription is about by names, within the scopes of its filter.
    places: PlaceSelector | None = None


class DeliveryWorker:
    """Delivers the events of one subscription."""

    def __init__(
        self,
        job: DeliveryJob,
        *,
        hub: Hub,
        deliveries: Deliveries,
        recorder: DeliveryRecorder,
        may_send: Callable[[], bool],
        clock: Clock,
        max_queue_bytes: int = MAX_BYTES,
    ) -> None:
        """``may_send`` returns whether this process still holds the subscription."""
        self.subscription = job.subscription
        self.checkpoint = job.subscription.checkpoint
        self._job = job
        self._hub = hub
        self._deliveries = deliveries
        self._recorder = recorder
        self._may_send = may_send
        self._clock = clock
        self._secrets_expire = _next_expiry(self.subscription, clock.now())
        self._queue = DeliveryQueue(
            self.subscription.order, self.checkpoint, max_bytes=max_queue_bytes
        )
        self._circuit = CircuitBreaker(self.subscription)
        self._filter = StreamFilter(
            scope=ROOT, filter=self.subscription.filter, visibility=job.visibility
        )
        self._caller = f"{self.subscription.owner.kind}:{self.subscription.owner.id}"
        self._wakeup = asyncio.Event()
        self._room = asyncio.Event()
        self._is_stopping = False
        #: When the receiver answered a test, in ns.
        self._reachable_since = 0
        self._gap: tuple[int, int] | None = None
        self._in_flight: set[asyncio.Task[None]] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether it starts no more requests."""
        return self._is_stopping

    def is_outdated(self, now: int) -> bool:
        """Whether it signs with a secret that has expired; ``now`` in ns."""
        return self._secrets_expire is not None and now >= self._secrets_expire

    def stop(self) -> None:
        """Start no more requests, and return from ``run`` soon."""
        self._is_stopping = True
        self._wakeup.set()

    def retry_now(self) -> None:
        """Send at once what waits for a retry: the receiver has just answered a test."""
        # A request that is in flight may still fail, and must not put its events off again.
        self._reachable_since = self._clock.now()
        self._circuit.probe_now()
        self._queue.retry_now()
        self._wakeup.set()

    async def run(self) -> None:
        """Deliver until stopped or disabled."""
        await self._restore()
        if self._job.retries_at_once:
            self._queue.retry_now()
        with self._hub.reader(self._filter, after=self.checkpoint, caller=self._caller) as reader:
            reading = asyncio.create_task(self._read_log(reader))
            reading.add_done_callback(lambda _: self.stop())
            try:
                await self._deliver()
            finally:
                reading.cancel()
                await self._drain()
                await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()

    # Filling the queue

    async def _restore(self) -> None:
        """Queue the events that an earlier worker left pending."""
        for pending in await self._deliveries.pending(self.subscription.id):
            if self._is_stopping:
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

    def _give_up(self, pending: Pending, error: str) -> None:
        self._report(pending=(msgspec.structs.replace(pending, dead_lettered=True, error=error),))

    async def _read_log(self, reader: Reader) -> None:
        """Queue new events while the queue has room."""
        while True:
            try:
                batch = await reader.next()
            except StoreUnavailable:
                _LOGGER.exception("cannot read events for %s; retrying", self.subscription.id)
                await self._clock.wait(asyncio.Event(), RETRY_SECONDS)
                continue
            if batch is None:
                return
            self._add(await self._selected(batch), reader.position)
            # The queue counts these bytes itself, so other readers need not wait for its room.
            reader.release()
            while not self._queue.has_room:
                self._room.clear()
                await self._room.wait()

    async def _selected(self, batch: Batch) -> Batch:
        """The batch without the events that are not of the places of the subscription."""
        if self._job.places is None:
            return batch
        while True:
            try:
                events = [event for event in batch.events if await self._selects(event)]
            except StoreUnavailable:
                _LOGGER.exception("cannot select events for %s; retrying", self.subscription.id)
                await self._clock.wait(asyncio.Event(), RETRY_SECONDS)
            else:
                return Batch(events, batch.gap)

    async def _selects(self, event: Event) -> bool:
        return self._job.places is None or await self._job.places.selects(event)

    def _add(self, batch: Batch, position: int) -> None:
        if batch.gap is not None:
            # The receiver learns of consecutive gaps as one that spans them.
            after = self._gap[0] if self._gap is not None else batch.gap.after
            self._gap = (after, batch.gap.floor)
            self._emit("gap", _gap_reason(batch.gap), key=str(batch.gap.floor))
        for event in batch.events:
            self._queue.add(event, gap=self._gap)
            self._gap = None
        if self._gap is None:
            # Otherwise the next worker would not learn of the gap.
            self._queue.advance(position)
        if not batch.events and self._queue.checkpoint > self.checkpoint:
            # No events for a while: spare the next worker this part of the log.
            self._report()
        self._wakeup.set()

    # Sending

    async def _deliver(self) -> None:
        while not self._is_stopping:
            self._wakeup.clear()
            await self._recorder.wait_for_room()
            self._start_requests()
            seconds = self._seconds_to_next() if self._may_send() else RETRY_SECONDS
            if not self._is_stopping:
                await self._clock.wait(self._wakeup, seconds)

    def _start_requests(self) -> None:
        """Start a request for each lane that may send, up to the limit."""
        while (batch := self._next_batch()) is not None:
            task = asyncio.create_task(self._send_batches(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._on_done)

    def _next_batch(self, *, finishing: int = 0) -> QueuedBatch | None:
        """A batch that may be sent now, if the limit allows one beside the requests in flight.

        Of those, ``finishing`` do not count.
        """
        limit = self._circuit.max_in_flight(MAX_IN_FLIGHT)
        if self._is_stopping or len(self._in_flight) - finishing >= limit or not self._may_send():
            return None
        lane = self._next_lane(self._clock.now())
        if lane is None:
            return None
        number = self._job.sender.batch_size(self._queue.waiting(lane))
        return self._queue.take(lane, max(number, 1))

    def _next_lane(self, now: int) -> str | None:
        if not self._circuit.is_failing:
            return self._queue.next_lane(now)
        return self._queue.first_lane() if self._circuit.may_probe(now) else None

    def _seconds_to_next(self) -> float | None:
        """Seconds until another request may start; ``None`` until something else happens."""
        if len(self._in_flight) >= self._circuit.max_in_flight(MAX_IN_FLIGHT):
            return None
        due = self._queue.next_due
        if due is not None and self._circuit.is_failing:
            due = self._circuit.probe_at
        return max(due - self._clock.now(), 0) / SECOND if due is not None else None

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("a delivery worker failed unexpectedly", exc_info=error)
            # Its lane would stay busy. The next worker starts from what is recorded.
            self._is_stopping = True
        self._wakeup.set()

    async def _send_batches(self, first: QueuedBatch) -> None:
        """Send one batch after the other while there are any."""
        batch: QueuedBatch | None = first
        while batch is not None:
            await self._send(batch)
            await self._recorder.wait_for_room()
            batch = self._next_batch(finishing=1)

    async def _send(self, batch: QueuedBatch) -> None:
        started = self._clock.now()
        try:
            context = await self._context(batch)
            outcome = await self._outcome(batch, context)
        except StoreUnavailable:
            _LOGGER.exception("cannot read what a delivery needs; retrying")
            await self._clock.wait(asyncio.Event(), RETRY_SECONDS)
            self._queue.release(batch)
        else:
            self._handle(batch, outcome, started)

    async def _outcome(self, batch: QueuedBatch, context: Context) -> Outcome:
        job = self._job
        try:
            return await job.sender.send(
                job.subscription, job.endpoint, job.secrets, batch.events, context=context
            )
        except StoreUnavailable:
            raise
        except Exception:
            # One event that cannot be rendered must not stop all other deliveries.
            _LOGGER.exception("a delivery of %s failed unexpectedly", self.subscription.id)
            error = "an unexpected error occurred"
            return Outcome(result="retry", response=Response(error=error))

    async def _context(self, batch: QueuedBatch) -> Context:
        first = batch.items[0]
        previous = first.previous or await self._find_previous(first.event)
        return Context(
            now=self._clock.now(),
            previous_id=previous.id if previous is not None else None,
            previous_position=previous.position if previous is not None else None,
            gap=first.gap,
        )

    async def _find_previous(self, event: Event) -> EventRef | None:
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
                caller=self._caller,
            )
        )
        for each in candidates:
            # The scope also contains events of the lanes below it.
            if self._queue.name_of(each) == lane and await self._selects(each):
                return EventRef(each.position, each.id)
        return None

    # Handling outcomes

    def _handle(self, batch: QueuedBatch, outcome: Outcome, started: int) -> None:
        now = self._clock.now()
        sent = SentBatch(batch=batch, outcome=outcome, started=started, finished=now)
        if outcome.result == "delivered":
            self._delivered(sent)
        elif outcome.result == "disable":
            self._disabled(sent)
        elif outcome.result == "dead_letter" or sent.is_last:
            self._dead_lettered(sent)
        else:
            self._failed(sent)
        if self._queue.has_room:
            self._room.set()

    def _delivered(self, sent: SentBatch) -> None:
        delivered = self._queue.finish(sent.batch)
        was_failing = self._circuit.is_failing
        if self._circuit.succeeded(sent.finished):
            self._queue.retry_now()
        if was_failing:
            self._emit("resumed", "deliveries succeed again", key=str(sent.finished))
            self._report(sent, "delivered", delivered_positions=delivered, state="active")
        else:
            self._report(sent, "delivered", delivered_positions=delivered)

    def _dead_lettered(self, sent: SentBatch) -> None:
        """Give the events up, until a user redelivers them."""
        dead_letters = sent.dead_letters()
        self._queue.finish(sent.batch)
        if sent.outcome.result == "retry":
            self._opens_circuit(sent, self._clock.chance())
        self._report(sent, "dead_lettered", pending=dead_letters)

    def _failed(self, sent: SentBatch) -> None:
        chance = self._clock.chance()
        due = sent.finished + self._delay(sent, chance)
        pending = self._queue.fail(
            sent.batch, now=sent.finished, due=due, started=sent.started, error=sent.error
        )
        if self._opens_circuit(sent, chance):
            self._emit("failing", sent.error, key=str(self._circuit.failing_since))
            self._report(
                sent, "failed", pending=pending, due=due, state="failing", reason=sent.error
            )
        else:
            self._report(sent, "failed", pending=pending, due=due)

    def _delay(self, sent: SentBatch, chance: float) -> int:
        """How long the events of a failed batch wait, in ns."""
        if self._is_obsolete(sent):
            return 0
        return retry.delay(
            sent.batch.items[0].tries + 1,
            retry_after=sent.outcome.response.retry_after,
            chance=chance,
            is_paced=sent.outcome.is_paced,
        )

    def _is_obsolete(self, sent: SentBatch) -> bool:
        """Whether a failure says nothing: its request started before the receiver was back."""
        return sent.started <= self._reachable_since

    def _opens_circuit(self, sent: SentBatch, chance: float) -> bool:
        """Record the failure, and return whether the subscription is failing from now on."""
        wait = retry.probe_delay(retry_after=sent.outcome.response.retry_after, chance=chance)
        if self._is_obsolete(sent):
            wait = 0
        return self._circuit.failed(sent.started, sent.finished, wait=wait)

    def _disabled(self, sent: SentBatch) -> None:
        """Stop for the receiver. The events stay pending until a user resumes the subscription."""
        pending = self._queue.fail(
            sent.batch, now=sent.started, due=0, started=sent.started, error=sent.error
        )
        self._emit("disabled", sent.error, key=str(sent.finished))
        self._report(sent, "failed", pending=pending, state="disabled", reason=sent.error)
        self.stop()

    def disable(self, reason: str) -> None:
        """Stop and disable the subscription, for a reason other than a response."""
        self._emit("disabled", reason, key=str(self._clock.now()))
        self._report(state="disabled", reason=reason)
        self.stop()

    def _report(
        self,
        sent: SentBatch | None = None,
        result: Result = "delivered",
        *,
        delivered_positions: Sequence[int] = (),
        pending: Sequence[Pending] = (),
        due: int | None = None,
        state: State | None = None,
        reason: str | None = None,
    ) -> None:
        self.checkpoint = self._queue.checkpoint
        self._recorder.report(
            Delivery(
                subscription=self.subscription.id,
                attempts=sent.attempts(result, due) if sent is not None else (),
                checkpoint=self.checkpoint,
                delivered_positions=tuple(delivered_positions),
                pending=(*pending, *self._queue.drain_held()),
                messages=sent.outcome.messages if sent is not None else (),
                state=state,
                reason=reason,
                failing_since=self._circuit.failing_since,
            )
        )

    def _emit(self, status: Status, reason: str, *, key: str) -> None:
        now = self._clock.now()
        self._recorder.emit(
            status_event(self.subscription, status, reason=reason, time=now, key=key)
        )

    async def _drain(self) -> None:
        """Wait for the requests in flight, and cancel those that take too long."""
        in_flight = list(self._in_flight)
        if not in_flight:
            return
        _, late = await asyncio.wait(in_flight, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def _next_expiry(subscription: Subscription, now: int) -> int | None:
    """When the first of the secrets that sign at ``now`` expires, in ns."""
    times = (secret.expires for secret in subscription.secrets if secret.expires is not None)
    return min((each for each in times if each > now), default=None)


def _gap_reason(gap: Gap) -> str:
    if gap.reason == "damaged":
        return f"events up to position {gap.floor} are damaged"
    return f"events up to position {gap.floor} are no longer retained"
