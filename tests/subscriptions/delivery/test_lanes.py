"""Lanes: nothing is lost, nothing overtakes, and the checkpoint never runs ahead."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.events.event import Event
from deploylog.events.scope import ROOT
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery import retry as schedule
from deploylog.subscriptions.delivery.lanes import MOST_WAITING, DeliveryQueue, Place, QueuedBatch
from deploylog.subscriptions.subscription import REDELIVERED, Order, Pending
from support.factories import event

HOUR = 3600 * SECOND
ONE = "project/acme/stack/s/deployment/1"
TWO = "project/acme/stack/s/deployment/2"


def lanes(order: Order = "per_deployment", checkpoint: int = 0) -> DeliveryQueue:
    return DeliveryQueue(order, checkpoint)


def add(to: DeliveryQueue, *events: Event) -> None:
    for each in events:
        to.add(each)
        to.advance(each.position)


def in_lane(name: str, *positions: int) -> list[Event]:
    return [event(position, scopes=(name,)) for position in positions]


def take(of: DeliveryQueue, now: int = 0, number: int = 1) -> QueuedBatch:
    name = of.next_lane(now)
    assert name is not None
    return of.take(name, number)


def positions(parcel: QueuedBatch) -> list[int]:
    return [each.position for each in parcel.events]


def fail(
    of: DeliveryQueue, parcel: QueuedBatch, *, now: int = 1, due: int = 100
) -> tuple[Pending, ...]:
    return of.fail(parcel, now=now, due=due, began=now, error="refused")


def test_strict_order_has_one_event_under_way():
    of = lanes("strict")
    add(of, *in_lane(ONE, 1), *in_lane(TWO, 2))

    assert positions(take(of)) == [1]
    assert of.next_lane(0) is None


def test_lanes_go_side_by_side_each_in_its_order():
    of = lanes()
    add(of, *in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane(ONE, 3))

    first, second = take(of), take(of)
    of.finish(first)

    assert (positions(first), positions(second), positions(take(of))) == ([1], [2], [3])


def test_an_event_outside_a_deployment_goes_in_the_lane_of_its_first_scope():
    of = lanes()
    add(of, *in_lane("image/1", 1), *in_lane("image/2", 2))

    assert {positions(take(of))[0], positions(take(of))[0]} == {1, 2}


def test_the_checkpoint_waits_for_what_is_under_way():
    of = lanes()
    add(of, *in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane("image/1", 3))
    first, second = take(of), take(of)

    of.finish(second)
    assert of.checkpoint == 0
    of.finish(first)
    assert of.checkpoint == 2


def test_the_checkpoint_follows_what_was_looked_at():
    of = lanes(checkpoint=5)

    of.advance(9)

    assert of.checkpoint == 9


def test_what_failed_is_kept_and_so_is_what_waits_behind_it():
    of = lanes()
    add(of, *in_lane(ONE, 1, 2), *in_lane(TWO, 3))

    pending = fail(of, take(of))

    assert [(each.position, each.tries, each.first, each.due) for each in pending] == [
        (1, 1, 1, 100)
    ]
    assert [(each.position, each.tries) for each in of.drain_held()] == [(2, 0)]
    assert of.checkpoint == 2
    assert of.drain_held() == ()


def test_what_comes_for_a_lane_that_is_held_up_is_kept_at_once():
    of = lanes()
    add(of, *in_lane(ONE, 1))
    fail(of, take(of))

    add(of, *in_lane(ONE, 2))

    assert [each.position for each in of.drain_held()] == [2]


def test_in_strict_order_only_what_failed_is_kept():
    of = lanes("strict")
    add(of, *in_lane(ONE, 1, 2))

    fail(of, take(of))

    assert of.drain_held() == ()
    assert of.checkpoint == 1


def test_a_lane_that_failed_waits_until_it_is_due_and_others_do_not():
    of = lanes()
    add(of, *in_lane(ONE, 1, 2), *in_lane(TWO, 3))
    fail(of, take(of), due=100)

    assert positions(take(of, now=99)) == [3]
    assert of.next_lane(99) is None
    assert of.next_due == 100
    assert positions(take(of, now=100)) == [1]


def test_what_is_kept_is_settled_when_it_is_finished():
    of = lanes()
    add(of, *in_lane(ONE, 1))
    fail(of, take(of))

    assert of.finish(take(of, now=100)) == (1,)
    assert of.next_due is None


def test_a_lane_is_held_up_for_a_while_only():
    of = lanes()
    add(of, *in_lane(ONE, 1, 2))
    fail(of, take(of), now=0, due=1)
    late = schedule.LANE_SECONDS * SECOND

    [aside] = fail(of, take(of, now=late), now=late, due=late + 5)

    assert aside.lane == f"{REDELIVERED}1"
    assert positions(take(of, now=late)) == [2]
    assert positions(take(of, now=late + 5)) == [1]


def test_strict_order_waits_however_long_it_takes():
    of = lanes("strict")
    add(of, *in_lane(ONE, 1, 2))
    fail(of, take(of), now=0, due=1)

    fail(of, take(of, now=20 * HOUR), now=20 * HOUR, due=21 * HOUR)

    assert of.next_lane(20 * HOUR) is None
    assert positions(take(of, now=21 * HOUR)) == [1]


def test_many_of_a_lane_go_out_together_and_come_back_together():
    of = lanes()
    add(of, *in_lane(ONE, 1, 2, 3))
    parcel = take(of, number=2)
    fail(of, parcel, due=5)

    again = take(of, now=5, number=500)

    assert positions(parcel) == positions(again) == [1, 2]
    assert of.finish(again) == (1, 2)
    assert positions(take(of, number=500)) == [3]


def test_each_event_knows_the_one_before_it_in_its_lane():
    of = lanes()
    events = [*in_lane(ONE, 1), *in_lane(TWO, 2), *in_lane(ONE, 3)]
    add(of, *events)
    of.finish(take(of))
    of.finish(take(of))

    [item] = take(of).items

    assert item.previous == Place(1, events[0].id)


def test_hurrying_lets_what_waits_go_at_once():
    of = lanes()
    add(of, *in_lane(ONE, 1), *in_lane(TWO, 2))
    for _ in range(2):
        fail(of, take(of), due=HOUR)

    of.retry_now()

    assert {positions(take(of))[0], positions(take(of))[0]} == {1, 2}


@pytest.mark.parametrize("order", ["strict", "per_deployment"])
def test_no_more_is_read_than_there_is_room_for(order: Order):
    of = lanes(order)
    number = 0
    while of.has_room:
        number += 1
        add(of, *in_lane(ONE, number))
        if number == 1:
            fail(of, take(of), due=HOUR)

    assert MOST_WAITING <= number <= MOST_WAITING + 1


# Whatever happens


class Keeper:
    """A store, as far as couriers tell it something."""

    def __init__(self) -> None:
        self.checkpoint = 0
        self.pending: dict[int, Pending] = {}

    def record(
        self, of: DeliveryQueue, *, settled: Sequence[int] = (), pending: Sequence[Pending] = ()
    ) -> None:
        for position in settled:
            self.pending.pop(position, None)
        self.pending |= {each.position: each for each in (*pending, *of.drain_held())}
        self.checkpoint = max(self.checkpoint, of.checkpoint)

    def open(self, order: Order, events: Sequence[Event]) -> DeliveryQueue:
        """What another courier takes up."""
        of = DeliveryQueue(order, self.checkpoint)
        for position in sorted(self.pending):
            of.restore(events[position - 1], self.pending[position])
        add(of, *events[self.checkpoint :])
        return of


@settings(max_examples=300, deadline=None)
@given(
    order=st.sampled_from(["strict", "per_deployment"]),
    names=st.lists(st.sampled_from([ONE, TWO, "image/1", "image/2"]), min_size=1, max_size=25),
    seed=st.integers(0, 2**32),
    bad_luck=st.floats(0, 0.7),
    crashes=st.booleans(),
)
def test_every_event_arrives_in_its_order_whatever_fails_or_crashes(
    order: Order, names: list[str], seed: int, bad_luck: float, crashes: bool
):
    chance = random.Random(seed)
    events = [event(number, scopes=(name,)) for number, name in enumerate(names, 1)]
    keeper, now, arrived = Keeper(), 0, []
    of = keeper.open(order, events)
    under_way: list[QueuedBatch] = []
    for step in range(10_000):
        if crashes and step < 200 and chance.random() < 0.03:
            of, under_way = keeper.open(order, events), []
        while (lane := of.next_lane(now)) is not None and len(under_way) < 3:
            under_way.append(of.take(lane, chance.choice([1, 1, 5])))
        if not under_way:
            if of.next_due is None:
                break
            now = max(now, of.next_due)
            continue
        parcel = under_way.pop(chance.randrange(len(under_way)))
        if step < 300 and chance.random() < bad_luck:
            due = now + chance.randrange(1, 600) * SECOND
            keeper.record(of, pending=of.fail(parcel, now=now, due=due, began=now, error="no"))
        else:
            arrived += positions(parcel)
            keeper.record(of, settled=of.finish(parcel))

    assert set(arrived) == {each.position for each in events}
    assert keeper.pending == {}
    assert keeper.checkpoint == len(events)
    if not crashes:
        assert len(arrived) == len(events)
    if order == "strict" and not crashes:
        assert arrived == sorted(arrived)


def test_what_lanes_kept_waits_for_one_another_in_strict_order():
    of = lanes("strict", checkpoint=2)
    first, second = in_lane(ONE, 1) + in_lane(TWO, 2)
    of.restore(first, Pending(position=1, lane=ONE, tries=1, first=0))
    of.restore(second, Pending(position=2, lane=TWO, tries=1, first=0))

    assert positions(take(of)) == [1]
    assert of.next_lane(0) is None


def test_what_strict_order_kept_holds_up_its_own_lane_only():
    of = lanes("per_deployment", checkpoint=1)
    of.restore(in_lane(ONE, 1)[0], Pending(position=1, lane=ROOT, tries=1, first=0))
    add(of, *in_lane(ONE, 2), *in_lane(TWO, 3))

    assert [positions(take(of)), positions(take(of))] == [[1], [3]]
    assert of.next_lane(0) is None


def test_no_scope_is_taken_for_the_lane_of_what_is_sent_again():
    of = lanes()
    add(of, *in_lane("!", 1), *in_lane("!", 2))
    parcel = take(of)
    fail(of, parcel, due=10)

    parcel = take(of, now=10)
    fail(of, parcel, now=schedule.LANE_SECONDS * SECOND + 2, due=2 * HOUR)

    assert positions(take(of)) == [2]
