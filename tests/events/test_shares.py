"""Shares: callers take turns, and none holds everything."""

import asyncio

import pytest

from deploylog.events.shares import Shares


async def test_a_caller_gets_no_more_than_its_share():
    shares = Shares(4, share=2)
    for _ in range(2):
        await shares.take("ann")

    waiting = asyncio.create_task(shares.take("ann"))
    await shares.take("bob")
    assert not waiting.done()
    shares.give("ann")

    assert await waiting == 1
    assert shares.held == 3


async def test_callers_that_wait_are_served_in_turn():
    shares = Shares(1, share=1)
    await shares.take("ann")
    served: list[str] = []

    async def take(caller: str) -> None:
        await shares.take(caller)
        served.append(caller)
        shares.give(caller)

    async with asyncio.TaskGroup() as tasks:
        for caller in ("ann", "ann", "ann", "bob"):
            tasks.create_task(take(caller))
        await asyncio.sleep(0)
        shares.give("ann")

    assert served == ["ann", "bob", "ann", "ann"]


async def test_a_large_request_is_not_overtaken_for_ever():
    shares = Shares(4, share=4)
    await shares.take("ann", 2)
    large = asyncio.create_task(shares.take("bob", 4))
    await asyncio.sleep(0)

    small = asyncio.create_task(shares.take("eve", 1))
    await asyncio.sleep(0)
    assert not small.done()
    shares.give("ann", 2)

    assert await large == 4


async def test_a_request_that_is_cancelled_takes_nothing():
    shares = Shares(1, share=1)
    await shares.take("ann")
    cancelled = asyncio.create_task(shares.take("bob"))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    shares.give("ann")

    assert shares.held == 0
    assert await shares.take("eve") == 1


async def test_a_request_that_is_cancelled_as_it_is_served_gives_back():
    shares = Shares(1, share=1)
    await shares.take("ann")
    served = asyncio.create_task(shares.take("bob"))
    await asyncio.sleep(0)
    shares.give("ann")
    served.cancel()

    with pytest.raises(asyncio.CancelledError):
        await served

    assert shares.held == 0


async def test_a_request_that_was_just_cancelled_is_not_served():
    shares = Shares(1, share=1)
    await shares.take("ann")
    cancelled = asyncio.create_task(shares.take("bob"))
    behind = asyncio.create_task(shares.take("eve"))
    await asyncio.sleep(0)

    cancelled.cancel()
    shares.give("ann")

    async with asyncio.timeout(10):
        assert await behind == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    shares.give("eve")
    assert shares.held == 0
