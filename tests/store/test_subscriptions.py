"""What every store must do with subscriptions: ``Subscriptions``, sentence by sentence."""

import msgspec
import pytest

from deploylog.errors import Conflict, SubscriptionNotFound
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope
from deploylog.store.contract import Store
from deploylog.subscriptions.places import Places
from deploylog.subscriptions.store import OneEvent
from deploylog.subscriptions.subscription import Message, Owner, Pending, SigningSecret
from support.factories import OpenStoreAgain, attempt, delivery, subscription
from support.holding import NOW, held

FILTER = Filter(all_of=(any_of("type", ("resource.*", "build.added")),), scopes=(Scope("a/b"),))


SECRETS = (
    SigningSecret(sealed=b"\x00\xffnew", created=2),
    SigningSecret(sealed=b"o", created=1, expires=9),
)


async def test_a_subscription_is_stored_as_it_is(open_again: OpenStoreAgain):
    places = Places(
        project="acme",
        stacks=("web",),
        environments=("prod", "dev"),
        versions=("1.4",),
        commits=("4f2a",),
        labels=(("team", "web"),),
    )
    new = subscription(filter=FILTER, places=places, secrets=SECRETS, reason="why", failing_since=3)
    async with open_again() as store:
        await store.subscriptions.add(new)

    async with open_again() as store:
        stored = await store.subscriptions.get(new.id)

    assert stored == new


async def test_subscriptions_are_listed_oldest_first(store: Store):
    added = [subscription(name=str(number)) for number in range(3)]
    for each in added:
        await store.subscriptions.add(each)

    assert await store.subscriptions.list() == added


async def test_an_id_is_used_once(store: Store):
    await store.subscriptions.add(new := subscription())

    with pytest.raises(Conflict):
        await store.subscriptions.add(new)


async def test_a_name_is_unique_for_an_owner(store: Store):
    bob = Owner(kind="key", id="b", name="b")
    await store.subscriptions.add(subscription(name="ops"))
    await store.subscriptions.add(subscription(name="ops", owner=bob))
    await store.subscriptions.add(subscription(name="ops", collection="c"))
    await store.subscriptions.add(other := subscription(name="other"))

    for use in (
        store.subscriptions.add(subscription(name="ops")),
        store.subscriptions.change(msgspec.structs.replace(other, name="ops")),
    ):
        with pytest.raises(Conflict, match="you have a subscription 'ops' already"):
            await use

    assert len(await store.subscriptions.list()) == 4


async def test_an_unknown_subscription_is_not_found(store: Store):
    for use in (
        store.subscriptions.get("x"),
        store.subscriptions.delete("x"),
        store.subscriptions.change(subscription()),
        store.deliveries.redeliver("x", OneEvent(1)),
    ):
        with pytest.raises(SubscriptionNotFound):
            await use


async def test_a_change_raises_the_version_and_leaves_the_checkpoint(store: Store):
    new = await held(store)
    await store.deliveries.record("me", [delivery(new, attempt(7))], now=NOW)

    changed = await store.subscriptions.change(
        subscription(id=new.id, name="renamed", state="paused")
    )

    assert (changed.name, changed.state, changed.version) == ("renamed", "paused", 2)
    assert changed.checkpoint == 7
    assert await store.subscriptions.get(new.id) == changed


async def test_a_change_of_an_older_version_is_refused(store: Store):
    await store.subscriptions.add(new := subscription())
    await store.subscriptions.change(new)

    with pytest.raises(Conflict):
        await store.subscriptions.change(new)


async def test_a_collection_is_replaced_whole(store: Store):
    stored, gone, other = (subscription(collection=name) for name in ("c", "c", "d"))
    for each in (stored, gone, other):
        await store.subscriptions.add(each)
    changed = subscription(collection="c", id=stored.id, created=stored.created, name="new")
    added = subscription(collection="c")

    await store.subscriptions.replace("c", [changed, added])

    names = {each.id: (each.name, each.version) for each in await store.subscriptions.list()}
    assert names == {
        stored.id: ("new", 2), other.id: (other.name, 1), added.id: (added.name, 1)
    }  # fmt: skip


async def test_an_unchanged_subscription_of_a_collection_stays_as_it_is(store: Store):
    await store.subscriptions.add(stored := subscription(collection="c"))

    await store.subscriptions.replace("c", [stored])

    assert await store.subscriptions.get(stored.id) == stored


async def test_a_collection_cannot_take_anothers_id_and_then_nothing_is_replaced(store: Store):
    await store.subscriptions.add(mine := subscription(collection="c"))
    await store.subscriptions.add(other := subscription(collection="d"))

    with pytest.raises(Conflict):
        await store.subscriptions.replace("c", [subscription(id=other.id, collection="c")])

    assert {each.id for each in await store.subscriptions.list()} == {mine.id, other.id}


async def test_a_deleted_subscription_takes_its_deliveries_along(store: Store):
    new = await held(store)
    message = Message(deployment=Scope("d"), channel="C", id="1.2")
    recorded = delivery(
        new, attempt(1), pending=(Pending(position=1, lane=""),), messages=(message,)
    )
    await store.deliveries.record("me", [recorded], now=NOW)

    await store.subscriptions.delete(new.id)

    assert await store.deliveries.attempts(new.id) == []
    assert await store.deliveries.pending(new.id) == []
    assert await store.deliveries.message(new.id, Scope("d")) is None
