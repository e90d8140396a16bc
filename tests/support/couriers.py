"""Couriers under test: a clock that jumps, a sender that follows a script, and a home for both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from deploylog.events.access import ALL, Visibility
from deploylog.events.event import Event
from deploylog.events.hub import Hub
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.sender import Context, Sender
from deploylog.subscriptions.delivery.worker import DeliveryJob, DeliveryWorker
from deploylog.subscriptions.subscription import Endpoint, Subscription
from support.factories import now
from support.waiting import until

#: Seconds that pass before the clock jumps.
BREATH = 0.02

HOLDER = "me"
LEASE = 10**18


class JumpingClock:
    """Nobody waits for long: time passes at once, when nothing else happens."""

    def __init__(self) -> None:
        self.now = now()
        self.begun = self.now

    @property
    def passed(self) -> float:
        """Seconds."""
        return (self.now - self.begun) / SECOND

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            # What is under way in other threads may be about to come.
            async with asyncio.timeout(None if seconds is None else min(seconds, BREATH)):
                await event.wait()
        except TimeoutError:
            self.now += int((seconds or 0) * SECOND) + 1

    @property
    def timing(self) -> Clock:
        return Clock(now=lambda: self.now, wait=self.wait, chance=lambda: 0.5)


Script = Callable[[Sequence[Event], Context], Outcome]

OK = Outcome(result="delivered", answer=Response(status=200, body=b"ok"))
REFUSED = Outcome(result="retry", answer=Response(error="refused"), error="refused")
GONE = Outcome(result="disable", answer=Response(status=410), error="410 Gone")
PARK = Outcome(result="dead_letter", answer=Response(status=400), error="400 Bad Request")


def fails(times: int, verdict: Outcome = REFUSED) -> Script:
    """A receiver that fails so often, then is well."""
    left = [times]

    def send(events: Sequence[Event], context: Context) -> Outcome:
        left[0] -= 1
        return verdict if left[0] >= 0 else OK

    return send


def always(verdict: Outcome) -> Script:
    return lambda events, context: verdict


def refuses(positions: Iterable[int], verdict: Outcome = REFUSED) -> Script:
    """A receiver that does not take some events."""
    bad = set(positions)
    return lambda events, context: verdict if bad & {e.position for e in events} else OK


class Scripted:
    """A sender that asks a function."""

    def __init__(self, script: Script, *, fold: int = 1) -> None:
        self.script = script
        self.sent: list[tuple[tuple[int, ...], Context]] = []
        self.signed: list[tuple[bytes, ...]] = []
        self._fold = fold

    def fold(self, waiting: int) -> int:
        return min(waiting, self._fold)

    async def send(
        self,
        subscription: Subscription,
        target: Endpoint,
        secrets: Sequence[bytes],
        events: Sequence[Event],
        *,
        context: Context,
    ) -> Outcome:
        await asyncio.sleep(0)
        verdict = self.script(events, context)
        self.signed.append(tuple(secrets))
        self.sent.append((tuple(event.position for event in events), context))
        return verdict

    @property
    def positions(self) -> list[int]:
        return [position for positions, _ in self.sent for position in positions]


class Office:
    """Sends couriers out, and writes down what they report."""

    def __init__(self, store: Store, hub: Hub, clock: JumpingClock) -> None:
        self.store = store
        self.hub = hub
        self.clock = clock
        self.lost: list[str] = []
        self.ledger = DeliveryRecorder(
            store.deliveries,
            store.log,
            holder=HOLDER,
            lost=self.lost.append,
            told=lambda delivery: None,
            clock=now,
        )

    def courier(
        self,
        subscription: Subscription,
        sender: Sender,
        *,
        visibility: Visibility = ALL,
        may_send: Callable[[], bool] = lambda: True,
    ) -> DeliveryWorker:
        errand = DeliveryJob(
            subscription=subscription,
            target=Endpoint(url="http://receiver"),
            secrets=(),
            visibility=visibility,
            sender=sender,
        )
        return DeliveryWorker(
            errand,
            hub=self.hub,
            deliveries=self.store.deliveries,
            ledger=self.ledger,
            may_send=may_send,
            timing=self.clock.timing,
        )

    @asynccontextmanager
    async def out(self, courier: DeliveryWorker) -> AsyncIterator[DeliveryWorker]:
        """A courier under way; home, and its reports written, when the context ends."""
        writing = asyncio.create_task(self.ledger.write())
        running = asyncio.create_task(courier.run())
        try:
            yield courier
        finally:
            courier.stop()
            await running
            await self.ledger.flush()
            writing.cancel()

    async def deliver(
        self, subscription: Subscription, sender: Scripted, *, until_sent: int, **how: object
    ) -> None:
        """Let a courier work until so many requests were made, and all is written."""
        courier = self.courier(subscription, sender, **how)  # type: ignore[arg-type]
        async with self.out(courier):
            await until(lambda: len(sender.sent) >= until_sent or courier.is_stopping)

    async def hold(self, subscription: Subscription) -> Subscription:
        """Keep a subscription, and hold it."""
        await self.store.subscriptions.add(subscription)
        await self.store.deliveries.claim(HOLDER, now=now(), until=now() + LEASE)
        return subscription
