"""The worker: what it sends, when, how often, and what it records."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from deploylog.events.access import Visibility
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Hub
from deploylog.events.scope import ROOT, Scope
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.lanes import EventRef
from deploylog.subscriptions.delivery.outcome import Outcome, Response
from deploylog.subscriptions.delivery.sender import OutgoingBatch
from deploylog.subscriptions.store import OneEvent
from deploylog.subscriptions.subscription import REDELIVERED, Owner
from support.backends import Damage
from support.factories import new_event, new_events, subscription
from support.waiting import until
from support.workers import (
    DEAD_LETTER,
    GONE,
    OK,
    REFUSED,
    JumpingClock,
    Script,
    Scripted,
    WorkerHarness,
    always,
    fails,
    refuses,
    status_events,
)

RESOURCES = Filter(all_of=(any_of("type", ("resource.*",)),))
STATUS_EVENTS = Filter(all_of=(any_of("type", ("subscription.*",)),))
ONE = "project/acme/stack/s/deployment/1"
TWO = "project/acme/stack/s/deployment/2"


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def harness(store: Store, hub: Hub, clock: JumpingClock) -> WorkerHarness:
    return WorkerHarness(store, hub, clock)


async def statuses(store: Store) -> list[str]:
    return [event.type.partition(".")[2] for event in await status_events(store)]


async def test_a_receiver_that_is_down_does_not_use_up_the_streams_of_its_owner(
    store: Store, clock: JumpingClock
):
    hub = Hub(store.log, memory=2 * 1024 * 1024)
    harness = WorkerHarness(store, hub, clock)
    sub = await harness.claim(subscription(filter=RESOURCES))
    await store.log.append(new_events(3, message="x" * 200_000))
    sender = Scripted(always(REFUSED))
    worker = harness.worker(sub, sender, max_queue_bytes=100_000)

    async with hub.following(heartbeat=60), harness.running(worker):
        await until(lambda: sender.sent)

        assert hub.sending.in_use == 0


async def test_events_are_delivered_in_order_and_recorded(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    events = await store.log.append(new_events(30))
    sender = Scripted(always(OK))

    await harness.deliver(sub, sender, until_sent=30)

    assert sender.positions == [event.position for event in events]
    attempts = await store.deliveries.attempts(sub.id)
    assert [each.event for each in reversed(attempts)] == [event.id for event in events]
    assert {each.result for each in attempts} == {"delivered"}
    assert (await store.subscriptions.get(sub.id)).checkpoint == events[-1].position


async def test_later_events_are_delivered(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    sender = Scripted(always(OK))

    async with harness.running(harness.worker(sub, sender)):
        await store.log.append(new_events(2))
        await until(lambda: len(sender.sent) == 2)
        await store.log.append(new_events(1))
        await until(lambda: len(sender.sent) == 3)


async def test_only_matching_and_visible_events_are_delivered(harness: WorkerHarness, store: Store):
    wanted = Filter(all_of=(any_of("type", ("build.*",)),), scopes=(Scope("a"), Scope("b")))
    sub = await harness.claim(subscription(filter=wanted))
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

    await harness.deliver(sub, sender, until_sent=2, visibility=visible)

    assert sender.positions == [events[0].position, events[4].position]


async def test_a_worker_continues_at_the_checkpoint(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(5))
    await harness.deliver(sub, Scripted(always(OK)), until_sent=5)
    more = await store.log.append(new_events(2))
    again = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), again, until_sent=2)

    assert again.positions == [event.position for event in more]


async def test_a_failed_event_is_retried_by_the_schedule_and_the_rest_waits(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription())
    first, second = await store.log.append(new_events(2))
    sender = Scripted(fails(3))

    await harness.deliver(sub, sender, until_sent=5)

    assert sender.positions == [first.position] * 4 + [second.position]
    assert clock.passed == pytest.approx(5 + 15 + 60, rel=0.01)
    attempts = await store.deliveries.attempts(sub.id)
    assert [each.result for each in reversed(attempts)] == ["failed"] * 3 + ["delivered"] * 2
    assert attempts[-1].error == "refused"
    assert attempts[-1].due is not None
    assert await store.deliveries.pending(sub.id) == []


async def test_retry_after_lengthens_a_delay(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(1))
    busy = Outcome(result="retry", response=Response(status=429, retry_after=120.0), error="429")

    await harness.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 120 <= clock.passed <= 120 * 1.2 + 1


async def test_a_pending_event_is_not_sent_for_an_owner_who_may_not_see_it(
    harness: WorkerHarness, store: Store
):
    sub = await harness.claim(subscription())
    [hidden] = await store.log.append([new_event(groups=("ops",))])
    await harness.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    [shown] = await store.log.append([new_event()])
    sender = Scripted(always(OK))
    sub = await store.subscriptions.get(sub.id)

    no_groups = Visibility(scopes=(ROOT,), groups=frozenset())
    await harness.deliver(sub, sender, until_sent=1, visibility=no_groups)

    assert sender.positions == [shown.position]
    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (
        hidden.position,
        "the owner may not see the event",
    )


async def test_an_unexpected_error_stops_the_worker(
    harness: WorkerHarness, store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def break_down(query: Query) -> list[Event]:
        raise RuntimeError("not foreseen")

    sub = await harness.claim(subscription())
    await store.log.append(new_events(1))
    worker = harness.worker(sub, Scripted(always(OK)))

    async with harness.running(worker):
        monkeypatch.setattr(worker._feed, "previous_of", break_down)
        await until(lambda: worker.is_stopping)


async def test_retry_after_does_not_shorten_a_delay(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(1))
    eager = Outcome(result="retry", response=Response(status=503, retry_after=0.5), error="503")

    await harness.deliver(sub, Scripted(fails(3, eager)), until_sent=4)

    assert clock.passed == pytest.approx(5 + 15 + 60, rel=0.01)


async def test_a_receiver_that_paces_is_retried_after_its_retry_after(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(1))
    response = Response(status=429, retry_after=1.0)
    busy = Outcome(result="retry", response=response, error="429", is_paced=True)

    await harness.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 1 <= clock.passed <= 1.3


async def test_retry_after_lengthens_the_delay_of_a_probe(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    since = clock.now - 2 * 3600 * SECOND
    sub = await harness.claim(subscription(state="failing", failing_since=since))
    await store.log.append(new_events(1))
    busy = Outcome(result="retry", response=Response(status=503, retry_after=3600.0), error="503")

    await harness.deliver(sub, Scripted(fails(1, busy)), until_sent=2)

    assert 3600 <= clock.passed <= 3600 * 1.2 + 1


async def test_an_event_is_dead_lettered_after_a_day_and_the_next_is_sent(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(filter=RESOURCES))
    bad, good = await store.log.append(new_events(2))
    sender = Scripted(refuses([bad.position]))
    worker = harness.worker(sub, sender)

    async with harness.running(worker):
        await until(lambda: good.position in sender.positions)

    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (bad.position, "refused")
    assert 86_400 <= clock.passed <= 86_400 + 3600
    assert sender.positions.count(good.position) == 1
    assert (await store.deliveries.attempts(sub.id))[1].result == "dead_lettered"


async def test_failing_for_an_hour_and_recovering_are_recorded_in_the_log(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(filter=Filter(scopes=(Scope("project/acme"),))))
    await store.log.append(new_events(1))

    await harness.deliver(sub, Scripted(always(REFUSED)), until_sent=12)
    failing = await store.subscriptions.get(sub.id)
    await harness.deliver(failing, Scripted(always(OK)), until_sent=1)

    recovered = await store.subscriptions.get(sub.id)
    assert (failing.state, failing.reason, failing.failing_since) == (
        "failing",
        "refused",
        clock.started,
    )
    assert (recovered.state, recovered.reason, recovered.failing_since) == ("active", None, None)
    assert await statuses(store) == ["failing", "resumed"]
    [event] = await store.log.read(
        Query(filter=Filter(all_of=(any_of("type", ("subscription.failing",)),)))
    )
    assert event.scopes == (f"subscription/{sub.id}", "project/acme")


async def test_a_failing_subscription_gets_one_probe_at_a_time(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    failing: dict[str, Any] = {"state": "failing", "failing_since": clock.now}
    sub = await harness.claim(subscription(order="per_deployment", filter=RESOURCES, **failing))
    await store.log.append([new_event(scopes=(f"image/{number}",)) for number in range(50)])
    sender = Scripted(fails(3))

    await harness.deliver(sub, sender, until_sent=53)

    times = [batch.now for batch in sender.sent]
    waits = [(later - earlier) / 1e9 for earlier, later in pairwise(times[:4])]
    assert waits == [pytest.approx(300, rel=0.01)] * 3
    assert times[3:] == [pytest.approx(times[3], abs=1e9)] * 50


async def test_a_failing_lane_does_not_block_others(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription(order="per_deployment"))
    bad = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    good = await store.log.append([new_event(scopes=(TWO,)) for _ in range(3)])
    sender = Scripted(refuses([bad[0].position]))

    async with harness.running(harness.worker(sub, sender)):
        await until(lambda: good[-1].position in sender.positions)

    others = [position for position in sender.positions if position != bad[0].position]
    assert others == [event.position for event in good]
    assert (await store.subscriptions.get(sub.id)).checkpoint == good[-1].position
    pending = {each.position for each in await store.deliveries.pending(sub.id)}
    assert pending >= {event.position for event in bad}


async def test_a_lane_continues_without_an_event_that_blocks_it_for_long(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(order="per_deployment"))
    bad, *rest = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    sender = Scripted(refuses([bad.position]))

    async with harness.running(harness.worker(sub, sender)):
        await until(lambda: rest[-1].position in sender.positions)
        passed = clock.passed

    others = [position for position in sender.positions if position != bad.position]
    assert others == [event.position for event in rest]
    assert 900 <= passed <= 2000


async def test_pending_events_are_delivered_after_a_restart(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription(order="per_deployment"))
    events = await store.log.append([new_event(scopes=(ONE,)) for _ in range(3)])
    await harness.deliver(sub, Scripted(refuses([events[0].position])), until_sent=1)
    again = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), again, until_sent=3)

    assert again.positions == [event.position for event in events]
    assert await store.deliveries.pending(sub.id) == []


async def test_pruned_events_are_dead_lettered_and_reported_as_a_gap(
    harness: WorkerHarness, store: Store
):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(3))
    await harness.deliver(sub, Scripted(fails(1)), until_sent=1)
    await store.log.prune(2**62)
    stored = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    assert sender.batches[0] == (stored[0].position,)
    assert sender.sent[0].gap == (1, 3)
    assert [each.error for each in await store.deliveries.dead_letters(sub.id)] == [
        "the event is no longer retained"
    ]
    assert await statuses(store) == ["gap"]


async def test_a_410_disables_the_subscription(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(3))
    sender = Scripted(always(GONE))
    worker = harness.worker(sub, sender)

    async with harness.running(worker):
        await until(lambda: worker.is_stopping)

    assert len(sender.sent) == 1
    stored = await store.subscriptions.get(sub.id)
    assert (stored.state, stored.reason) == ("disabled", "410 Gone")
    assert await statuses(store) == ["disabled"]
    [waiting] = await store.deliveries.pending(sub.id)
    assert waiting.due == 0


async def test_an_event_that_is_never_accepted_is_dead_lettered_at_once(
    harness: WorkerHarness, store: Store
):
    sub = await harness.claim(subscription())
    bad, good = await store.log.append(new_events(2))

    await harness.deliver(sub, Scripted(refuses([bad.position], DEAD_LETTER)), until_sent=2)

    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.tries) == (bad.position, 1)
    assert (await store.subscriptions.get(sub.id)).checkpoint == good.position


async def test_a_redelivered_event_is_sent_beside_the_rest(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    events = await store.log.append(new_events(2))
    await harness.deliver(sub, Scripted(always(OK)), until_sent=2)
    await store.deliveries.redeliver(sub.id, OneEvent(events[0].position))
    again = Scripted(always(OK))
    assert (await store.deliveries.pending(sub.id))[0].lane == REDELIVERED

    await harness.deliver(await store.subscriptions.get(sub.id), again, until_sent=1)

    assert again.positions == [events[0].position]
    assert await store.deliveries.pending(sub.id) == []


async def test_one_request_can_have_many_events(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(10))
    sender = Scripted(always(OK), batch_size=500)

    await harness.deliver(sub, sender, until_sent=1)

    assert len(sender.sent) < 10
    assert sender.positions == list(range(1, 11))
    assert len(await store.deliveries.attempts(sub.id)) == 10


async def test_a_request_names_the_previous_event(harness: WorkerHarness, store: Store):
    wanted = Filter(all_of=(any_of("type", ("wanted",)),))
    sub = await harness.claim(subscription(filter=wanted))
    first = (await store.log.append([new_event("wanted"), new_event("other")]))[0]
    [second] = await store.log.append([new_event("wanted")])
    sender = Scripted(always(OK))

    await harness.deliver(sub, sender, until_sent=2)

    previous = [batch.previous for batch in sender.sent]
    assert previous == [None, EventRef(first.position, first.id)]
    assert second.position == 3


async def test_the_previous_event_is_one_of_the_same_lane(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription(order="per_deployment"))
    await store.log.append([new_event(scopes=("project/acme",)), new_event(scopes=(ONE,))])
    await harness.deliver(sub, Scripted(always(OK)), until_sent=2)
    await store.log.append([new_event(scopes=("project/acme",))])
    sender = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    [batch] = sender.sent
    assert batch.previous is not None
    assert batch.previous.position == 1


async def test_the_previous_event_is_found_after_a_restart(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    [first] = await store.log.append(new_events(1))
    await harness.deliver(sub, Scripted(always(OK)), until_sent=1)
    await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    [batch] = sender.sent
    assert batch.previous == EventRef(first.position, first.id)


async def test_nothing_is_sent_while_another_process_may_send(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription())
    await store.log.append(new_events(1))
    sender, is_held = Scripted(always(OK)), [False]
    worker = harness.worker(sub, sender, may_send=lambda: is_held[0])

    async with harness.running(worker):
        await until(lambda: harness.clock.passed > 60)
        assert sender.sent == []
        is_held[0] = True
        await until(lambda: len(sender.sent) == 1)


async def test_reports_for_a_lost_subscription_are_not_recorded(
    harness: WorkerHarness, store: Store
):
    sub = subscription()
    await store.subscriptions.add(sub)
    await store.log.append(new_events(1))

    await harness.deliver(sub, Scripted(always(OK)), until_sent=1)

    assert harness.lost == [sub.id]
    assert await store.deliveries.attempts(sub.id) == []


async def test_an_event_that_cannot_be_rendered_blocks_only_itself(
    harness: WorkerHarness, store: Store
):
    sub = await harness.claim(subscription(order="per_deployment"))
    bad, good = await store.log.append(
        [new_event(scopes=("image/1",)), new_event(scopes=("image/2",))]
    )

    def breaks(batch: OutgoingBatch) -> Outcome:
        if batch.event.position == bad.position:
            raise RuntimeError("a bug")
        return OK

    sender = Scripted(breaks)
    async with harness.running(harness.worker(sub, sender)):
        await until(lambda: sender.positions == [good.position])
        await harness.recorder.flush()

    [pending] = await store.deliveries.pending(sub.id)
    assert (pending.position, pending.error) == (bad.position, "an unexpected error occurred")


async def test_events_that_do_not_match_move_the_checkpoint(store: Store, clock: JumpingClock):
    hub = Hub(store.log)
    async with hub.following(heartbeat=0.05):
        harness = WorkerHarness(store, hub, clock)
        sub = await harness.claim(subscription(filter=Filter(all_of=(any_of("type", ("x",)),))))
        await store.log.append(new_events(7))
        worker = harness.worker(sub, Scripted(always(OK)))

        async with harness.running(worker):
            await until(lambda: worker.checkpoint == 7)

    assert (await store.subscriptions.get(sub.id)).checkpoint == 7


async def test_a_gap_is_reported_after_a_restart(harness: WorkerHarness, store: Store):
    sub = await harness.claim(subscription(filter=RESOURCES))
    await store.log.append(new_events(3))
    await store.log.prune(2**62)
    worker = harness.worker(sub, Scripted(always(OK)))
    async with harness.running(worker):
        await until(lambda: statuses(store))
    [next_event] = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    assert sender.batches == [(next_event.position,)]
    assert sender.sent[0].gap == (0, 3)


async def test_a_damaged_event_is_skipped_and_recorded_as_a_gap(
    harness: WorkerHarness, store: Store, damage: Damage
):
    sub = await harness.claim(subscription(filter=RESOURCES))
    events = await store.log.append(new_events(4))
    damage(2, 3)
    sender = Scripted(always(OK))

    await harness.deliver(sub, sender, until_sent=2)

    assert sender.positions == [events[0].position, events[3].position]
    assert [batch.gap for batch in sender.sent] == [None, (1, 3)]
    [event] = await store.log.read(Query(filter=STATUS_EVENTS))
    assert event.type == "subscription.gap"
    assert "events up to position 3 are damaged" in (event.message or "")


async def test_a_damaged_pending_event_is_dead_lettered(
    harness: WorkerHarness, store: Store, damage: Damage
):
    sub = await harness.claim(subscription(filter=RESOURCES))
    [event] = await store.log.append(new_events(1))
    await harness.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    damage(1, reason="checksum")
    [next_event] = await store.log.append(new_events(1))
    sender = Scripted(always(OK))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=1)

    assert sender.positions == [next_event.position]
    [dead_lettered] = await store.deliveries.dead_letters(sub.id)
    assert (dead_lettered.position, dead_lettered.error) == (
        event.position,
        "The event is damaged: the store does not hold what was recorded.",
    )


async def test_a_pause_does_not_count_towards_the_day(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(filter=RESOURCES))
    [event] = await store.log.append(new_events(1))
    await harness.deliver(sub, Scripted(always(REFUSED)), until_sent=1)
    clock.now += 2 * 86_400 * SECOND
    sender = Scripted(fails(3))

    await harness.deliver(await store.subscriptions.get(sub.id), sender, until_sent=4)

    assert sender.positions == [event.position] * 4
    assert await store.deliveries.dead_letters(sub.id) == []


async def test_status_events_are_visible_to_the_owners_groups(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    owner = Owner(kind="key", id="ann", name="Ann", groups=("ops",))
    sub = await harness.claim(subscription(owner=owner))
    await store.log.append(new_events(1))

    await harness.deliver(sub, Scripted(always(GONE)), until_sent=1)

    [event] = await store.log.read(Query(filter=STATUS_EVENTS))
    assert event.groups == ("ops",)


# A receiver that is back


LANES = 40


async def lanes_of_events(store: Store) -> None:
    await store.log.append([new_event(scopes=(f"image/{number}",)) for number in range(LANES)])


async def test_a_receiver_that_is_back_gets_the_backlog_at_once(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(order="per_deployment", filter=RESOURCES))
    await lanes_of_events(store)
    sender = Scripted(fails(LANES * 5))

    await harness.deliver(sub, sender, until_sent=LANES * 6)

    delivered = [batch.now for batch in sender.sent[LANES * 5 :]]
    assert max(delivered) - min(delivered) < SECOND


async def test_an_event_that_fails_alone_is_not_retried_at_each_success_of_others(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(order="per_deployment", filter=RESOURCES))
    [bad] = await store.log.append([new_event(scopes=("image/bad",))])
    await lanes_of_events(store)
    sender = Scripted(refuses([bad.position]))

    await harness.deliver(sub, sender, until_sent=LANES + 3)

    assert sender.positions.count(bad.position) == 3
    assert clock.passed >= 5 + 15 - 1


async def test_a_test_that_succeeds_starts_the_backlog_though_a_request_in_flight_fails(
    harness: WorkerHarness, store: Store, clock: JumpingClock
):
    sub = await harness.claim(subscription(order="per_deployment", filter=RESOURCES))
    await lanes_of_events(store)
    release = asyncio.Event()
    sender = Held(fails(LANES), release)
    worker = harness.worker(sub, sender)

    async with harness.running(worker):
        await until(lambda: sender.waiting == LANES)
        # The receiver answers a test while every request is still in flight, and fails them then.
        worker.retry_now()
        started = clock.now
        release.set()
        await until(lambda: len(sender.sent) == 2 * LANES)

    assert clock.now - started < SECOND


class Held(Scripted):
    """A sender whose first requests wait, and count, until they are released."""

    def __init__(self, script: Script, release: asyncio.Event) -> None:
        super().__init__(script)
        self.waiting = 0
        self._release = release

    async def send(self, batch: OutgoingBatch) -> Outcome:
        self.waiting += 1
        await self._release.wait()
        return await super().send(batch)
