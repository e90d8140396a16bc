"""Sealing: full segments are stored, while the service runs and when a store is opened."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from deploylog.errors import Stopping, StoreUnavailable
from deploylog.events.index.segments import GrowingSegment
from deploylog.store.head_watch import HeadNotifier
from deploylog.store.live_index import ConnectionT, IndexTables, LiveIndex, grown_from_rows

#: Seconds before a failed step is tried again.
_RETRY_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


def seal_full_segments(
    tables: IndexTables[ConnectionT],
    connection: ConnectionT,
    write: Callable[[GrowingSegment], None],
) -> None:
    """Seal what an earlier process left, or a program without an index recorded.

    ``write`` stores a segment, in a transaction, so an interrupted run goes on where it stopped.
    """
    pending = tables.snapshot(connection).unsealed
    for done, number in enumerate(pending):
        if len(pending) > 1:
            _LOGGER.warning("indexing the events: segment %d of %d", done + 1, len(pending))
        write(grown_from_rows(tables, connection, number))


@asynccontextmanager
async def keep_sealing(
    index: LiveIndex[ConnectionT],
    notifier: HeadNotifier,
    *,
    catch_up: Callable[[], Awaitable[object]],
    write: Callable[[GrowingSegment], Awaitable[object]],
) -> AsyncIterator[None]:
    """Feed and seal segments inside the block.

    ``catch_up`` lets the index know the log; ``write`` stores a segment, unless another process
    does.
    """
    filled = asyncio.Event()
    tasks = [
        asyncio.create_task(_feed_as_committed(index, notifier, catch_up, filled)),
        asyncio.create_task(_seal_as_filled(index, catch_up, write, filled)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _feed_as_committed(
    index: LiveIndex[ConnectionT],
    notifier: HeadNotifier,
    catch_up: Callable[[], Awaitable[object]],
    filled: asyncio.Event,
) -> None:
    """Feed segments, also while others are sealed: too much must not wait for it."""
    with notifier.watch() as committed:
        # So that the first query need not wait for the newest events of an earlier process.
        await _tried(catch_up)
        while True:
            if index.full():
                filled.set()
            await committed.wait()
            if index.is_due(committed.head):
                await _tried(catch_up)


async def _seal_as_filled(
    index: LiveIndex[ConnectionT],
    catch_up: Callable[[], Awaitable[object]],
    write: Callable[[GrowingSegment], Awaitable[object]],
    filled: asyncio.Event,
) -> None:
    async def seal() -> None:
        for segment in index.full():
            await write(segment)
            await catch_up()

    while True:
        await filled.wait()
        filled.clear()
        if not await _tried(seal):
            filled.set()


async def _tried(step: Callable[[], Awaitable[object]]) -> bool:
    """Whether the step succeeded. Raises Stopping; after another failure some time has passed."""
    try:
        await step()
    except Stopping:
        raise
    except StoreUnavailable as error:
        _LOGGER.warning("cannot index events for now: %s", error)
    except Exception:
        # Without these tasks, what is not sealed would grow until memory ends.
        _LOGGER.exception("cannot index events; retrying")
    else:
        return True
    await asyncio.sleep(_RETRY_SECONDS)
    return False
