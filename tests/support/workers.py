"""Workers under test: a clock that jumps, a sender that follows a script, and a harness."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from deploylog.events.access import ALL, Visibility
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Hub
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.job import DeliveryJob
from deploylog.subscriptions.delivery.lanes import MAX_BYTES
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.sender import OutgoingBatch, Sender
from deploylog.subscriptions.delivery.worker import DeliveryWorker
from deploylog.subscriptions.subscription import Endpoint, Subscription
from support.factories import now
from support.waiting import until

#: Seconds before the clock jumps.
SETTLE_SECONDS = 0.02

HOLDER = "me"
LEASE = 10**18


class JumpingClock:
    """A clock that jumps to the end of every wait, when nothing else happens."""

    def __init__(self) -> None:
        self.now = now()
        self.started = self.now

    @property
    def passed(self) -> float:
        """Seconds."""
        return (self.now - self.started) / SECOND

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            # Other threads may be about to finish something.
            async with asyncio.timeout(None if seconds is None else min(seconds, SETTLE_SECONDS)):
                await event.wait()
        except TimeoutError:
            self.now += int((seconds or 0) * SECOND) + 1

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, wait=self.wait, chance=lambda: 0.5)


Script = Callable[[OutgoingBatch], Outcome]

OK = Outcome(result="delivered", response=Response(status=200, body=b"ok"))
REFUSED = Outcome(result="retry", response=Response(error="refused"), error="refused")
GONE = Outcome(result="disable", response=Response(status=410), error="410 Gone")
DEAD_LETTER = Outcome(result="dead_letter", response=Response(status=400), error="400 Bad Request")


def fails(times: int, outcome: Outcome = REFUSED) -> Script:
    """A receiver that fails this many times, and then recovers."""
    failures_left = [times]

    def send(batch: OutgoingBatch) -> Outcome:
        failures_left[0] -= 1
        return outcome if failures_left[0] >= 0 else OK

    return send


def always(outcome: Outcome) -> Script:
    return lambda batch: outcome


def refuses(positions: Iterable[int], outcome: Outcome = REFUSED) -> Script:
    """A receiver that rejects some events."""
    bad = set(positions)
    return lambda batch: outcome if bad & {e.position for e in batch.events} else OK


class Scripted:
    """A sender whose outcomes a function decides."""

    def __init__(self, script: Script, *, batch_size: int = 1) -> None:
        self.script = script
        self.sent: list[OutgoingBatch] = []
        self._batch_size = batch_size

    def batch_size(self, waiting: int) -> int:
        return min(waiting, self._batch_size)

    async def send(self, batch: OutgoingBatch) -> Outcome:
        await asyncio.sleep(0)
        outcome = self.script(batch)
        self.sent.append(batch)
        return outcome

    @property
    def sender(self) -> Sender:
        return Sender(send=self.send, batch_size=self.batch_size)

    @property
    def batches(self) -> list[tuple[int, ...]]:
        """The positions of each batch."""
        return [tuple(event.position for event in batch.events) for batch in self.sent]

    @property
    def positions(self) -> list[int]:
        return [position for batch in self.batches for position in batch]


class WorkerHarness:
    """Runs workers, and records their reports."""

    def __init__(self, store: Store, hub: Hub, clock: JumpingClock) -> None:
        self.store = store
        self.hub = hub
        self.clock = clock
        self.lost: list[str] = []
        self.recorder = DeliveryRecorder(
            store.deliveries,
            store.log,
            holder=HOLDER,
            on_lost=self.lost.append,
            on_recorded=lambda delivery: None,
            clock=now,
        )

    def worker(
        self,
        subscription: Subscription,
        sender: Scripted,
        *,
        visibility: Visibility = ALL,
        may_send: Callable[[], bool] = lambda: True,
        max_queue_bytes: int = MAX_BYTES,
    ) -> DeliveryWorker:
        job = DeliveryJob(
            subscription=subscription,
            endpoint=Endpoint(url="http://receiver"),
            secrets=(),
            visibility=visibility,
            sender=sender.sender,
        )
        return DeliveryWorker(
            job,
            hub=self.hub,
            deliveries=self.store.deliveries,
            recorder=self.recorder,
            may_send=may_send,
            clock=self.clock.clock,
            max_queue_bytes=max_queue_bytes,
        )

    @asynccontextmanager
    async def running(self, worker: DeliveryWorker) -> AsyncIterator[DeliveryWorker]:
        """Run a worker in the block; afterwards it is stopped, and its reports are written."""
        recording = asyncio.create_task(self.recorder.run())
        working = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await working
            await self.recorder.flush()
            recording.cancel()

    async def deliver(
        self, subscription: Subscription, sender: Scripted, *, until_sent: int, **options: object
    ) -> None:
        """Run a worker until it has sent this many requests, and write its reports."""
        worker = self.worker(subscription, sender, **options)  # type: ignore[arg-type]
        async with self.running(worker):
            await until(lambda: len(sender.sent) >= until_sent or worker.is_stopping)

    async def claim(self, subscription: Subscription) -> Subscription:
        """Add a subscription, and hold it."""
        await self.store.subscriptions.add(subscription)
        await self.store.deliveries.claim(HOLDER, now=now(), until=now() + LEASE)
        return subscription


async def status_events(store: Store) -> list[Event]:
    """What the log records about subscriptions, oldest first."""
    about_subscriptions = Filter(all_of=(any_of("type", ("subscription.*",)),))
    return await store.log.read(Query(filter=about_subscriptions, order="oldest"))
