"""The queue: nothing is lost, nothing overtakes, and the checkpoint never runs ahead."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.events.event import Event
from deploylog.events.scope import ROOT
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery import retry
from deploylog.subscriptions.delivery.lanes import MAX_WAITING, DeliveryQueue, EventRef, QueuedBatch
from deploylog.subscriptions.subscription import REDELIVERED, Order, Pending
from support.factories import event

HOUR = 3600 * SECOND
ONE = "project/acme/stack/s/deployment/1"
TWO = "project/acme/stack/s/deployment/2"


def new_queue(order: Order = "per_deployment", checkpoint: int = 0) -> DeliveryQueue:
    return DeliveryQueue(order, checkpoint)


def add(queue: DeliveryQueue, *events: Event) -> None:
    for each in events:
        queue.add(each)
        queue.advance(each.position)


def in_lane(name: str, *positions: int) -> list[Event]:
    return [event(position, scopes=(name,)) for position in positions]


def take(queue: DeliveryQueue, now: int = 0, number: int = 1) -> QueuedBatch:
    name = queue.next_lane(now)
    assert name is not None
    return queue.take(name, number)


def positions(batch: QueuedBatch) -> list[int]:
    return [each.position for each in batch.events]


def fail(
    queue: DeliveryQueue, batch: QueuedBatch, *, now: int = 1, due: int = 100
) -> tuple[Pending, ...]:
    return queue.fail(batch, now=now, due=due, started=now, error="refused")


def test_strict_order_has_one_event_in_flight():
    queue = new_queue("strict")
    add(queue, *in_lane(ONE, 1), *in_lane(TWO, 2))

    assert positions(take(queue)) == [1]
    assert queue.next_lane(0) is None


def test_lanes_send_side_by_side_each_in_order():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane(ONE, 3))

    first, second = take(queue), take(queue)
    queue.finish(first)

    assert (positions(first), positions(second), positions(take(queue))) == ([1], [2], [3])


def test_an_event_outside_a_deployment_has_the_lane_of_its_first_scope():
    queue = new_queue()
    add(queue, *in_lane("image/1", 1), *in_lane("image/2", 2))

    assert {positions(take(queue))[0], positions(take(queue))[0]} == {1, 2}


def test_the_checkpoint_waits_for_events_in_flight():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane("image/1", 3))
    first, second = take(queue), take(queue)

    queue.finish(second)
    assert queue.checkpoint == 0
    queue.finish(first)
    assert queue.checkpoint == 2


def test_the_checkpoint_follows_what_was_read():
    queue = new_queue(checkpoint=5)

    queue.advance(9)

    assert queue.checkpoint == 9


def test_a_failed_event_and_those_behind_it_are_stored():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1, 2), *in_lane(TWO, 3))

    pending = fail(queue, take(queue))

    assert [(each.position, each.tries, each.first, each.due) for each in pending] == [
        (1, 1, 1, 100)
    ]
    assert [(each.position, each.tries) for each in queue.drain_held()] == [(2, 0)]
    assert queue.checkpoint == 2
    assert queue.drain_held() == ()


def test_an_event_for_a_blocked_lane_is_stored_at_once():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1))
    fail(queue, take(queue))

    add(queue, *in_lane(ONE, 2))

    assert [each.position for each in queue.drain_held()] == [2]


def test_strict_order_stores_the_failed_event_only():
    queue = new_queue("strict")
    add(queue, *in_lane(ONE, 1, 2))

    fail(queue, take(queue))

    assert queue.drain_held() == ()
    assert queue.checkpoint == 1


def test_a_failed_lane_waits_until_it_is_due_and_others_do_not():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1, 2), *in_lane(TWO, 3))
    fail(queue, take(queue), due=100)

    assert positions(take(queue, now=99)) == [3]
    assert queue.next_lane(99) is None
    assert queue.next_due == 100
    assert positions(take(queue, now=100)) == [1]


def test_finishing_returns_stored_positions():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1))
    fail(queue, take(queue))

    assert queue.finish(take(queue, now=100)) == (1,)
    assert queue.next_due is None


def test_a_failed_event_blocks_its_lane_for_a_limited_time():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1, 2))
    fail(queue, take(queue), now=0, due=1)
    late = retry.LANE_SECONDS * SECOND

    [split_off] = fail(queue, take(queue, now=late), now=late, due=late + 5)

    assert split_off.lane == f"{REDELIVERED}1"
    assert positions(take(queue, now=late)) == [2]
    assert positions(take(queue, now=late + 5)) == [1]


def test_strict_order_waits_without_a_limit():
    queue = new_queue("strict")
    add(queue, *in_lane(ONE, 1, 2))
    fail(queue, take(queue), now=0, due=1)

    fail(queue, take(queue, now=20 * HOUR), now=20 * HOUR, due=21 * HOUR)

    assert queue.next_lane(20 * HOUR) is None
    assert positions(take(queue, now=21 * HOUR)) == [1]


def test_a_batch_is_retried_as_it_was():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1, 2, 3))
    batch = take(queue, number=2)
    fail(queue, batch, due=5)

    again = take(queue, now=5, number=500)

    assert positions(batch) == positions(again) == [1, 2]
    assert queue.finish(again) == (1, 2)
    assert positions(take(queue, number=500)) == [3]


def test_an_event_knows_the_previous_one_of_its_lane():
    queue = new_queue()
    events = [*in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane(ONE, 3)]
    add(queue, *events)
    queue.finish(take(queue))
    queue.finish(take(queue))

    [item] = take(queue).items

    assert item.previous == EventRef(1, events[0].id)


def test_retry_now_ends_every_delay():
    queue = new_queue()
    add(queue, *in_lane(ONE, 1), *in_lane(TWO, 2))
    for _ in range(2):
        fail(queue, take(queue), due=HOUR)

    queue.retry_now()

    assert {positions(take(queue))[0], positions(take(queue))[0]} == {1, 2}


@pytest.mark.parametrize("order", ["strict", "per_deployment"])
def test_the_queue_is_bounded(order: Order):
    queue = new_queue(order)
    number = 0
    while queue.has_room:
        number += 1
        add(queue, *in_lane(ONE, number))
        if number == 1:
            fail(queue, take(queue), due=HOUR)

    assert MAX_WAITING <= number <= MAX_WAITING + 1


# Properties


class FakeStore:
    """A store, as far as workers use it."""

    def __init__(self) -> None:
        self.checkpoint = 0
        self.pending: dict[int, Pending] = {}

    def record(
        self,
        queue: DeliveryQueue,
        *,
        delivered: Sequence[int] = (),
        pending: Sequence[Pending] = (),
    ) -> None:
        for position in delivered:
            self.pending.pop(position, None)
        self.pending |= {each.position: each for each in (*pending, *queue.drain_held())}
        self.checkpoint = max(self.checkpoint, queue.checkpoint)

    def open(self, order: Order, events: Sequence[Event]) -> DeliveryQueue:
        """The queue of the next worker."""
        queue = DeliveryQueue(order, self.checkpoint)
        for position in sorted(self.pending):
            queue.restore(events[position - 1], self.pending[position])
        add(queue, *events[self.checkpoint :])
        return queue


@settings(max_examples=300)
@given(
    order=st.sampled_from(["strict", "per_deployment"]),
    names=st.lists(st.sampled_from([ONE, TWO, "image/1", "image/2"]), min_size=1, max_size=25),
    seed=st.integers(0, 2**32),
    failure_rate=st.floats(0, 0.7),
    crashes=st.booleans(),
)
def test_every_event_is_delivered_in_order_through_failures_and_crashes(
    order: Order, names: list[str], seed: int, failure_rate: float, crashes: bool
):
    chance = random.Random(seed)
    events = [event(number, scopes=(name,)) for number, name in enumerate(names, 1)]
    store, now, arrived = FakeStore(), 0, []
    queue = store.open(order, events)
    in_flight: list[QueuedBatch] = []
    for step in range(10_000):
        if crashes and step < 200 and chance.random() < 0.03:
            queue, in_flight = store.open(order, events), []
        while (lane := queue.next_lane(now)) is not None and len(in_flight) < 3:
            in_flight.append(queue.take(lane, chance.choice([1, 1, 5])))
        if not in_flight:
            if queue.next_due is None:
                break
            now = max(now, queue.next_due)
            continue
        batch = in_flight.pop(chance.randrange(len(in_flight)))
        if step < 300 and chance.random() < failure_rate:
            due = now + chance.randrange(1, 600) * SECOND
            store.record(
                queue, pending=queue.fail(batch, now=now, due=due, started=now, error="no")
            )
        else:
            arrived += positions(batch)
            store.record(queue, delivered=queue.finish(batch))

    assert set(arrived) == {each.position for each in events}
    assert store.pending == {}
    assert store.checkpoint == len(events)
    if not crashes:
        assert len(arrived) == len(events)
    if order == "strict" and not crashes:
        assert arrived == sorted(arrived)


def test_events_pending_per_deployment_are_ordered_when_restored_as_strict():
    queue = new_queue("strict", checkpoint=2)
    first, second = in_lane(ONE, 1) + in_lane(TWO, 2)
    queue.restore(first, Pending(position=1, lane=ONE, tries=1, first=0))
    queue.restore(second, Pending(position=2, lane=TWO, tries=1, first=0))

    assert positions(take(queue)) == [1]
    assert queue.next_lane(0) is None


def test_an_event_pending_in_strict_order_blocks_its_own_lane_when_restored_per_deployment():
    queue = new_queue("per_deployment", checkpoint=1)
    queue.restore(in_lane(ONE, 1)[0], Pending(position=1, lane=ROOT, tries=1, first=0))
    add(queue, *in_lane(ONE, 2), *in_lane(TWO, 3))

    assert [positions(take(queue)), positions(take(queue))] == [[1], [3]]
    assert queue.next_lane(0) is None


def test_no_scope_is_mistaken_for_the_lane_of_redelivered_events():
    queue = new_queue()
    add(queue, *in_lane("!", 1), *in_lane("!", 2))
    batch = take(queue)
    fail(queue, batch, due=10)

    batch = take(queue, now=10)
    fail(queue, batch, now=retry.LANE_SECONDS * SECOND + 2, due=2 * HOUR)

    assert positions(take(queue)) == [2]
