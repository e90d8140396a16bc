"""Head watches: one connection listens for the commits of all processes.

A notification is a hint; behind it, the head is read every second or so.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from deploylog.errors import LogReset, StoreUnavailable
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.postgres.append import CHANNEL
from deploylog.store.postgres.connection import connect_listener, first_line
from deploylog.store.postgres.course import Course, check_course

#: About how many seconds the head is read after at the latest.
POLL_SECONDS = 1.0

#: About how many seconds a lost connection is made again after.
_RETRY_SECONDS = 0.5

_LOGGER = logging.getLogger(__name__)


@asynccontextmanager
async def listening(conninfo: str, notifier: HeadNotifier, course: Course) -> AsyncIterator[None]:
    """Notify ``notifier`` of commits of every process while in the block.

    Ends it with LogReset when the log left its ``course``.
    """
    task = asyncio.create_task(_listen_until_reset(conninfo, notifier, course))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen_until_reset(conninfo: str, notifier: HeadNotifier, course: Course) -> None:
    try:
        await _keep_listening(conninfo, notifier, course)
    except LogReset as reset:
        notifier.end(reset)


async def _keep_listening(conninfo: str, notifier: HeadNotifier, course: Course) -> None:
    is_known = False
    while True:
        try:
            async with await connect_listener(conninfo) as connection:
                is_known = False
                await connection.execute(f"LISTEN {CHANNEL}")
                await asyncio.to_thread(check_course, conninfo, course)
                await _listen(connection, notifier, course)
        except (psycopg.Error, StoreUnavailable) as error:
            if not is_known:
                _LOGGER.warning("cannot listen for new events for now: %s", first_line(error))
            is_known = True
        await asyncio.sleep(_jittered(_RETRY_SECONDS))


async def _listen(
    connection: "psycopg.AsyncConnection[tuple[Any, ...]]", notifier: HeadNotifier, course: Course
) -> None:
    while True:
        # After the hint, and at once after each connection: what was missed meanwhile is seen.
        cursor = await connection.execute(NEWEST)
        for head, epoch, checksum in await cursor.fetchall():
            if epoch != course.epoch:
                raise LogReset
            if checksum is not None:
                course.saw((head, checksum))
            notifier.committed(head)
        async for _ in connection.notifies(timeout=_jittered(POLL_SECONDS), stop_after=1):
            pass


# Not a join: planned while the partition is empty, it reads all of the partition ever after.
NEWEST = """
SELECT l.head, l.epoch, (SELECT e.checksum FROM events AS e WHERE e.position = l.head) FROM log AS l
"""


def _jittered(seconds: float) -> float:
    """So that processes do not ask at the same moments."""
    return seconds * random.uniform(0.5, 1.5)
