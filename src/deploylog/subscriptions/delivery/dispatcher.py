"""The dispatcher: runs a worker for each subscription that this process holds."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import Deployment, Stack
from deploylog.errors import Conflict, NoEncryptionKey, OperatorError, Unavailable
from deploylog.events.access import Principal
from deploylog.events.hub import Hub
from deploylog.events.store import EventLog
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.job import DeliveryJob
from deploylog.subscriptions.delivery.ping import send_test_event
from deploylog.subscriptions.delivery.recorder import MAX_UNWRITTEN, DeliveryRecorder
from deploylog.subscriptions.delivery.sender import Sender
from deploylog.subscriptions.delivery.status_events import status_event
from deploylog.subscriptions.delivery.worker import GRACE_SECONDS, DeliveryWorker
from deploylog.subscriptions.selection import PlaceSelector
from deploylog.subscriptions.store import Backlog, Claim, Deliveries, Subscriptions
from deploylog.subscriptions.subscription import (
    Attempt,
    Delivery,
    Endpoint,
    Owner,
    Result,
    Subscription,
)

_LOGGER = logging.getLogger(__name__)


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How often the dispatcher polls, and how long its claims last."""

    #: Seconds between two polls of the subscriptions, and of their owners.
    poll_seconds: float = 2.0
    owner_poll_seconds: float = 0.3
    #: Seconds for which a claim holds subscriptions. In the last ``margin_seconds`` of them no
    #: request starts: another process may be about to take over.
    lease_seconds: int = 7
    margin_seconds: int = 3
    #: Seconds for which the service waits for requests in flight when it stops. They and the last
    #: reports must end before the lease does: another process would send the events again.
    grace_seconds: float = 3.0
    #: Seconds for writing the last reports when the service stops.
    flush_seconds: float = 5.0
    #: Unwritten reports at which workers wait.
    max_unwritten: int = MAX_UNWRITTEN


DEFAULT_PACING = Pacing()


class Observer(Protocol):
    """Gets the metrics of deliveries."""

    def attempted(self, result: Result, number: int) -> None:
        """This number of attempts ended with the result."""
        ...

    def delivering(self, subscription: str, *, lag: int, dead_lettered: int) -> None:
        """``lag`` positions remain to the head, and ``dead_lettered`` events were given up."""
        ...

    def delivery_stopped(self, subscription: str) -> None:
        """This process no longer delivers the subscription."""
        ...


class DispatcherParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the dispatcher uses beside the store and the hub."""

    #: Chooses the sender for an endpoint.
    sender: Callable[[Subscription, Endpoint], Sender]
    #: Decrypt; they raise OperatorError or NoEncryptionKey.
    endpoint: Callable[[Subscription], Endpoint]
    secrets: Callable[[Subscription], tuple[bytes, ...]]
    #: Returns the owner's current principal, or ``None`` once its credential is invalid; raises
    #: Unavailable.
    find_owner: Callable[[Owner], Awaitable[Principal | None]]
    #: Returns the stacks that have or had a name, in a project or in any, as a principal sees them.
    find_stacks: Callable[[Principal, str | None, str], Awaitable[Sequence[Stack]]]
    #: Returns the deployment with an id, if a principal may see it.
    find_deployment: Callable[[Principal, str], Awaitable[Deployment | None]]
    observer: Observer
    pacing: Pacing = DEFAULT_PACING
    clock: Clock = Clock()
    #: ns since 1970, for leases. Never a clock that jumps: other processes share the leases.
    lease_clock: Callable[[], int] = time.time_ns


class Dispatcher:
    """Runs a worker for each active or failing subscription in the share of this process."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        log: EventLog,
        hub: Hub,
        parts: DispatcherParts,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._hub = hub
        self._parts = parts
        self._pacing = parts.pacing
        self._holder = str(uuid4())
        self._workers: dict[str, DeliveryWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: The subscriptions that this process cannot decrypt, which it has logged.
        self._undecryptable: set[str] = set()
        self._leased_until = 0
        self._refreshed = asyncio.Event()
        self._recorder = DeliveryRecorder(
            deliveries,
            log,
            holder=self._holder,
            on_lost=self._stop_lost,
            on_recorded=self._observe,
            clock=parts.lease_clock,
            max_unwritten=parts.pacing.max_unwritten,
        )

    def refresh(self) -> None:
        """Poll the subscriptions at once: one was added or changed."""
        self._refreshed.set()

    async def test(self, subscription: Subscription) -> Attempt:
        """Send a test event, whichever process delivers the subscription.

        Raises Conflict when it cannot be sent at all.
        """
        owner = await self._parts.find_owner(subscription.owner)
        if owner is None:
            raise Conflict(_invalid_owner(subscription))
        try:
            job = self._job(subscription, owner)
        except (OperatorError, NoEncryptionKey) as error:
            raise Conflict(error.message) from error
        attempt = await send_test_event(job, clock=self._parts.clock.now)
        if attempt.result == "delivered":
            await self._retry_now(subscription)
        return attempt

    async def _retry_now(self, subscription: Subscription) -> None:
        """Send the backlog at once, whichever process delivers it."""
        worker = self._workers.get(subscription.id)
        if worker is not None and not worker.is_stopping:
            worker.retry_now()
        else:
            await self._deliveries.retry_now(subscription.id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while in the block."""
        async with asyncio.TaskGroup() as tasks:
            recording = tasks.create_task(self._recorder.run())
            polling = [tasks.create_task(self._poll()), tasks.create_task(self._poll_owners())]
            try:
                yield
            finally:
                for task in polling:
                    task.cancel()
                await asyncio.wait(polling)
                await self._shut_down()
                recording.cancel()

    async def _shut_down(self) -> None:
        """Stop the workers, write their reports, and release the subscriptions."""
        self._recorder.stop_waiting()
        await self._stop(list(self._workers), grace=self._pacing.grace_seconds)
        try:
            async with asyncio.timeout(self._pacing.flush_seconds):
                await self._recorder.flush()
                if self._leased_until:
                    await self._deliveries.release(self._holder)
        except (TimeoutError, Unavailable):
            # Another process takes over when the lease ends, and sends again what is unwritten.
            _LOGGER.exception("cannot record the last deliveries")

    # Workers

    async def _poll(self) -> None:
        while True:
            # Before the poll: a change during it requires another one.
            self._refreshed.clear()
            try:
                await self._reconcile()
            except Exception:
                # One subscription that causes an error must not stop the service.
                _LOGGER.exception("cannot poll subscriptions; retrying")
            await self._wait(self._pacing.poll_seconds)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._refreshed.wait()
        except TimeoutError:
            return

    async def _reconcile(self) -> None:
        """Make the workers match the subscriptions that this process holds."""
        claim = await self._claim()
        await self._hand_over(_beyond_share(claim))
        enabled = _within_share(claim)
        changed: set[str] = set()
        if outdated := self._outdated(enabled, finishing=_beyond_share(claim)):
            changed = {id for id in outdated if self._is_changed(id, enabled)}
            await self._stop(outdated)
            # Their successors start after the last reports, not where they started themselves.
            await self._recorder.flush()
            enabled = _within_share(await self._claim())
        for subscription in enabled.values():
            if subscription.id not in self._workers:
                await self._start(subscription, retries_at_once=subscription.id in changed)
        await self._measure()

    async def _hand_over(self, ids: Collection[str]) -> None:
        """Give subscriptions up for another process, each when none of its requests is in flight:
        then no event is sent twice.
        """
        if not ids:
            return
        working = [id for id in ids if id in self._workers]
        for id in working:
            self._workers[id].finish()
        if working:
            await asyncio.wait([self._tasks[id] for id in working], timeout=GRACE_SECONDS)
        ended = [id for id in working if self._tasks[id].done()]
        await self._stop(ended)
        await self._recorder.flush()
        await self._deliveries.release(self._holder, set(ids) - self._workers.keys())

    def _outdated(
        self, enabled: Mapping[str, Subscription], *, finishing: Collection[str]
    ) -> list[str]:
        """The subscriptions whose worker has ended, or delivers an old version.

        Those that are ``finishing`` may take longer than a lease.
        """
        now = self._parts.clock.now()
        return [
            id
            for id, worker in self._workers.items()
            if id not in finishing
            and (
                id not in enabled
                or self._is_changed(id, enabled)
                or worker.is_outdated(now)
                or self._tasks[id].done()
            )
        ]

    def _is_changed(self, id: str, enabled: Mapping[str, Subscription]) -> bool:
        """Whether a user changed the subscription since its worker started."""
        return id in enabled and enabled[id].version != self._workers[id].subscription.version

    async def _claim(self) -> Claim:
        """Renew the lease, and return the subscriptions that this process holds."""
        if not await self._subscriptions.list():
            return Claim(held=(), share=0)
        now = self._parts.lease_clock()
        until = now + self._pacing.lease_seconds * SECOND
        claim = await self._deliveries.claim(self._holder, now=now, until=until)
        self._leased_until = until
        return claim

    def _may_send(self) -> bool:
        margin = self._pacing.margin_seconds * SECOND
        return self._parts.lease_clock() < self._leased_until - margin

    async def _start(self, subscription: Subscription, *, retries_at_once: bool) -> None:
        owner = await self._parts.find_owner(subscription.owner)
        if owner is None:
            self._disable(subscription, _invalid_owner(subscription))
            return
        try:
            job = self._job(subscription, owner)
        except (OperatorError, NoEncryptionKey) as error:
            # Another process has the key, and this one was started without it. The mistake can be
            # undone; a disabled subscription would stay disabled.
            if subscription.id not in self._undecryptable:
                self._undecryptable.add(subscription.id)
                _LOGGER.error("cannot deliver %s: %s", subscription.id, error.message)
            return
        worker = DeliveryWorker(
            msgspec.structs.replace(job, retries_at_once=retries_at_once),
            hub=self._hub,
            deliveries=self._deliveries,
            recorder=self._recorder,
            may_send=self._may_send,
            clock=self._parts.clock,
        )
        self._workers[subscription.id] = worker
        self._tasks[subscription.id] = asyncio.create_task(self._run(worker))

    def _job(self, subscription: Subscription, owner: Principal) -> DeliveryJob:
        endpoint = self._parts.endpoint(subscription)
        return DeliveryJob(
            subscription=subscription,
            endpoint=endpoint,
            secrets=self._parts.secrets(subscription),
            visibility=owner.visibility,
            places=self._selector(subscription, owner),
            sender=self._parts.sender(subscription, endpoint),
        )

    def _selector(self, subscription: Subscription, owner: Principal) -> PlaceSelector | None:
        if not subscription.places.is_dynamic:
            return None

        return PlaceSelector(
            subscription.places,
            partial(self._parts.find_stacks, owner),
            partial(self._parts.find_deployment, owner),
        )

    async def _run(self, worker: DeliveryWorker) -> None:
        try:
            await worker.run()
        except Exception:
            # The next poll starts another worker; the other workers continue.
            _LOGGER.exception("a delivery worker failed unexpectedly")

    async def _stop(self, ids: list[str], *, grace: float = GRACE_SECONDS) -> None:
        """Stop workers, and wait for them: ``grace`` seconds for requests in flight."""
        for id in ids:
            self._workers[id].stop(grace=grace)
        if ids:
            await asyncio.wait([self._tasks[id] for id in ids])
        for id in ids:
            del self._workers[id], self._tasks[id]
            self._parts.observer.delivery_stopped(id)

    def _stop_lost(self, id: str) -> None:
        """Stop a worker: another process holds its subscription now."""
        if id in self._workers:
            self._workers[id].stop()
            self.refresh()

    def _disable(self, subscription: Subscription, reason: str) -> None:
        now = self._parts.clock.now()
        self._recorder.emit(
            status_event(subscription, "disabled", reason=reason, time=now, key=str(now))
        )
        self._recorder.report(
            Delivery(
                subscription=subscription.id,
                attempts=(),
                checkpoint=subscription.checkpoint,
                state="disabled",
                reason=reason,
                failing_since=subscription.failing_since,
            )
        )

    # Owners

    async def _poll_owners(self) -> None:
        while True:
            await asyncio.sleep(self._pacing.owner_poll_seconds)
            try:
                await self._check_owners()
            except Exception:
                _LOGGER.exception("cannot look up owners of subscriptions; retrying")

    async def _check_owners(self) -> None:
        for worker in list(self._workers.values()):
            owner = await self._parts.find_owner(worker.subscription.owner)
            if owner is None and not worker.is_stopping:
                worker.disable(_invalid_owner(worker.subscription))
                self.refresh()

    # Metrics

    def _observe(self, deliveries: Sequence[Delivery]) -> None:
        results = Counter(each.result for delivery in deliveries for each in delivery.attempts)
        for result, number in results.items():
            self._parts.observer.attempted(result, number)

    async def _measure(self) -> None:
        if not self._workers:
            return
        backlogs = await self._deliveries.backlogs()
        for id, worker in self._workers.items():
            lag = max(self._hub.head - worker.checkpoint, 0)
            dead_lettered = backlogs.get(id, Backlog()).dead_lettered
            self._parts.observer.delivering(id, lag=lag, dead_lettered=dead_lettered)


def _within_share(claim: Claim) -> dict[str, Subscription]:
    """What this process delivers."""
    return {each.id: each for each in _enabled(claim)[: claim.share]}


def _beyond_share(claim: Claim) -> list[str]:
    """What it holds, and another process is to deliver."""
    return [each.id for each in _enabled(claim)[claim.share :]]


def _enabled(claim: Claim) -> list[Subscription]:
    return [each for each in claim.held if each.state in ("active", "failing")]


def _invalid_owner(subscription: Subscription) -> str:
    return f'owner "{subscription.owner.name}" no longer has read access'
