"""Upkeep: what is old is forgotten. A part of the composition root."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from deploylog.errors import Unavailable
from deploylog.settings import Settings
from deploylog.store.base import Store
from deploylog.times import SECOND

#: Seconds between two looks for what need not be retained any longer.
PRUNE_SECONDS = 3600

#: Seconds between two transactions that give events of old their checksum.
CHECK_SECONDS = 0.02

_LOGGER = logging.getLogger(__name__)


@asynccontextmanager
async def pruning(
    store: Store, settings: Settings, clock: Callable[[], int]
) -> AsyncIterator[None]:
    """Forget, now and then, what is older than it is to be kept."""

    async def prune() -> None:
        now = clock()
        if settings.event_retention_days:
            forgotten = await store.log.prune(_days_before(now, settings.event_retention_days))
            if forgotten:
                _LOGGER.info("forgot %d events", forgotten)
        if settings.attempt_retention_days:
            forgotten = await store.deliveries.forget(
                _days_before(now, settings.attempt_retention_days)
            )
            if forgotten:
                _LOGGER.info("forgot %d attempts to deliver", forgotten)

    async def go_on() -> None:
        while True:
            try:
                await prune()
            except Unavailable:
                _LOGGER.exception("cannot forget what is old; trying again later")
            await asyncio.sleep(PRUNE_SECONDS)

    async def check() -> None:
        while True:
            try:
                if not await store.log.add_checksums():
                    return
            except Unavailable:
                _LOGGER.exception("cannot add checksums; trying again later")
                await asyncio.sleep(PRUNE_SECONDS)
            # Appends need the writer, too.
            await asyncio.sleep(CHECK_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(go_on()), tasks.create_task(check())]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


def _days_before(now: int, days: float) -> int:
    return now - int(days * 86400) * SECOND
