"""Couriers: what is sent, when, how often, and what is written down of it."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from deploylog.events.access import Visibility
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Hub
from deploylog.events.scope import ROOT, Scope
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.sender import Context
from deploylog.subscriptions.store import OneEvent
from deploylog.subscriptions.subscription import REDELIVERED, Owner
from support.backends import Damage
from support.couriers import (
    GONE,
    OK,
    PARK,
    REFUSED,
    JumpingClock,
    Office,
    Scripted,
    always,
    fails,
    refuses,
)
from support.factories import new_event, new_events, subscription
from support.waiting import until

RESOURCES = Filter(all_of=(any_of("type", ("resource.*",)),))
NOTICES = Filter(all_of=(any_of("type", ("subscription.*",)),))
ONE = "project/acme/stack/s/deployment/1"
TWO = "project/acme/stack/s/deployment/2"


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def office(store: Store, hub: Hub, clock: JumpingClock) -> Office:
    return Office(store, hub, clock)


async def told(store: Store, *types: str) -> list[str]:
    """What the log says of subscriptions, oldest first."""
    query = Query(filter=Filter(all_of=(any_of("type", ("subscription.*",)),)), order="oldest")
    return [event.type.partition(".")[2] for event in await store.log.read(query)]


async def test_a_receiver_that_is_down_does_not_hold_the_room_of_its_owners_streams(
    store: Store, clock: JumpingClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.subscriptions.delivery.lanes.MOST_BYTES", 100_000)
    hub = Hub(store.log, memory=2 * 1024 * 1024)
    office = Office(store, hub, clock)
    sub = await office.hold(subscription(filter=RESOURCES))
    await store.log.append(new_events(3, message="x" * 200_000))
    sender = Scripted(always(REFUSED))

    async with hub.following(heartbeat=60), office.out(office.courier(sub, sender)):
        await until(lambda: sender.sent)

        assert hub.sending.held == 0


async def test_events_are_delivered_in_order_and_written_down(office: Office, store: Store):
    sub = await office.hold(subscription())
    events = await store.log.append(new_events(30))
    sender = Scripted(always(OK))

    await office.deliver(sub, sender, until_sent=30)

    assert sender.positions == [event.position for event in events]
    attempts = await store.deliveries.attempts(sub.id)
    assert [each.event for each in reversed(attempts)] == [event.id for event in events]
    assert {each.result for each in attempts} == {"delivered"}
    assert (await store.subscriptions.get(sub.id)).checkpoint == events[-1].position


async def test_what_is_recorded_later_is_delivered_too(office: Office, store: Store):
    sub = await office.hold(subscription())
    sender = Scripted(always(OK))

    async with office.out(office.courier(sub, sender)):
        await store.log.append(new_events(2))
        await until(lambda: len(sender.sent) == 2)
        await store.log.append(new_events(1))
        await until(lambda: len(sender.sent) == 3)


async def test_only_what_is_asked_for_and_may_be_seen_is_delivered(office: Office, store: Store):
    wanted = Filter(all_of=(any_of("type", ("build.*",)),), scopes=(Scope("a"), Scope("b")))
    sub = await office.hold(subscription(filter=wanted))
    visible = Visibility(scopes=(Scope("a"), Scope("c")), groups=frozenset({"g"}))
    events = await store.log.append(
        [
            new_event("build.added", scopes=("a/1",)),
            new_event("build.added", scopes=("b",)),
            new_event("other", scopes=("a",)),
            new_event("build.added", scopes=("a",), groups=("h",)),
            new_event("build.added", scopes=("a",), groups=("g",)),
            new_event("build.added", scopes=("c",)),
        ]
    )
    sender = Scripted(always(OK))

    await office.deliver(sub, sender, until_sent=2, visibility=visible)

    assert sender.positions == [events[0].position, events[4].position]


async def test_another_courier_goes_on_where_one_left_off(office: Office, store: Store):
    sub = await office.hold(subscription())
    await store.log.append(new_events(5))
    await office.deliver(sub, Scripted(always(OK)), until_sent=5)
    more = await store.log.append(new_events(2))
    again = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), again, until_sent=2)

    assert again.positions == [event.position for event in more]


async def test_what_fails_is_tried_by_the_schedule_and_the_rest_waits(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription())
    first, second = await store.log.append(new_events(2))
    sender = Scripted(fails(3))

    await office.deliver(sub, sender, until_sent=5)

    assert sender.positions == [first.position] * 4 + [second.position]
    assert clock.passed == pytest.approx(5 + 15 + 60, rel=0.01)
    attempts = await store.deliveries.attempts(sub.id)
    assert [each.result for each in reversed(attempts)] == ["failed"] * 3 + ["delivered"] * 2
    assert attempts[-1].error == "refused"
    assert attempts[-1].due is not None
    assert await store.deliveries.pending(sub.id) == []


async def test_what_a_receiver_asks_for_makes_a_wait_longer(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription())
    await store.log.append(new_events(1))
    busy = Outcome(result="retry", answer=Response(status=429, retry_after=120.0), error="429")

    await office.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 120 <= clock.passed <= 120 * 1.2 + 1


async def test_what_is_pending_is_not_sent_to_an_owner_who_may_not_see_it(
    office: Office, store: Store
):
    sub = await office.hold(subscription())
    [hidden] = await store.log.append([new_event(groups=("ops",))])
    await office.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    [shown] = await store.log.append([new_event()])
    sender = Scripted(always(OK))
    sub = await store.subscriptions.get(sub.id)

    nobody = Visibility(scopes=(ROOT,), groups=frozenset())
    await office.deliver(sub, sender, until_sent=1, visibility=nobody)

    assert sender.positions == [shown.position]
    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (
        hidden.position,
        "its owner may not see it",
    )


async def test_an_error_of_the_program_ends_the_courier_so_that_another_can_come(
    office: Office, store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def break_down(query: Query) -> list[Event]:
        raise RuntimeError("not foreseen")

    sub = await office.hold(subscription())
    await store.log.append(new_events(1))
    courier = office.courier(sub, Scripted(always(OK)))

    async with office.out(courier):
        monkeypatch.setattr(courier, "_look_back", break_down)
        await until(lambda: courier.is_stopping)


async def test_what_a_receiver_asks_for_makes_no_wait_shorter(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription())
    await store.log.append(new_events(1))
    eager = Outcome(result="retry", answer=Response(status=503, retry_after=0.5), error="503")

    await office.deliver(sub, Scripted(fails(3, eager)), until_sent=4)

    assert clock.passed == pytest.approx(5 + 15 + 60, rel=0.01)


async def test_slack_is_tried_again_when_it_says(office: Office, store: Store, clock: JumpingClock):
    sub = await office.hold(subscription(kind="slack"))
    await store.log.append(new_events(1))
    busy = Outcome(result="retry", answer=Response(status=429, retry_after=1.0), error="429")

    await office.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 1 <= clock.passed <= 1.3


async def test_what_a_receiver_asks_for_counts_while_it_fails_too(
    office: Office, store: Store, clock: JumpingClock
):
    since = clock.now - 2 * 3600 * SECOND
    sub = await office.hold(subscription(state="failing", failing_since=since))
    await store.log.append(new_events(1))
    busy = Outcome(result="retry", answer=Response(status=503, retry_after=3600.0), error="503")

    await office.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 3600 <= clock.passed <= 3600 * 1.2 + 1


async def test_a_day_later_an_event_is_parked_and_the_next_is_tried(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription(filter=RESOURCES))
    bad, good = await store.log.append(new_events(2))
    sender = Scripted(refuses([bad.position]))
    courier = office.courier(sub, sender)

    async with office.out(courier):
        await until(lambda: good.position in sender.positions)

    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (bad.position, "refused")
    assert 86_400 <= clock.passed <= 86_400 + 3600
    assert sender.positions.count(good.position) == 1
    assert (await store.deliveries.attempts(sub.id))[1].result == "dead_lettered"


async def test_what_fails_for_an_hour_is_told_and_so_is_what_heals(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription(filter=Filter(scopes=(Scope("project/acme"),))))
    await store.log.append(new_events(1))

    await office.deliver(sub, Scripted(always(REFUSED)), until_sent=12)
    ill = await store.subscriptions.get(sub.id)
    await office.deliver(ill, Scripted(always(OK)), until_sent=1)

    well = await store.subscriptions.get(sub.id)
    assert (ill.state, ill.reason, ill.failing_since) == ("failing", "refused", clock.begun)
    assert (well.state, well.reason, well.failing_since) == ("active", None, None)
    assert await told(store) == ["failing", "resumed"]
    [said] = await store.log.read(
        Query(filter=Filter(all_of=(any_of("type", ("subscription.failing",)),)))
    )
    assert said.scopes == (f"subscription/{sub.id}", "project/acme")


async def test_while_failing_one_event_at_a_time_is_tried(
    office: Office, store: Store, clock: JumpingClock
):
    ill = {"state": "failing", "failing_since": clock.now}
    sub = await office.hold(subscription(order="per_deployment", filter=RESOURCES, **ill))
    await store.log.append([new_event(scopes=(f"image/{number}",)) for number in range(50)])
    sender = Scripted(fails(3))

    await office.deliver(sub, sender, until_sent=53)

    times = [context.now for _, context in sender.sent]
    waits = [(later - earlier) / 1e9 for earlier, later in pairwise(times[:4])]
    assert waits == [pytest.approx(900, rel=0.01)] * 3
    assert times[3:] == [pytest.approx(times[3], abs=1e9)] * 50


async def test_a_lane_that_fails_holds_nobody_else_up(office: Office, store: Store):
    sub = await office.hold(subscription(order="per_deployment"))
    bad = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    good = await store.log.append([new_event(scopes=(TWO,)) for _ in range(3)])
    sender = Scripted(refuses([bad[0].position]))

    async with office.out(office.courier(sub, sender)):
        await until(lambda: good[-1].position in sender.positions)

    others = [position for position in sender.positions if position != bad[0].position]
    assert others == [event.position for event in good]
    assert (await store.subscriptions.get(sub.id)).checkpoint == good[-1].position
    kept = {each.position for each in await store.deliveries.pending(sub.id)}
    assert kept >= {event.position for event in bad}


async def test_a_lane_goes_on_without_what_holds_it_up_for_long(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription(order="per_deployment"))
    bad, *rest = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    sender = Scripted(refuses([bad.position]))

    async with office.out(office.courier(sub, sender)):
        await until(lambda: rest[-1].position in sender.positions)
        passed = clock.passed

    others = [position for position in sender.positions if position != bad.position]
    assert others == [event.position for event in rest]
    assert 900 <= passed <= 2000


async def test_what_is_pending_is_taken_up_after_a_restart(office: Office, store: Store):
    sub = await office.hold(subscription(order="per_deployment"))
    events = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    await office.deliver(sub, Scripted(refuses([events[0].position])), until_sent=1)
    again = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), again, until_sent=3)

    assert again.positions == [event.position for event in events]
    assert await store.deliveries.pending(sub.id) == []


async def test_what_is_no_longer_retained_is_parked_and_said(office: Office, store: Store):
    sub = await office.hold(subscription())
    await store.log.append(new_events(3))
    await office.deliver(sub, Scripted(fails(1)), until_sent=1)
    await store.log.prune(2**62)
    kept = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    positions, context = sender.sent[0]
    assert positions == (kept[0].position,)
    assert context.gap == (1, 3)
    assert [each.error for each in await store.deliveries.dead_letters(sub.id)] == [
        "it is no longer retained"
    ]
    assert await told(store) == ["gap"]


async def test_a_receiver_that_wants_no_more_gets_no_more(office: Office, store: Store):
    sub = await office.hold(subscription())
    await store.log.append(new_events(3))
    sender = Scripted(always(GONE))
    courier = office.courier(sub, sender)

    async with office.out(courier):
        await until(lambda: courier.is_stopping)

    assert len(sender.sent) == 1
    kept = await store.subscriptions.get(sub.id)
    assert (kept.state, kept.reason) == ("disabled", "410 Gone")
    assert await told(store) == ["disabled"]
    [waiting] = await store.deliveries.pending(sub.id)
    assert waiting.due == 0


async def test_what_is_never_taken_is_parked_at_once(office: Office, store: Store):
    sub = await office.hold(subscription())
    bad, good = await store.log.append(new_events(2))

    await office.deliver(sub, Scripted(refuses([bad.position], PARK)), until_sent=2)

    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.tries) == (bad.position, 1)
    assert (await store.subscriptions.get(sub.id)).checkpoint == good.position


async def test_what_somebody_asks_for_again_is_sent_beside_the_rest(office: Office, store: Store):
    sub = await office.hold(subscription())
    events = await store.log.append(new_events(2))
    await office.deliver(sub, Scripted(always(OK)), until_sent=2)
    await store.deliveries.redeliver(sub.id, OneEvent(events[0].position))
    again = Scripted(always(OK))
    assert (await store.deliveries.pending(sub.id))[0].lane == REDELIVERED

    await office.deliver(await store.subscriptions.get(sub.id), again, until_sent=1)

    assert again.positions == [events[0].position]
    assert await store.deliveries.pending(sub.id) == []


async def test_many_events_may_go_in_one_request(office: Office, store: Store):
    sub = await office.hold(subscription())
    await store.log.append(new_events(10))
    sender = Scripted(always(OK), fold=500)

    await office.deliver(sub, sender, until_sent=1)

    assert len(sender.sent) < 10
    assert sender.positions == list(range(1, 11))
    assert len(await store.deliveries.attempts(sub.id)) == 10


async def test_each_request_knows_the_event_before_it(office: Office, store: Store):
    asked = Filter(all_of=(any_of("type", ("wanted",)),))
    sub = await office.hold(subscription(filter=asked))
    first = (await store.log.append([new_event("wanted"), new_event("other")]))[0]
    [second] = await store.log.append([new_event("wanted")])
    sender = Scripted(always(OK))

    await office.deliver(sub, sender, until_sent=2)

    before, after = (context for _, context in sender.sent)
    assert (before.previous, before.previous_position) == (None, None)
    assert (after.previous, after.previous_position) == (first.id, first.position)
    assert second.position == 3


async def test_the_event_before_is_one_of_the_same_lane(office: Office, store: Store):
    sub = await office.hold(subscription(order="per_deployment"))
    await store.log.append([new_event(scopes=("project/acme",)), new_event(scopes=(ONE,))])
    await office.deliver(sub, Scripted(always(OK)), until_sent=2)
    await store.log.append([new_event(scopes=("project/acme",))])
    sender = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    [(_, context)] = sender.sent
    assert context.previous_position == 1


async def test_the_event_before_is_known_after_a_restart_too(office: Office, store: Store):
    sub = await office.hold(subscription())
    [first] = await store.log.append(new_events(1))
    await office.deliver(sub, Scripted(always(OK)), until_sent=1)
    await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    [(_, context)] = sender.sent
    assert context.previous == first.id


async def test_nothing_is_sent_while_another_process_may_send(office: Office, store: Store):
    sub = await office.hold(subscription())
    await store.log.append(new_events(1))
    sender, held = Scripted(always(OK)), [False]
    courier = office.courier(sub, sender, may_send=lambda: held[0])

    async with office.out(courier):
        await until(lambda: office.clock.passed > 60)
        assert sender.sent == []
        held[0] = True
        await until(lambda: len(sender.sent) == 1)


async def test_what_another_process_holds_is_not_written(office: Office, store: Store):
    sub = subscription()
    await store.subscriptions.add(sub)
    await store.log.append(new_events(1))

    await office.deliver(sub, Scripted(always(OK)), until_sent=1)

    assert office.lost == [sub.id]
    assert await store.deliveries.attempts(sub.id) == []


async def test_an_event_that_cannot_be_sent_holds_up_only_itself(office: Office, store: Store):
    sub = await office.hold(subscription(order="per_deployment"))
    bad, good = await store.log.append(
        [new_event(scopes=("image/1",)), new_event(scopes=("image/2",))]
    )

    def breaks(events: Sequence[Event], context: Context) -> Outcome:
        if events[0].position == bad.position:
            raise RuntimeError("a bug")
        return OK

    sender = Scripted(breaks)
    async with office.out(office.courier(sub, sender)):
        await until(lambda: sender.positions == [good.position])
        await office.ledger.flush()

    [pending] = await store.deliveries.pending(sub.id)
    assert (pending.position, pending.error) == (bad.position, "an unexpected error occurred")


async def test_what_concerns_nobody_moves_the_checkpoint_too(store: Store, clock: JumpingClock):
    hub = Hub(store.log)
    async with hub.following(heartbeat=0.05):
        office = Office(store, hub, clock)
        sub = await office.hold(subscription(filter=Filter(all_of=(any_of("type", ("x",)),))))
        await store.log.append(new_events(7))
        courier = office.courier(sub, Scripted(always(OK)))

        async with office.out(courier):
            await until(lambda: courier.checkpoint == 7)

    assert (await store.subscriptions.get(sub.id)).checkpoint == 7


async def test_a_gap_is_told_after_a_restart_too(office: Office, store: Store):
    sub = await office.hold(subscription(filter=RESOURCES))
    await store.log.append(new_events(3))
    await store.log.prune(2**62)
    courier = office.courier(sub, Scripted(always(OK)))
    async with office.out(courier):
        await until(lambda: told(store))
    [kept] = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    [(positions, context)] = sender.sent
    assert positions == (kept.position,)
    assert context.gap == (0, 3)


async def test_a_damaged_event_is_stepped_over_and_recorded_as_a_gap(
    office: Office, store: Store, damage: Damage
):
    sub = await office.hold(subscription(filter=RESOURCES))
    events = await store.log.append(new_events(4))
    damage(2, 3)
    sender = Scripted(always(OK))

    await office.deliver(sub, sender, until_sent=2)

    assert sender.positions == [events[0].position, events[3].position]
    assert [context.gap for _, context in sender.sent] == [None, (1, 3)]
    [said] = await store.log.read(Query(filter=NOTICES))
    assert said.type == "subscription.gap"
    assert "events up to position 3 are damaged" in (said.message or "")


async def test_what_was_pending_and_is_damaged_is_given_up(
    office: Office, store: Store, damage: Damage
):
    sub = await office.hold(subscription(filter=RESOURCES))
    [event] = await store.log.append(new_events(1))
    await office.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    damage(1, reason="checksum")
    [kept] = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    assert sender.positions == [kept.position]
    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (
        event.position,
        "The event is damaged: the store does not hold what was recorded.",
    )


async def test_a_pause_does_not_count_towards_the_day(
    office: Office, store: Store, clock: JumpingClock
):
    sub = await office.hold(subscription(filter=RESOURCES))
    [event] = await store.log.append(new_events(1))
    await office.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    clock.now += 2 * 86_400 * SECOND
    sender = Scripted(fails(3))

    await office.deliver(await store.subscriptions.get(sub.id), sender, until_sent=4)

    assert sender.positions == [event.position] * 4
    assert await store.deliveries.dead_letters(sub.id) == []


async def test_what_the_log_says_of_a_subscription_is_for_its_owners_groups(
    office: Office, store: Store, clock: JumpingClock
):
    owner = Owner(kind="key", id="ann", name="Ann", groups=("ops",))
    sub = await office.hold(subscription(owner=owner))
    await store.log.append(new_events(1))

    await office.deliver(sub, Scripted(always(GONE)), until_sent=1)

    [said] = await store.log.read(Query(filter=NOTICES))
    assert said.groups == ("ops",)
