"""What every store must do with deliveries: ``Deliveries``, sentence by sentence."""

import asyncio
from itertools import chain

import pytest

from deploylog.events.scope import Scope
from deploylog.store.contract import Store
from deploylog.subscriptions.store import Backlog, DeadLetters, OneEvent
from deploylog.subscriptions.subscription import REDELIVERED, Message, Pending
from support.factories import OpenStoreAgain, attempt, delivery, subscription
from support.holding import LATER, NOW, held


async def test_one_at_a_time_holds_a_subscription(store: Store):
    new = await held(store)

    early = await store.deliveries.claim("other", now=NOW + 1, until=LATER)
    late = await store.deliveries.claim("other", now=LATER, until=LATER + 1)

    assert (early.held, late.held) == ([], [new])


async def test_a_lease_by_a_clock_that_was_set_back_expires(store: Store):
    new = subscription()
    await store.subscriptions.add(new)
    ahead = 2 * 3600 * 10**9
    await store.deliveries.claim("dead", now=ahead, until=ahead + LATER)

    assert (await store.deliveries.claim("me", now=NOW, until=LATER)).held == [new]


async def test_a_holder_renews_its_lease(store: Store):
    new = await held(store)

    mine = await store.deliveries.claim("me", now=NOW, until=LATER + 5)
    others = await store.deliveries.claim("other", now=LATER, until=LATER + 5)

    assert (mine.held, others.held) == ([new], [])


async def test_what_is_released_another_may_hold_at_once(store: Store):
    new = await held(store)

    await store.deliveries.release("me")

    assert (await store.deliveries.claim("other", now=NOW, until=LATER)).held == [new]


async def test_holders_share_what_is_delivered(store: Store):
    added = [await held(store) for _ in range(5)]
    paused = subscription(state="paused")
    await store.subscriptions.add(paused)

    alone = await store.deliveries.claim("me", now=NOW, until=LATER)
    joined = await store.deliveries.claim("other", now=NOW, until=LATER)
    mine = await store.deliveries.claim("me", now=NOW, until=LATER)
    await store.deliveries.release("me", [each.id for each in added[mine.share :]])
    others = await store.deliveries.claim("other", now=NOW, until=LATER)

    assert (alone.held, alone.share) == (added, 5)
    assert joined.held == []
    assert mine.share + joined.share == 5
    assert abs(mine.share - joined.share) == 1
    assert others.held == added[mine.share :]


async def test_what_a_holder_had_is_shared_when_it_is_gone(store: Store):
    added = [await held(store) for _ in range(4)]
    await store.deliveries.claim("other", now=NOW, until=LATER + 5)
    await store.deliveries.claim("another", now=NOW, until=LATER + 5)

    first = await store.deliveries.claim("other", now=LATER, until=LATER + 5)
    second = await store.deliveries.claim("another", now=LATER, until=LATER + 5)

    assert (first.share, second.share) == (2, 2)
    assert [*first.held, *second.held] == added


async def test_who_releases_all_has_no_share(store: Store):
    await held(store)
    await store.deliveries.claim("other", now=NOW, until=LATER)

    await store.deliveries.release("me")

    assert (await store.deliveries.claim("other", now=NOW, until=LATER)).share == 1


@pytest.mark.parametrize(("holder", "time"), [("other", NOW), ("me", LATER)])
async def test_nothing_is_recorded_without_a_lease(store: Store, holder: str, time: int):
    new = await held(store)

    lost = await store.deliveries.record(holder, [delivery(new, attempt(5))], now=time)

    assert lost == {new.id}
    assert await store.deliveries.attempts(new.id) == []
    assert (await store.subscriptions.get(new.id)).checkpoint == 0


async def test_deliveries_with_a_lease_are_recorded_beside_those_without(store: Store):
    mine, gone = await held(store), subscription()

    lost = await store.deliveries.record(
        "me", [delivery(gone, attempt(1)), delivery(mine, attempt(2))], now=NOW
    )

    assert lost == {gone.id}
    assert [each.position for each in await store.deliveries.attempts(mine.id)] == [2]


async def test_attempts_and_checkpoint_are_recorded_together(store: Store):
    new = await held(store)
    tried = attempt(3, status=None, result="failed", error="refused", response="", due=99)

    await store.deliveries.record("me", [delivery(new, attempt(2)), delivery(new, tried)], now=NOW)

    newest, oldest = await store.deliveries.attempts(new.id)
    assert (newest.status, newest.error, newest.due, newest.position) == (None, "refused", 99, 3)
    assert (oldest.result, oldest.response, oldest.event) == ("delivered", "ok", "event-2")
    assert (await store.subscriptions.get(new.id)).checkpoint == 3


async def test_a_checkpoint_never_goes_back(store: Store):
    new = await held(store)
    await store.deliveries.record("me", [delivery(new, attempt(9))], now=NOW)

    await store.deliveries.record("me", [delivery(new, attempt(4))], now=NOW)

    assert (await store.subscriptions.get(new.id)).checkpoint == 9


async def test_attempts_are_paged(store: Store):
    new = await held(store)
    recorded = [delivery(new, *(attempt(position) for position in range(1, 8)))]
    await store.deliveries.record("me", recorded, now=NOW)

    first = await store.deliveries.attempts(new.id, limit=4)
    second = await store.deliveries.attempts(new.id, before=first[-1].number, limit=4)

    assert [each.position for each in [*first, *second]] == [7, 6, 5, 4, 3, 2, 1]


async def test_what_is_pending_stays_until_it_is_settled(store: Store):
    new = await held(store)
    waiting = [Pending(position=p, lane="l", tries=1, first=5, due=50 + p) for p in (1, 2)]
    await store.deliveries.record("me", [delivery(new, pending=tuple(waiting))], now=NOW)
    assert await store.deliveries.pending(new.id) == waiting
    assert await store.deliveries.backlogs(new.id) == {new.id: Backlog(pending=2, due=51)}

    await store.deliveries.record("me", [delivery(new, delivered_positions=(1,))], now=NOW)

    assert await store.deliveries.pending(new.id) == waiting[1:]


async def test_dead_letters_are_listed_and_can_be_redelivered(store: Store):
    new = await held(store)
    dead_lettered = [
        Pending(position=p, lane="", tries=9, first=p * 10, dead_lettered=True, error="no")
        for p in (1, 2, 3)
    ]
    await store.deliveries.record("me", [delivery(new, pending=tuple(dead_lettered))], now=NOW)
    assert await store.deliveries.dead_letters(new.id, limit=2) == dead_lettered[:2]
    assert await store.deliveries.dead_letters(new.id, after=2) == dead_lettered[2:]
    assert await store.deliveries.pending(new.id) == []

    assert await store.deliveries.redeliver(new.id, DeadLetters(20)) == 2

    assert await store.deliveries.pending(new.id) == [
        Pending(position=p, lane=REDELIVERED, error="no") for p in (2, 3)
    ]
    assert await store.deliveries.dead_letters(new.id) == dead_lettered[:1]
    assert (await store.subscriptions.get(new.id)).version == 2


async def test_any_event_can_be_redelivered(store: Store):
    new = await held(store)

    await store.deliveries.redeliver(new.id, OneEvent(5))

    assert await store.deliveries.pending(new.id) == [Pending(position=5, lane=REDELIVERED)]
    assert (await store.subscriptions.get(new.id)).version == 2


async def test_what_is_pending_is_due_at_once_when_the_receiver_is_back(store: Store):
    new, idle = await held(store), await held(store)
    waiting = Pending(position=1, lane="", tries=3, due=NOW + 5)
    given_up = Pending(position=2, lane="", tries=9, due=NOW + 5, dead_lettered=True)
    await store.deliveries.record("me", [delivery(new, pending=(waiting, given_up))], now=NOW)

    await store.deliveries.retry_now(new.id)
    await store.deliveries.retry_now(idle.id)

    [due] = await store.deliveries.pending(new.id)
    assert (due.due, due.tries) == (0, 3)
    assert (await store.subscriptions.get(new.id)).version == 2
    assert (await store.subscriptions.get(idle.id)).version == 1


async def test_a_failing_subscription_starts_again_when_the_receiver_is_back(store: Store):
    new = await held(store)
    await store.deliveries.record("me", [delivery(new, state="failing")], now=NOW)

    await store.deliveries.retry_now(new.id)

    assert (await store.subscriptions.get(new.id)).version == 2


async def test_a_message_is_found_by_its_deployment(open_again: OpenStoreAgain):
    first, edited = (Message(deployment=Scope("d"), channel="C", id=id) for id in ("1", "2"))
    async with open_again() as store:
        new = await held(store)
        await store.deliveries.record("me", [delivery(new, messages=(first,))], now=NOW)
        await store.deliveries.record("me", [delivery(new, messages=(edited,))], now=NOW)

    async with open_again() as store:
        assert await store.deliveries.message(new.id, Scope("d")) == edited
        assert await store.deliveries.message(new.id, Scope("e")) is None


async def test_a_delivery_changes_the_state_but_not_one_that_a_principal_set(store: Store):
    new = await held(store)
    failing = delivery(new, state="failing", reason="refused", failing_since=5)
    await store.deliveries.record("me", [failing], now=NOW)
    found = await store.subscriptions.get(new.id)
    assert (found.state, found.reason, found.failing_since) == ("failing", "refused", 5)

    await store.subscriptions.change(subscription(id=new.id, state="paused"))
    await store.deliveries.record("me", [delivery(new, state="active")], now=NOW)

    assert (await store.subscriptions.get(new.id)).state == "paused"


async def test_attempts_are_deleted_by_age(store: Store):
    new = await held(store)
    old, young = (attempt(p, started=p) for p in (10, 20))
    await store.deliveries.record("me", [delivery(new, old, young)], now=NOW)

    assert await store.deliveries.delete_before(20) == 1
    assert [each.position for each in await store.deliveries.attempts(new.id)] == [20]
    assert await store.deliveries.delete_before(100) == 1


async def test_of_holders_that_claim_at_once_one_holds(open_again: OpenStoreAgain, store: Store):
    added = [subscription() for _ in range(20)]
    for each in added:
        await store.subscriptions.add(each)

    async def claim(holder: str) -> list[str]:
        async with open_again() as mine:
            claimed = await mine.deliveries.claim(holder, now=NOW, until=LATER)
            return [each.id for each in claimed.held]

    claimed = await asyncio.gather(*(claim(f"holder-{number}") for number in range(4)))

    assert sorted(chain.from_iterable(claimed)) == sorted(each.id for each in added)


async def test_backlogs_are_counted_by_subscription_without_empty_ones(store: Store):
    first, second, _ = [await held(store) for _ in range(3)]
    waiting = Pending(position=1, lane="l", tries=1, first=5, due=50)
    dead = Pending(position=2, lane="l", tries=9, first=5, dead_lettered=True)
    await store.deliveries.record(
        "me", [delivery(first, pending=(waiting, dead)), delivery(second, pending=(dead,))], now=NOW
    )

    everything = await store.deliveries.backlogs()

    assert everything == {
        first.id: Backlog(pending=1, dead_lettered=1, due=50),
        second.id: Backlog(dead_lettered=1),
    }
    assert await store.deliveries.backlogs(second.id) == {second.id: Backlog(dead_lettered=1)}


async def test_what_was_sent_of_events_is_summed_up_by_subscription(store: Store):
    first, second, third = [await held(store) for _ in range(3)]
    failed = attempt(1, started=10, result="failed", error="500", status=500)
    reports = [
        delivery(first, failed),
        delivery(second, attempt(1, started=20)),
        delivery(first, attempt(1, started=30), attempt(2, started=31)),
        delivery(third, attempt(3, started=40)),
    ]
    await store.deliveries.record("me", reports, now=NOW)

    summaries = await store.deliveries.summaries([1, 2])

    assert [(each.subscription, each.events, each.delivered) for each in summaries] == [
        (first.id, 2, 2),
        (second.id, 1, 1),
    ]
    assert [(each.first, each.last, each.result) for each in summaries] == [
        (10, 31, "delivered"),
        (20, 20, "delivered"),
    ]
    assert await store.deliveries.summaries([]) == []
