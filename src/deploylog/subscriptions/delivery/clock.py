"""Time and chance, passed in so that tests control both."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import msgspec

#: Waits until the event is set, at most for these seconds; without a limit with ``None``.
Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]


async def wait_for(event: asyncio.Event, seconds: float | None) -> None:
    """The ``Wait`` of real time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The time and the chance that deliveries go by."""

    #: ns since 1970.
    now: Callable[[], int] = time.time_ns
    wait: Wait = wait_for
    #: Between 0 and 1.
    chance: Callable[[], float] = random.random
