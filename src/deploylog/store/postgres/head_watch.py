"""Head watches: one connection listens for the commits of all processes.

A notification is a hint; behind it, the head is read every second or so.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from deploylog.store.head_watch import HeadNotifier
from deploylog.store.postgres.append import CHANNEL
from deploylog.store.postgres.connection import first_line

#: About how many seconds the head is read after at the latest.
POLL_SECONDS = 1.0

#: About how many seconds a lost connection is made again after.
_RETRY_SECONDS = 0.5

_LOGGER = logging.getLogger(__name__)


@asynccontextmanager
async def listening(conninfo: str, notifier: HeadNotifier) -> AsyncIterator[None]:
    """Notify ``notifier`` of commits of every process while in the block."""
    task = asyncio.create_task(_keep_listening(conninfo, notifier))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_listening(conninfo: str, notifier: HeadNotifier) -> None:
    is_known = False
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True
            ) as connection:
                is_known = False
                await connection.execute(f"LISTEN {CHANNEL}")
                await _listen(connection, notifier)
        except psycopg.Error as error:
            if not is_known:
                _LOGGER.warning("cannot listen for new events for now: %s", first_line(error))
            is_known = True
        await asyncio.sleep(_jittered(_RETRY_SECONDS))


async def _listen(
    connection: "psycopg.AsyncConnection[tuple[int]]", notifier: HeadNotifier
) -> None:
    while True:
        # After the hint, and at once after each connection: what was missed meanwhile is seen.
        cursor = await connection.execute("SELECT head FROM log")
        for (head,) in await cursor.fetchall():
            notifier.committed(head)
        async for _ in connection.notifies(timeout=_jittered(POLL_SECONDS), stop_after=1):
            pass


def _jittered(seconds: float) -> float:
    """So that processes do not ask at the same moments."""
    return seconds * random.uniform(0.5, 1.5)
