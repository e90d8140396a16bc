"""Waiting for a fact."""

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import Any

#: Seconds after which a test that waits for a fact has failed.
PATIENCE = 20


async def until(fact: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Wait until ``fact`` is true, and say what it said; it may be a coroutine."""
    async with asyncio.timeout(seconds):
        while True:
            said = fact()
            if isawaitable(said):
                said = await said
            if said:
                return said
            await asyncio.sleep(0.001)
