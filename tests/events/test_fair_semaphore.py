"""The fair semaphore: callers take turns, each up to its share."""

import asyncio

import pytest

from deploylog.events.fair_semaphore import FairSemaphore


async def test_a_caller_gets_no_more_than_its_share():
    semaphore = FairSemaphore(4, share=2)
    for _ in range(2):
        await semaphore.acquire("ann")

    waiting = asyncio.create_task(semaphore.acquire("ann"))
    await semaphore.acquire("bob")
    assert not waiting.done()
    semaphore.release("ann")

    assert await waiting == 1
    assert semaphore.in_use == 3


async def test_callers_that_wait_are_served_in_turn():
    semaphore = FairSemaphore(1, share=1)
    await semaphore.acquire("ann")
    served: list[str] = []

    async def acquire(caller: str) -> None:
        await semaphore.acquire(caller)
        served.append(caller)
        semaphore.release(caller)

    async with asyncio.TaskGroup() as tasks:
        for caller in ("ann", "ann", "ann", "bob"):
            tasks.create_task(acquire(caller))
        await asyncio.sleep(0)
        semaphore.release("ann")

    assert served == ["ann", "bob", "ann", "ann"]


async def test_small_requests_do_not_starve_a_large_one():
    semaphore = FairSemaphore(4, share=4)
    await semaphore.acquire("ann", 2)
    large = asyncio.create_task(semaphore.acquire("bob", 4))
    await asyncio.sleep(0)

    small = asyncio.create_task(semaphore.acquire("eve", 1))
    await asyncio.sleep(0)
    assert not small.done()
    semaphore.release("ann", 2)

    assert await large == 4


async def test_a_cancelled_request_holds_nothing():
    semaphore = FairSemaphore(1, share=1)
    await semaphore.acquire("ann")
    cancelled = asyncio.create_task(semaphore.acquire("bob"))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    semaphore.release("ann")

    assert semaphore.in_use == 0
    assert await semaphore.acquire("eve") == 1


async def test_a_request_cancelled_while_it_is_served_releases_its_amount():
    semaphore = FairSemaphore(1, share=1)
    await semaphore.acquire("ann")
    served = asyncio.create_task(semaphore.acquire("bob"))
    await asyncio.sleep(0)
    semaphore.release("ann")
    served.cancel()

    with pytest.raises(asyncio.CancelledError):
        await served

    assert semaphore.in_use == 0


async def test_a_request_that_was_just_cancelled_is_not_served():
    semaphore = FairSemaphore(1, share=1)
    await semaphore.acquire("ann")
    cancelled = asyncio.create_task(semaphore.acquire("bob"))
    behind = asyncio.create_task(semaphore.acquire("eve"))
    await asyncio.sleep(0)

    cancelled.cancel()
    semaphore.release("ann")

    async with asyncio.timeout(10):
        assert await behind == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    semaphore.release("eve")
    assert semaphore.in_use == 0
