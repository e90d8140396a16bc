"""Time, given from outside."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import msgspec

#: Waits until the event is set, or for so many seconds; for ever with ``None``.
Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]


async def wait_for(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until the event is set, or for so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """What deliveries ask for time and chance."""

    #: ns since 1970.
    now: Callable[[], int] = time.time_ns
    wait: Wait = wait_for
    #: Between 0 and 1.
    chance: Callable[[], float] = random.random
