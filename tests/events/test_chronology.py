"""Pages in the order of time: joined they are the whole list, however its events arrived."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.chronology import Moment, moment_of, read_by_time
from deploylog.events.event import Event
from deploylog.events.filters import AnyOf, Filter
from deploylog.events.scope import stack_scope
from deploylog.events.store import Page, Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from support.factories import event, new_event

SCOPE = stack_scope("acme", "stack-1")

#: Some may be the same, and the ends of what a time can be are among them.
TIMES = st.lists(
    st.integers(0, 40) | st.sampled_from([0, (1 << 63) - 2, (1 << 63) - 1]), max_size=60
)
ORDERS: Any = st.sampled_from(["newest", "oldest"])


class Log:
    """A log in memory, whose pages end early now and then, as the store's do by their bytes."""

    def __init__(self, times: Sequence[int] = (), cut: random.Random | None = None) -> None:
        self.events: list[Event] = []
        self.data_sources = 0
        self._cut = cut
        for time in times:
            self.append(time)

    def append(self, time: int) -> None:
        self.events.append(event(position=len(self.events) + 1, time=time))

    async def read(self, query: Query) -> Page:
        self.data_sources += 1
        newest = query.order == "newest"
        low = query.after if query.after is not None else 0
        high = query.before if query.before is not None else 1 << 40
        found = [
            each
            for each in (reversed(self.events) if newest else self.events)
            if low < each.position < high and query.filter.matches(each)
        ]
        limit = query.limit
        if self._cut is not None:
            limit = self._cut.randint(0, limit)
        page = found[:limit]
        # Where nothing is left the store may still say that there may be something.
        if len(found) < query.limit and limit >= len(found):
            return Page(page)
        last = page[-1].position if page else (high if newest else low)
        return Page(page, next=min(last, len(self.events) + 1))


def in_order(events: Sequence[Event], order: str) -> list[Event]:
    return sorted(events, key=moment_of, reverse=order == "newest")


@given(times=TIMES, limit=st.integers(1, 20), order=ORDERS, seed=st.none() | st.integers(0, 9))
def test_pages_joined_are_the_list_in_the_order_of_time(
    times: list[int], limit: int, order: Any, seed: int | None
) -> None:
    log = Log(times, random.Random(seed) if seed is not None else None)

    joined = asyncio.run(walk(log, limit, order))

    assert joined == in_order(log.events, order)


async def walk(log: Log, limit: int, order: Any, arriving: Sequence[int] = ()) -> list[Event]:
    """All pages; before each after the first, another event arrives."""
    joined: list[Event] = []
    beyond: Moment | None = None
    late = list(arriving)
    while True:
        page = await read_by_time(log.read, Query(order=order, limit=limit), beyond=beyond)
        assert len(page.events) <= limit
        assert page.events or not page.more
        joined += page.events
        if not page.more:
            return joined
        beyond = moment_of(page.events[-1])
        if late:
            log.append(late.pop())


@given(times=TIMES, late=TIMES, limit=st.integers(1, 20), order=ORDERS)
def test_events_that_arrive_between_pages_neither_repeat_nor_shift_others(
    times: list[int], late: list[int], limit: int, order: Any
) -> None:
    log = Log(times)

    joined = asyncio.run(walk(log, limit, order, late))

    there = [each for each in joined if each.position <= len(times)]
    assert there == in_order(log.events[: len(times)], order)
    assert joined == in_order(joined, order)
    assert len({each.position for each in joined}) == len(joined)


@given(
    times=TIMES, limit=st.integers(1, 20), order=ORDERS, window=st.tuples(*[st.integers(0, 41)] * 2)
)
def test_a_filter_by_time_applies(
    times: list[int], limit: int, order: Any, window: tuple[int, int]
) -> None:
    log = Log(times)
    filter = Filter(since=min(window), until=max(window))
    query = Query(order=order, limit=limit, filter=filter)

    page = asyncio.run(read_by_time(log.read, query))

    expected = in_order([each for each in log.events if filter.matches(each)], order)
    assert page.events == expected[:limit]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(
    "how", ["in order", "reversed", "shuffled", "old ones last", "all at once"]
)
def test_a_page_takes_few_reads_however_the_events_arrived(order: Any, how: str) -> None:
    times = list(range(SECOND, 20_001 * SECOND, 10 * SECOND))
    arrived = {
        "in order": times,
        "reversed": times[::-1],
        "shuffled": random.Random(7).sample(times, len(times)),
        "old ones last": times[1000:] + times[:1000],
        "all at once": [SECOND] * len(times),
    }
    log = Log(arrived[how])

    page = asyncio.run(read_by_time(log.read, Query(order=order, limit=100)))

    assert page.events == in_order(log.events, order)[:100]
    assert log.data_sources <= (4 if how in ("in order", "all at once") else 60)


async def test_the_store_gives_the_same(store: Store) -> None:
    times = random.Random(3).sample(range(5_000), 3_000)
    types = ("deployment.log", "deployment.error")
    new = [new_event(types[time % 2], scopes=(SCOPE,), time=time) for time in times]
    recorded = await store.log.append(new)
    filter = Filter(all_of=(AnyOf(field="type", values=types[:1]),))
    query = Query(scope=SCOPE, filter=filter, limit=170)

    found: list[Event] = []
    page = await read_by_time(store.log.read, query)
    found += page.events
    while page.more:
        page = await read_by_time(store.log.read, query, beyond=moment_of(found[-1]))
        found += page.events
    oldest = msgspec.structs.replace(query, order="oldest", limit=10)
    back = await read_by_time(store.log.read, oldest, beyond=moment_of(found[100]))

    assert found == in_order([each for each in recorded if each.type == types[0]], "newest")
    assert back.events == found[90:100][::-1]
