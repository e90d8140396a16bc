"""Shared history: one read for all who ask for the same, within limits of bytes and time."""

import asyncio

import pytest

from deploylog.events import history as module
from deploylog.events.access import ALL
from deploylog.events.batch import Batch, Gap
from deploylog.events.filters import EVERYTHING
from deploylog.events.history import Found, History
from deploylog.events.ring import Ring, StreamFilter
from deploylog.events.scope import ROOT
from support.factories import event


def ring() -> Ring:
    return Ring(StreamFilter(scope=ROOT, filter=EVERYTHING, visibility=ALL), 100)


class Log:
    """Counts reads of pages of ten events."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.fails = False

    async def read(self, start: int) -> Found:
        self.reads.append(start)
        await self.may_read.wait()
        if self.fails:
            raise ValueError
        events = [event(start + number) for number in range(1, 11)]
        return Batch(events, size=1_000), start + 10


async def test_a_page_is_read_once():
    pages, log, readers = History(1_000_000), Log(), ring()

    first, *others = await asyncio.gather(*(pages.get(readers, 0, log.read) for _ in range(5)))

    assert log.reads == [0]
    assert all(other[0] is first[0] for other in others)
    assert (await pages.get(readers, 0, log.read))[0] is first[0]


async def test_a_reader_within_a_page_gets_the_rest_of_it():
    pages, log, readers = History(1_000_000), Log(), ring()
    await pages.get(readers, 0, log.read)

    batch, end = await pages.get(readers, 4, log.read)

    assert [each.position for each in batch.events] == [5, 6, 7, 8, 9, 10]
    assert end == 10
    await pages.get(readers, 10, log.read)
    assert log.reads == [0, 10]


async def test_rings_share_nothing():
    pages, log = History(1_000_000), Log()

    await pages.get(ring(), 0, log.read)
    await pages.get(ring(), 0, log.read)

    assert log.reads == [0, 0]


async def test_pages_are_limited_in_bytes():
    pages, log, readers = History(30_000), Log(), ring()

    for start in (0, 10, 20, 10, 20, 0):
        await pages.get(readers, start, log.read)

    assert log.reads == [0, 10, 20, 0]
    assert pages._starts[readers] == [0, 20]


async def test_a_page_is_shared_for_a_second_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAGE_SECONDS", 0)
    pages, log, readers = History(1_000_000), Log(), ring()

    await pages.get(readers, 0, log.read)
    await pages.get(readers, 0, log.read)
    pages.expire()

    assert log.reads == [0, 0]
    assert (len(pages._pages), pages._starts) == (0, {})


async def test_a_gap_is_for_those_who_start_where_it_does():
    pages, log, readers = History(1_000_000), Log(), ring()

    async def gap(start: int) -> Found:
        return Batch(gap=Gap(after=start, floor=10, reason="expired")), 10

    await pages.get(readers, 0, gap)
    at, _ = await pages.get(readers, 0, log.read)
    within, _ = await pages.get(readers, 3, log.read)

    assert at.gap is not None
    assert within.gap is None


async def test_a_read_that_fails_or_is_cancelled_leaves_the_others_to_read():
    pages, log, readers = History(1_000_000), Log(), ring()
    log.may_read.clear()
    tasks = [asyncio.create_task(pages.get(readers, 0, log.read)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    log.fails = True
    log.may_read.set()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(each, ValueError) for each in found[1:])
    assert pages._reads == {}


async def test_a_slow_read_of_another_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.001)
    pages, log, quick, readers = History(1_000_000), Log(), Log(), ring()
    log.may_read.clear()
    slow = asyncio.create_task(pages.get(readers, 0, log.read))
    await asyncio.sleep(0)

    await pages.get(readers, 0, quick.read)

    assert quick.reads == [0]
    assert not slow.done()
    log.may_read.set()
    await slow


async def test_a_ring_without_readers_keeps_no_page():
    pages, log, readers = History(1_000_000), Log(), ring()
    await pages.get(readers, 0, log.read)

    pages.discard(readers)

    assert (len(pages._pages), pages._starts) == (0, {})
