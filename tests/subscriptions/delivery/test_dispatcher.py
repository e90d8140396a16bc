"""The dispatcher: which subscriptions it delivers, for how long, and for which owners."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec import structs

from deploylog.deployments.catalog import Deployment, Stack
from deploylog.errors import NoEncryptionKey, OperatorError, StoreUnavailable
from deploylog.events.access import Grant, Principal
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Hub
from deploylog.events.scope import ROOT
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from deploylog.subscriptions.delivery.dispatcher import (
    DEFAULT_PACING,
    Dispatcher,
    DispatcherParts,
    Pacing,
)
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.sender import OutgoingBatch, Sender
from deploylog.subscriptions.subscription import (
    Endpoint,
    Owner,
    Result,
    SigningSecret,
    Subscription,
)
from support.factories import new_event, new_events, now, subscription
from support.waiting import until
from support.workers import OK, REFUSED, JumpingClock, Scripted, always, status_events

TARGET = msgspec.json.encode(Endpoint(url="http://receiver"))
#: Polls often, so that tests need not wait.
PACING = Pacing(poll_seconds=0.05, owner_poll_seconds=0.02)
ANN = Owner(kind="key", id="ann", name="Ann")
READER = Principal(name="Ann", id="ann", kind="key", grants=(Grant("read", ROOT),), groups=None)
RESOURCES = Filter(all_of=(any_of("type", ("resource.*",)),))


class Metrics:
    """Records what the dispatcher observes."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.lags: dict[str, int] = {}
        self.stopped: list[str] = []

    def attempted(self, result: Result, number: int) -> None:
        self.results += [result] * number

    def delivering(self, subscription: str, *, lag: int, dead_lettered: int) -> None:
        self.lags[subscription] = lag

    def delivery_stopped(self, subscription: str) -> None:
        self.stopped.append(subscription)


class SteadyClock:
    """A clock that stands still, so that no wait ends by itself."""

    def __init__(self) -> None:
        self.now = now()

    @property
    def clock(self) -> Clock:
        async def wait(event: asyncio.Event, seconds: float | None) -> None:
            await event.wait()

        return Clock(now=lambda: self.now, wait=wait)


class DispatcherHarness:
    """A dispatcher with a scripted sender, and owners whose credentials tests revoke."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self.store = store
        self.hub = hub
        self.sender = Scripted(always(OK))
        self.owners: dict[str, Principal | None] = {"ann": READER}
        self.metrics = Metrics()
        self.clock: JumpingClock | SteadyClock = JumpingClock()
        self.pacing = PACING

    def endpoint(self, subscription: Subscription) -> Endpoint:
        if subscription.target == b"sealed":
            raise NoEncryptionKey
        if subscription.target == b"foreign":
            raise OperatorError("none of the encryption keys opens it")
        return msgspec.json.decode(subscription.target, type=Endpoint)

    def secrets(self, subscription: Subscription) -> tuple[bytes, ...]:
        now = self.clock.now
        terms = subscription.secrets
        return tuple(term.sealed for term in terms if term.expires is None or term.expires > now)

    def choose(self, subscription: Subscription, target: Endpoint) -> Sender:
        assert target.url == "http://receiver"
        return self.sender.sender

    async def owner(self, owner: Owner) -> Principal | None:
        return self.owners.get(owner.id)

    async def stacks(self, owner: Principal, project: str | None, name: str) -> list[Stack]:
        return await self.store.catalog.stacks(owner.visibility, project=project, name=name)

    async def deployment(self, owner: Principal, id: str) -> Deployment | None:
        return await self.store.catalog.deployment(id)

    def dispatcher(self) -> Dispatcher:
        parts = DispatcherParts(
            sender=self.choose,
            endpoint=self.endpoint,
            secrets=self.secrets,
            find_owner=self.owner,
            find_stacks=self.stacks,
            find_deployment=self.deployment,
            observer=self.metrics,
            pacing=self.pacing,
            clock=self.clock.clock,
            lease_clock=now,
        )
        return Dispatcher(
            self.store.subscriptions, self.store.deliveries, self.store.log, self.hub, parts
        )

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[Dispatcher]:
        dispatcher = self.dispatcher()
        async with dispatcher.running():
            yield dispatcher

    async def subscribe(self, **fields: object) -> Subscription:
        defaults: dict[str, Any] = {"owner": ANN, "target": TARGET, "filter": RESOURCES}
        new = subscription(**(defaults | fields))
        await self.store.subscriptions.add(new)
        return new


@pytest.fixture
def harness(store: Store, hub: Hub) -> DispatcherHarness:
    return DispatcherHarness(store, hub)


def test_the_subscriptions_of_a_process_that_dies_are_taken_over_within_10_seconds():
    pacing = DEFAULT_PACING

    assert pacing.lease_seconds + pacing.poll_seconds < 10
    assert pacing.poll_seconds < pacing.lease_seconds - pacing.margin_seconds


def test_what_is_in_flight_at_shutdown_ends_before_the_lease():
    pacing = DEFAULT_PACING

    assert pacing.poll_seconds + pacing.grace_seconds < pacing.lease_seconds - 1


async def test_every_subscription_is_delivered(harness: DispatcherHarness, store: Store):
    for _ in range(3):
        await harness.subscribe()
    await store.log.append(new_events(5))

    async with harness.delivering():
        await until(lambda: len(harness.sender.sent) == 15)

    assert harness.metrics.results == ["delivered"] * 15


async def test_a_new_subscription_is_delivered_at_once(harness: DispatcherHarness, store: Store):
    await store.log.append(new_events(1))
    async with harness.delivering() as dispatcher:
        await harness.subscribe()
        dispatcher.refresh()

        await until(lambda: len(harness.sender.sent) == 1)


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_a_stopped_subscription_is_not_delivered(
    harness: DispatcherHarness, store: Store, state: str
):
    await harness.subscribe(state=state)
    other = await harness.subscribe()
    await store.log.append(new_events(1))

    async with harness.delivering():
        await until(lambda: len(harness.sender.sent) == 1)
        await until(lambda: other.id in harness.metrics.lags)

    assert set(harness.metrics.lags) == {other.id}


def has_sent_more_than(harness: DispatcherHarness, number: int) -> bool:
    return len(harness.sender.sent) > number


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_a_successful_test_starts_the_backlog_whichever_process_delivers(
    harness: DispatcherHarness, store: Store, is_elsewhere: bool
):
    sub = await harness.subscribe(order="per_deployment")
    harness.sender.script = always(REFUSED)
    harness.clock = SteadyClock()
    await store.log.append([new_event(scopes=(f"image/{number}",)) for number in range(20)])

    async with harness.delivering() as dispatcher:
        tester = harness.dispatcher() if is_elsewhere else dispatcher
        await until_pending(store, sub, 20)
        harness.sender.script = always(OK)
        await tester.test(sub)
        dispatcher.refresh()

        await until_pending(store, sub, 0)


async def until_pending(store: Store, sub: Subscription, number: int) -> None:
    async def is_so() -> bool:
        return len(await store.deliveries.pending(sub.id)) == number

    await until(is_so)


async def test_a_change_sends_nothing_twice(harness: DispatcherHarness, store: Store):
    sub = await harness.subscribe()
    events = await store.log.append(new_events(100))
    async with harness.delivering() as dispatcher:
        for number in range(5):
            await until(partial(has_sent_more_than, harness, 10 * number))
            found = await store.subscriptions.get(sub.id)
            await store.subscriptions.change(structs.replace(found, name=f"n{number}"))
            dispatcher.refresh()

        await until(lambda: events[-1].position in harness.sender.positions)

    assert harness.sender.positions == [event.position for event in events]


async def test_shutdown_does_not_wait_for_a_store_that_fails(
    harness: DispatcherHarness, store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(*args: object, **how: object) -> frozenset[str]:
        raise StoreUnavailable("the disk is full")

    harness.pacing = structs.replace(PACING, max_unwritten=5, flush_seconds=0.1)
    monkeypatch.setattr(store.deliveries, "record", refuse)
    await harness.subscribe()
    await harness.subscribe()
    await store.log.append(new_events(20))

    async with asyncio.timeout(10), harness.delivering() as dispatcher:
        await until(lambda: len(harness.sender.sent) >= 10)
        head = (await store.log.append(new_events(1)))[0].position
        await until(lambda: harness.hub.head >= head)
        await until(lambda: len(dispatcher._recorder._room._waiters) >= 2)


async def test_an_expired_secret_no_longer_signs(harness: DispatcherHarness, store: Store):
    old = SigningSecret(sealed=b"old", created=0, expires=harness.clock.now + 3600 * SECOND)
    await harness.subscribe(secrets=(SigningSecret(sealed=b"new", created=0), old))
    await store.log.append(new_events(1))
    async with harness.delivering():
        await until(lambda: [each.secrets for each in harness.sender.sent] == [(b"new", b"old")])

        harness.clock.now += 3601 * SECOND
        await until(lambda: bool(harness.metrics.stopped))
        await store.log.append(new_events(1))
        await until(lambda: len(harness.sender.sent) == 2)

    assert harness.sender.sent[-1].secrets == (b"new",)


async def test_a_change_of_the_filter_is_applied(harness: DispatcherHarness, store: Store):
    sub = await harness.subscribe()
    async with harness.delivering():
        await store.log.append(new_events(1))
        await until(lambda: len(harness.sender.sent) == 1)
        builds = Filter(all_of=(any_of("type", ("build.*",)),))
        await store.subscriptions.change(structs.replace(sub, filter=builds))
        await until(lambda: sub.id in harness.metrics.stopped)

        await store.log.append(new_events(1, type="build.added"))
        await until(lambda: len(harness.sender.sent) == 2)


async def test_a_deleted_subscription_is_no_longer_delivered(
    harness: DispatcherHarness, store: Store
):
    sub = await harness.subscribe()
    async with harness.delivering():
        await until(lambda: sub.id in harness.metrics.lags)

        await store.subscriptions.delete(sub.id)

        await until(lambda: sub.id in harness.metrics.stopped)


async def test_revoking_the_owner_disables_a_running_subscription(
    harness: DispatcherHarness, store: Store
):
    sub = await harness.subscribe()
    async with harness.delivering():
        await until(lambda: sub.id in harness.metrics.lags)
        harness.owners.clear()
        await until(lambda: sub.id in harness.metrics.stopped)
        await store.log.append(new_events(1))

    stored = await store.subscriptions.get(sub.id)
    assert (stored.state, stored.reason) == ("disabled", 'owner "Ann" no longer has read access')
    assert harness.sender.sent == []
    assert [each.type for each in await status_events(store)] == ["subscription.disabled"]


async def test_a_subscription_without_an_owner_is_disabled(
    harness: DispatcherHarness, store: Store
):
    harness.owners.clear()
    sub = await harness.subscribe()
    await store.log.append(new_events(1))

    async with harness.delivering():
        await until(lambda: _is_disabled(store, sub))

    assert harness.sender.sent == []


@pytest.mark.parametrize("target", [b"sealed", b"foreign"])
async def test_an_undecryptable_subscription_is_skipped_and_logged_once(
    harness: DispatcherHarness, store: Store, target: bytes, caplog: pytest.LogCaptureFixture
):
    foreign = await harness.subscribe(target=target)
    await harness.subscribe()
    await store.log.append(new_events(2))

    async with harness.delivering() as dispatcher:
        await until(lambda: len(harness.sender.sent) == 2)
        await dispatcher._reconcile()

    stored = await store.subscriptions.get(foreign.id)
    assert (stored.state, stored.checkpoint) == ("active", 0)
    assert caplog.text.count(foreign.id) == 1


async def _is_disabled(store: Store, sub: Subscription) -> bool:
    return (await store.subscriptions.get(sub.id)).state == "disabled"


async def test_the_next_dispatcher_continues_at_once(harness: DispatcherHarness, store: Store):
    await harness.subscribe()
    await store.log.append(new_events(3))
    async with harness.delivering():
        await until(lambda: len(harness.sender.sent) == 3)
    await store.log.append(new_events(1))

    async with harness.delivering():
        await until(lambda: len(harness.sender.sent) == 4)


@pytest.mark.parametrize(("grace_seconds", "times_sent"), [(60.0, 1), (0.0, 2)])
async def test_shutdown_waits_for_a_slow_receiver(
    harness: DispatcherHarness, store: Store, grace_seconds: float, times_sent: int
):
    receiver = SlowReceiver()
    harness.sender = receiver
    harness.pacing = structs.replace(PACING, grace_seconds=grace_seconds)
    sub = await harness.subscribe()
    await store.log.append(new_events(1))

    async with harness.delivering() as dispatcher:
        await receiver.asked.wait()
        worker = dispatcher._workers[sub.id]
        answering = asyncio.create_task(receiver.answer_once(lambda: worker.is_stopping))
    await answering
    async with harness.delivering():
        await until(partial(_is_delivered, store, sub))

    assert receiver.times_asked == times_sent


class SlowReceiver(Scripted):
    """Answers its first request when it is told to, and others at once."""

    def __init__(self) -> None:
        super().__init__(always(OK))
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.times_asked = 0

    async def send(self, batch: OutgoingBatch) -> Outcome:
        self.times_asked += 1
        self.asked.set()
        await self.answers.wait()
        return await super().send(batch)

    async def answer_once(self, condition: Callable[[], bool]) -> None:
        await until(condition)
        self.answers.set()


async def _is_delivered(store: Store, sub: Subscription) -> bool:
    return (await store.subscriptions.get(sub.id)).checkpoint == 1


async def test_nothing_is_sent_while_another_process_holds_the_lease(
    harness: DispatcherHarness, store: Store
):
    sub = await harness.subscribe()
    await store.deliveries.claim("another", now=now(), until=now() + 10**12)
    await store.log.append(new_events(1))

    async with harness.delivering() as dispatcher:
        for _ in range(3):
            await dispatcher._reconcile()
        assert harness.sender.sent == []
        await store.deliveries.release("another")
        await until(lambda: len(harness.sender.sent) == 1)

    assert (await store.subscriptions.get(sub.id)).checkpoint == 1


async def test_a_worker_stops_when_another_process_takes_over(
    harness: DispatcherHarness, store: Store
):
    sub = await harness.subscribe()
    async with harness.delivering():
        await until(lambda: sub.id in harness.metrics.lags)
        later = now() + 10**11
        await store.deliveries.claim("another", now=later, until=later + 10**12)
        await store.log.append(new_events(1))

        await until(lambda: sub.id in harness.metrics.stopped)

    assert await store.deliveries.attempts(sub.id) == []


async def test_an_unexpected_error_does_not_stop_the_dispatcher(
    harness: DispatcherHarness, store: Store, monkeypatch: pytest.MonkeyPatch
):
    await harness.subscribe()
    broken = [True]
    list_ = store.subscriptions.list

    async def breaks() -> list[Subscription]:
        if broken[0]:
            raise RuntimeError("not foreseen")
        return await list_()

    monkeypatch.setattr(store.subscriptions, "list", breaks)
    await store.log.append(new_events(1))

    async with harness.delivering() as dispatcher:
        await until(lambda: not dispatcher._refreshed.is_set())
        broken[0] = False

        await until(lambda: len(harness.sender.sent) == 1)
