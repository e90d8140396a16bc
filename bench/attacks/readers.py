"""Attacks with a read-only key: filters that no index supports, and unread streams."""

import asyncio
from contextlib import AsyncExitStack

from bench.attacks.target import Target, repeat

_EVENTS = 60_000
_LARGE_EVENTS = 640
_LARGE_BYTES = 200_000
#: The number of events that a view of a stream buffers, whatever their size.
_VIEWED_EVENTS = 4_096


async def many_events(target: Target) -> None:
    """Record 60,000 events."""
    await target.append(_EVENTS, batch=2_000, size=0)


async def large_events(target: Target) -> None:
    """Record 640 events of 200 kB."""
    await target.append(_LARGE_EVENTS, batch=32, size=_LARGE_BYTES)


async def slow_filters(target: Target) -> None:
    """40 queries at once under one key, each with a filter of 100 values that no event has."""
    slow = "&".join(f"subject=never{n}.*" for n in range(100))
    await repeat(target, [target.request("GET", f"/log/v1/events?{slow}", b"")], at_once=40)


async def unread_streams(target: Target) -> None:
    """200 unread streams from the start of the log."""
    async with AsyncExitStack() as open_ones:
        await _leave_unread(target, open_ones, 200)
        await asyncio.Event().wait()


async def unread_large_streams(target: Target) -> None:
    """50 such streams of large events."""
    async with AsyncExitStack() as open_ones:
        await _leave_unread(target, open_ones, 50)
        await asyncio.Event().wait()


async def large_view(target: Target) -> None:
    """One unread stream, while 4,096 large events are recorded."""
    async with AsyncExitStack() as open_ones:
        await _leave_unread(target, open_ones, 1)
        await target.append(_VIEWED_EVENTS, batch=32, size=_LARGE_BYTES)
        await asyncio.Event().wait()


async def _leave_unread(target: Target, open_ones: AsyncExitStack, number: int) -> None:
    """Open streams that are closed with the stack."""
    request = target.request("GET", "/log/v1/events/stream?from=start", b"")
    for _ in range(number):
        _, writer = await open_ones.enter_async_context(target.connection())
        writer.write(request)
