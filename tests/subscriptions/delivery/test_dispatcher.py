"""The dispatcher: who delivers what, for how long, and on whose behalf."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from deploylog.errors import NoEncryptionKey, OperatorError, StoreUnavailable
from deploylog.events.access import Grant, Principal
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Hub
from deploylog.events.scope import ROOT
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery import dispatcher as module
from deploylog.subscriptions.delivery import recorder as ledger
from deploylog.subscriptions.delivery.dispatcher import Dispatcher, DispatcherParts
from deploylog.subscriptions.subscription import (
    Endpoint,
    Owner,
    Result,
    SigningSecret,
    Subscription,
)
from support.couriers import OK, JumpingClock, Scripted, always
from support.factories import new_events, now, subscription
from support.waiting import until

TARGET = msgspec.json.encode(Endpoint(url="http://receiver"))
ANN = Owner(kind="key", id="ann", name="Ann")
READER = Principal(name="Ann", id="ann", kind="key", grants=(Grant("read", ROOT),), groups=None)
RESOURCES = Filter(all_of=(any_of("type", ("resource.*",)),))


class Seen:
    """What is told of how it goes."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.lags: dict[str, int] = {}
        self.gone: list[str] = []

    def attempted(self, result: Result, number: int) -> None:
        self.results += [result] * number

    def delivering(self, subscription: str, *, lag: int, dead_lettered: int) -> None:
        self.lags[subscription] = lag

    def delivery_stopped(self, subscription: str) -> None:
        self.gone.append(subscription)


class World:
    """A dispatcher's surroundings."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self.store = store
        self.hub = hub
        self.sender = Scripted(always(OK))
        self.owners: dict[str, Principal | None] = {"ann": READER}
        self.seen = Seen()
        self.clock = JumpingClock()

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

    def choose(self, subscription: Subscription, target: Endpoint) -> Scripted:
        assert target.url == "http://receiver"
        return self.sender

    async def owner(self, owner: Owner) -> Principal | None:
        return self.owners.get(owner.id)

    def dispatcher(self) -> Dispatcher:
        parts = DispatcherParts(
            sender=self.choose,
            endpoint=self.endpoint,
            secrets=self.secrets,
            find_owner=self.owner,
            observer=self.seen,
            clock=self.clock.timing,
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
        begun: dict[str, object] = {"owner": ANN, "target": TARGET, "filter": RESOURCES}
        new = subscription(**(begun | fields))
        await self.store.subscriptions.add(new)
        return new


@pytest.fixture
def world(store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "OWNER_SECONDS", 0.02)
    return World(store, hub)


async def told(store: Store) -> list[tuple[str, str | None]]:
    query = Query(filter=Filter(all_of=(any_of("type", ("subscription.*",)),)), order="oldest")
    return [(event.type, event.message) for event in await store.log.read(query)]


async def test_every_subscription_is_delivered(world: World, store: Store):
    for _ in range(3):
        await world.subscribe()
    await store.log.append(new_events(5))

    async with world.delivering():
        await until(lambda: len(world.sender.sent) == 15)

    assert world.seen.results == ["delivered"] * 15


async def test_one_that_is_added_is_delivered_at_once(world: World, store: Store):
    await store.log.append(new_events(1))
    async with world.delivering() as dispatcher:
        await world.subscribe()
        dispatcher.refresh()

        await until(lambda: len(world.sender.sent) == 1)


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_one_that_is_paused_is_not_delivered(world: World, store: Store, state: str):
    await world.subscribe(state=state)
    other = await world.subscribe()
    await store.log.append(new_events(1))

    async with world.delivering():
        await until(lambda: len(world.sender.sent) == 1)
        await until(lambda: other.id in world.seen.lags)

    assert set(world.seen.lags) == {other.id}


async def test_a_change_sends_nothing_a_second_time(world: World, store: Store):
    sub = await world.subscribe()
    events = await store.log.append(new_events(100))
    async with world.delivering() as dispatcher:
        for number in range(5):
            await until(lambda least=10 * number: len(world.sender.sent) > least)
            found = await store.subscriptions.get(sub.id)
            await store.subscriptions.change(msgspec.structs.replace(found, name=f"n{number}"))
            dispatcher.refresh()

        await until(lambda: events[-1].position in world.sender.positions)

    assert world.sender.positions == [event.position for event in events]


async def test_the_end_does_not_wait_for_a_store_that_takes_no_reports(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(*args: object, **how: object) -> frozenset[str]:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(ledger, "MOST_UNWRITTEN", 5)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(store.deliveries, "record", refuse)
    await world.subscribe()
    await world.subscribe()
    await store.log.append(new_events(20))

    async with asyncio.timeout(10), world.delivering():
        await until(lambda: len(world.sender.sent) >= 10)
        head = (await store.log.append(new_events(1)))[0].position
        await until(lambda: world.hub.head >= head)
        await asyncio.sleep(0.05)  # The couriers look, and find no room.


async def test_a_secret_that_is_replaced_signs_no_longer_than_it_should(world: World, store: Store):
    old = SigningSecret(sealed=b"old", created=0, expires=world.clock.now + 3600 * SECOND)
    await world.subscribe(secrets=(SigningSecret(sealed=b"new", created=0), old))
    await store.log.append(new_events(1))
    async with world.delivering():
        await until(lambda: world.sender.signed == [(b"new", b"old")])

        world.clock.now += 3601 * SECOND
        await until(lambda: bool(world.seen.gone))
        await store.log.append(new_events(1))
        await until(lambda: len(world.sender.signed) == 2)

    assert world.sender.signed[-1] == (b"new",)


async def test_a_change_is_heeded(world: World, store: Store):
    sub = await world.subscribe()
    async with world.delivering():
        await store.log.append(new_events(1))
        await until(lambda: len(world.sender.sent) == 1)
        builds = Filter(all_of=(any_of("type", ("build.*",)),))
        await store.subscriptions.change(msgspec.structs.replace(sub, filter=builds))
        await until(lambda: sub.id in world.seen.gone)

        await store.log.append(new_events(1, type="build.added"))
        await until(lambda: len(world.sender.sent) == 2)


async def test_one_that_is_deleted_is_delivered_no_more(world: World, store: Store):
    sub = await world.subscribe()
    async with world.delivering():
        await until(lambda: sub.id in world.seen.lags)

        await store.subscriptions.delete(sub.id)

        await until(lambda: sub.id in world.seen.gone)


async def test_who_may_not_read_any_more_is_told_nothing_more(world: World, store: Store):
    sub = await world.subscribe()
    async with world.delivering():
        await until(lambda: sub.id in world.seen.lags)
        world.owners.clear()
        await until(lambda: sub.id in world.seen.gone)
        await store.log.append(new_events(1))

    kept = await store.subscriptions.get(sub.id)
    assert (kept.state, kept.reason) == ("disabled", "its owner, Ann, may not read any more")
    assert world.sender.sent == []
    assert [type for type, _ in await told(store)] == ["subscription.disabled"]


async def test_one_whose_owner_is_gone_already_is_disabled(world: World, store: Store):
    world.owners.clear()
    sub = await world.subscribe()
    await store.log.append(new_events(1))

    async with world.delivering():
        await until(lambda: _is_disabled(store, sub))

    assert world.sender.sent == []


@pytest.mark.parametrize("target", [b"sealed", b"foreign"])
async def test_one_that_cannot_be_opened_here_is_left_alone_and_said_once(
    world: World, store: Store, target: bytes, caplog: pytest.LogCaptureFixture
):
    left = await world.subscribe(target=target)
    await world.subscribe()
    await store.log.append(new_events(2))

    async with world.delivering() as dispatcher:
        await until(lambda: len(world.sender.sent) == 2)
        await dispatcher._round()

    kept = await store.subscriptions.get(left.id)
    assert (kept.state, kept.checkpoint) == ("active", 0)
    assert caplog.text.count(left.id) == 1


async def _is_disabled(store: Store, sub: Subscription) -> bool:
    return (await store.subscriptions.get(sub.id)).state == "disabled"


async def test_who_comes_after_goes_on_at_once(world: World, store: Store):
    await world.subscribe()
    await store.log.append(new_events(3))
    async with world.delivering():
        await until(lambda: len(world.sender.sent) == 3)
    await store.log.append(new_events(1))

    async with world.delivering():
        await until(lambda: len(world.sender.sent) == 4)


async def test_nothing_is_sent_while_another_holds(world: World, store: Store):
    sub = await world.subscribe()
    await store.deliveries.claim("another", now=now(), until=now() + 10**12)
    await store.log.append(new_events(1))

    async with world.delivering() as dispatcher:
        for _ in range(3):
            await dispatcher._round()
        assert world.sender.sent == []
        await store.deliveries.release("another")
        await until(lambda: len(world.sender.sent) == 1)

    assert (await store.subscriptions.get(sub.id)).checkpoint == 1


async def test_who_was_overtaken_stops(world: World, store: Store):
    sub = await world.subscribe()
    async with world.delivering():
        await until(lambda: sub.id in world.seen.lags)
        later = now() + 10**11
        await store.deliveries.claim("another", now=later, until=later + 10**12)
        await store.log.append(new_events(1))

        await until(lambda: sub.id in world.seen.gone)

    assert await store.deliveries.attempts(sub.id) == []


async def test_an_error_of_the_program_ends_no_other_delivery(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
):
    await world.subscribe()
    broken = [True]
    list_ = store.subscriptions.list

    async def breaks() -> list[Subscription]:
        if broken[0]:
            raise RuntimeError("not foreseen")
        return await list_()

    monkeypatch.setattr(store.subscriptions, "list", breaks)
    await store.log.append(new_events(1))

    async with world.delivering() as dispatcher:
        await until(lambda: not dispatcher._refreshed.is_set())
        broken[0] = False

        await until(lambda: len(world.sender.sent) == 1)
