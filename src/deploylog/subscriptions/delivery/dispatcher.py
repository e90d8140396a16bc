"""The dispatcher: sends a courier out for each subscription that this process holds."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import uuid4

import msgspec

from deploylog.errors import Conflict, NoEncryptionKey, OperatorError, Unavailable
from deploylog.events.access import Principal
from deploylog.events.hub import Hub
from deploylog.events.store import EventLog
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.ping import send_test_event
from deploylog.subscriptions.delivery.recorder import DeliveryRecorder
from deploylog.subscriptions.delivery.sender import Sender
from deploylog.subscriptions.delivery.status_events import notice
from deploylog.subscriptions.delivery.worker import DeliveryJob, DeliveryWorker
from deploylog.subscriptions.store import Backlog, Deliveries, Subscriptions
from deploylog.subscriptions.subscription import (
    Attempt,
    Delivery,
    Endpoint,
    Owner,
    Result,
    Subscription,
)

#: Seconds between two looks at which subscriptions there are, and whose owners are still good.
LOOK_SECONDS = 2.0
OWNER_SECONDS = 0.3

#: Seconds that a subscription is held without another look, and of those the last, in which nothing
#: is begun any more: another process may be about to take over.
LEASE_SECONDS = 10
MARGIN_SECONDS = 4

#: Seconds that reports may take to be written once the service stops.
WRITE_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told how deliveries go."""

    def attempted(self, result: Result, number: int) -> None:
        """So many attempts ended so."""
        ...

    def delivering(self, subscription: str, *, lag: int, dead_lettered: int) -> None:
        """So many positions lie before the head, and so many events were given up."""
        ...

    def delivered_no_more(self, subscription: str) -> None:
        """Others deliver it, or nobody does."""
        ...


class DispatcherParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the dispatcher is given."""

    #: The way to deliver to a target.
    sender: Callable[[Subscription, Endpoint], Sender]
    #: Open what is sealed; they raise DeploylogError when they cannot.
    target: Callable[[Subscription], Endpoint]
    secrets: Callable[[Subscription], tuple[bytes, ...]]
    #: Who owns a subscription; ``None`` when that principal is good no more. Raises Unavailable.
    owner: Callable[[Owner], Awaitable[Principal | None]]
    observer: Observer
    timing: Clock = Clock()
    #: ns since 1970, for the lease: never a clock that tests turn.
    clock: Callable[[], int] = time.time_ns


class Dispatcher:
    """Keeps a courier under way for each subscription that is to be delivered."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        log: EventLog,
        hub: Hub,
        parts: DispatcherParts,
    ) -> None:
        """Deliver what ``subscriptions`` holds while ``working``."""
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._hub = hub
        self._parts = parts
        self._holder = str(uuid4())
        self._couriers: dict[str, DeliveryWorker] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Those that cannot be opened here, which the operator was told.
        self._left: set[str] = set()
        self._until = 0
        self._changed = asyncio.Event()
        self._ledger = DeliveryRecorder(
            deliveries,
            log,
            holder=self._holder,
            lost=self._lose,
            told=self._observe,
            clock=parts.clock,
        )

    def changed(self) -> None:
        """Look at once: a subscription was added, or changed."""
        self._changed.set()

    async def test(self, subscription: Subscription) -> Attempt:
        """Send a made-up event, whoever delivers the real ones; raises Conflict when it cannot be
        sent at all.
        """
        owner = await self._parts.owner(subscription.owner)
        if owner is None:
            raise Conflict(_owner_is_gone(subscription))
        try:
            errand = self._errand(subscription, owner)
        except (OperatorError, NoEncryptionKey) as error:
            raise Conflict(error.message) from error
        return await send_test_event(errand, clock=self._parts.timing.now)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver while in the block."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._ledger.write())
            looking = [tasks.create_task(self._look()), tasks.create_task(self._watch_owners())]
            try:
                yield
            finally:
                for task in looking:
                    task.cancel()
                await asyncio.wait(looking)
                await self._end()
                writing.cancel()

    async def _end(self) -> None:
        """Let couriers come home, write what they report, and let others deliver."""
        self._ledger.stop_waiting()
        await self._recall(list(self._couriers))
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._ledger.flush()
                if self._until:
                    await self._deliveries.release(self._holder)
        except (TimeoutError, Unavailable):
            # Others take over when the lease ends, and send again what is not written.
            _LOGGER.exception("cannot record the last deliveries")

    # Which couriers are under way

    async def _look(self) -> None:
        while True:
            # Before the round: what changes during it asks for another.
            self._changed.clear()
            try:
                await self._round()
            except Exception:
                # One subscription that cannot be dealt with must not end the service.
                _LOGGER.exception("cannot look for subscriptions; trying again")
            await self._wait(LOOK_SECONDS)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _round(self) -> None:
        wanted = _delivered_of(await self._claim())
        if stale := self._stale(wanted):
            await self._recall(stale)
            # Those who follow them begin where their last reports end, not where they once began.
            await self._ledger.flush()
            wanted = _delivered_of(await self._claim())
        for subscription in wanted.values():
            if subscription.id not in self._couriers:
                await self._send_out(subscription)
        await self._measure()

    def _stale(self, wanted: Mapping[str, Subscription]) -> list[str]:
        """Couriers that have ended, or were sent out with what is not so any more."""
        now = self._parts.timing.now()
        return [
            id
            for id, courier in self._couriers.items()
            if id not in wanted
            or wanted[id].version != courier.subscription.version
            or courier.is_outdated(now)
            or self._running[id].done()
        ]

    async def _claim(self) -> list[Subscription]:
        """The subscriptions that this process holds from now on."""
        if not await self._subscriptions.list():
            return []
        now = self._parts.clock()
        until = now + LEASE_SECONDS * SECOND
        held = await self._deliveries.claim(self._holder, now=now, until=until)
        self._until = until
        return held

    def _may_send(self) -> bool:
        return self._parts.clock() < self._until - MARGIN_SECONDS * SECOND

    async def _send_out(self, subscription: Subscription) -> None:
        owner = await self._parts.owner(subscription.owner)
        if owner is None:
            self._disable(subscription, _owner_is_gone(subscription))
            return
        try:
            errand = self._errand(subscription, owner)
        except (OperatorError, NoEncryptionKey) as error:
            # Another process sealed it with a key that this one was not given: to disable it
            # would outlast that mistake.
            if subscription.id not in self._left:
                self._left.add(subscription.id)
                _LOGGER.error("%s is not delivered: %s", subscription.id, error.message)
            return
        courier = DeliveryWorker(
            errand,
            hub=self._hub,
            deliveries=self._deliveries,
            ledger=self._ledger,
            may_send=self._may_send,
            timing=self._parts.timing,
        )
        self._couriers[subscription.id] = courier
        self._running[subscription.id] = asyncio.create_task(self._run(courier))

    def _errand(self, subscription: Subscription, owner: Principal) -> DeliveryJob:
        target = self._parts.target(subscription)
        return DeliveryJob(
            subscription=subscription,
            target=target,
            secrets=self._parts.secrets(subscription),
            visibility=owner.visibility,
            sender=self._parts.sender(subscription, target),
        )

    async def _run(self, courier: DeliveryWorker) -> None:
        try:
            await courier.run()
        except Exception:
            # The next round sends another one out; the others are none of its business.
            _LOGGER.exception("a courier failed unexpectedly")

    async def _recall(self, ids: list[str]) -> None:
        """Let couriers come home."""
        for id in ids:
            self._couriers[id].stop()
        if ids:
            await asyncio.wait([self._running[id] for id in ids])
        for id in ids:
            del self._couriers[id], self._running[id]
            self._parts.observer.delivered_no_more(id)

    def _lose(self, id: str) -> None:
        """Another process delivers it now."""
        if id in self._couriers:
            self._couriers[id].stop()
            self.changed()

    def _disable(self, subscription: Subscription, why: str) -> None:
        now = self._parts.timing.now()
        self._ledger.tell(notice(subscription, "disabled", why=why, time=now, key=str(now)))
        self._ledger.report(
            Delivery(
                subscription=subscription.id,
                attempts=(),
                checkpoint=subscription.checkpoint,
                state="disabled",
                reason=why,
                failing_since=subscription.failing_since,
            )
        )

    # Owners

    async def _watch_owners(self) -> None:
        while True:
            await asyncio.sleep(OWNER_SECONDS)
            try:
                await self._look_at_owners()
            except Exception:
                _LOGGER.exception("cannot look owners up; trying again")

    async def _look_at_owners(self) -> None:
        for courier in list(self._couriers.values()):
            owner = await self._parts.owner(courier.subscription.owner)
            if owner is None and not courier.is_stopping:
                courier.disable(_owner_is_gone(courier.subscription))
                self.changed()

    # What is seen of it

    def _observe(self, delivery: Delivery) -> None:
        for attempt in delivery.attempts:
            self._parts.observer.attempted(attempt.result, 1)

    async def _measure(self) -> None:
        if not self._couriers:
            return
        backlogs = await self._deliveries.backlogs()
        for id, courier in self._couriers.items():
            lag = max(self._hub.head - courier.checkpoint, 0)
            dead_lettered = backlogs.get(id, Backlog()).dead_lettered
            self._parts.observer.delivering(id, lag=lag, dead_lettered=dead_lettered)


def _delivered_of(held: Iterable[Subscription]) -> dict[str, Subscription]:
    return {each.id: each for each in held if each.state in ("active", "failing")}


def _owner_is_gone(subscription: Subscription) -> str:
    return f"its owner, {subscription.owner.name}, may not read any more"
