"""The worker of a subscription: delivers its events, starting at the checkpoint."""

import asyncio
import logging
from collections.abc import Callable

from deploylog.errors import StoreUnavailable
from deploylog.events.hub import Hub
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.attempt import SentBatch
from deploylog.subscriptions.delivery.circuit import CircuitBreaker
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.feed import RETRY_SECONDS, EventFeed
from deploylog.subscriptions.delivery.job import DeliveryJob
from deploylog.subscriptions.delivery.lanes import MAX_BYTES, DeliveryQueue, QueuedBatch
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.reports import DeliveryReports
from deploylog.subscriptions.delivery.results import BatchResults
from deploylog.subscriptions.delivery.sender import OutgoingBatch
from deploylog.subscriptions.store import Deliveries
from deploylog.subscriptions.subscription import Subscription

#: Requests of one subscription that may be in flight.
MAX_IN_FLIGHT = 64

#: Seconds for which a stopping worker waits for its requests. Their events are sent again if it
#: cancels them.
GRACE_SECONDS = 1.0

_LOGGER = logging.getLogger(__name__)


class DeliveryWorker:
    """Delivers the events of one subscription.

    Its feed fills the queue, its requests empty it, and its reports say what was recorded.
    """

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
        self._job = job
        self._recorder = recorder
        self._may_send = may_send
        self._clock = clock
        self._secrets_expire = _next_expiry(job.subscription, clock.now())
        self._wakeup = asyncio.Event()
        self._is_stopping = False
        self._grace: float | None = GRACE_SECONDS
        self._in_flight: set[asyncio.Task[None]] = set()
        self._queue = DeliveryQueue(
            job.subscription.order, job.subscription.checkpoint, max_bytes=max_queue_bytes
        )
        self._circuit = CircuitBreaker(job.subscription)
        self._reports = DeliveryReports(
            job.subscription, self._queue, self._circuit, recorder, clock
        )
        self._results = BatchResults(self._queue, self._circuit, self._reports, clock)
        self._feed = EventFeed(
            job,
            self._queue,
            self._reports,
            hub=hub,
            deliveries=deliveries,
            clock=clock,
            on_events=self._wakeup.set,
        )

    @property
    def checkpoint(self) -> int:
        """The one that was reported last."""
        return self._reports.checkpoint

    @property
    def is_stopping(self) -> bool:
        """Whether it starts no more requests."""
        return self._is_stopping

    def is_outdated(self, now: int) -> bool:
        """Whether it signs with a secret that has expired; ``now`` in ns."""
        return self._secrets_expire is not None and now >= self._secrets_expire

    def stop(self, *, grace: float = GRACE_SECONDS) -> None:
        """Start no more requests, and return from ``run`` after ``grace`` seconds at the latest."""
        if not self._is_stopping:
            self._grace = grace
        self._is_stopping = True
        self._wakeup.set()

    def finish(self) -> None:
        """Start no more requests, and return from ``run`` when those in flight have ended."""
        self.stop()
        self._grace = None

    def disable(self, reason: str) -> None:
        """Stop and disable the subscription, for a reason other than a response."""
        self._reports.emit("disabled", reason, key=str(self._clock.now()))
        self._reports.report(state="disabled", reason=reason)
        self.stop()

    def retry_now(self) -> None:
        """Send at once what waits for a retry: the receiver has just answered a test."""
        self._results.retry_now()
        self._wakeup.set()

    async def run(self) -> None:
        """Deliver until stopped or disabled."""
        await self._feed.restore(is_stopping=lambda: self._is_stopping)
        if self._job.retries_at_once:
            self._queue.retry_now()
        reading = asyncio.create_task(self._feed.run())
        reading.add_done_callback(lambda _: self.stop())
        try:
            await self._deliver()
        finally:
            reading.cancel()
            await self._drain()
            await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()

    async def _deliver(self) -> None:
        while not self._is_stopping:
            self._wakeup.clear()
            await self._recorder.wait_for_room()
            self._start_requests()
            seconds = self._seconds_to_next() if self._may_send() else RETRY_SECONDS
            if not self._is_stopping:
                await self._clock.wait(self._wakeup, seconds)

    async def _drain(self) -> None:
        """Wait for the requests in flight, and cancel those that take too long to stop."""
        in_flight = list(self._in_flight)
        if not in_flight:
            return
        _, late = await asyncio.wait(in_flight, timeout=self._grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # Which batch is next

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

    # Sending it

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
            outcome = await self._outcome(await self._outgoing(batch))
        except StoreUnavailable:
            _LOGGER.exception("cannot read what a delivery needs; retrying")
            await self._clock.wait(asyncio.Event(), RETRY_SECONDS)
            self._queue.release(batch)
        else:
            self._handle(batch, outcome, started)

    async def _outgoing(self, batch: QueuedBatch) -> OutgoingBatch:
        first = batch.items[0]
        return OutgoingBatch(
            subscription=self.subscription,
            endpoint=self._job.endpoint,
            secrets=self._job.secrets,
            events=batch.events,
            now=self._clock.now(),
            previous=first.previous or await self._feed.previous_of(first.event),
            gap=first.gap,
        )

    async def _outcome(self, batch: OutgoingBatch) -> Outcome:
        try:
            return await self._job.sender.send(batch)
        except StoreUnavailable:
            raise
        except Exception:
            # One event that cannot be rendered must not stop all other deliveries.
            _LOGGER.exception("a delivery of %s failed unexpectedly", self.subscription.id)
            error = "an unexpected error occurred"
            return Outcome(result="retry", response=Response(error=error))

    def _handle(self, batch: QueuedBatch, outcome: Outcome, started: int) -> None:
        finished = self._clock.now()
        self._results.apply(
            SentBatch(batch=batch, outcome=outcome, started=started, finished=finished)
        )
        if outcome.result == "disable":
            self.stop()
        self._feed.notice_room()


def _next_expiry(subscription: Subscription, now: int) -> int | None:
    """When the first of the secrets that sign at ``now`` expires, in ns."""
    times = (secret.expires for secret in subscription.secrets if secret.expires is not None)
    return min((each for each in times if each > now), default=None)
