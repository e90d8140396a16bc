"""Sealing: full segments are stored, while the service runs and when a store is opened."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

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
    task = asyncio.create_task(_seal_as_committed(index, notifier, catch_up, write))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _seal_as_committed(
    index: LiveIndex[ConnectionT],
    notifier: HeadNotifier,
    catch_up: Callable[[], Awaitable[object]],
    write: Callable[[GrowingSegment], Awaitable[object]],
) -> None:
    with notifier.watch() as committed:
        with suppress(StoreUnavailable, Stopping):
            # So that the first query need not wait for the newest events of an earlier process.
            await catch_up()
        while True:
            await committed.wait()
            if not index.is_due(committed.head):
                continue
            try:
                await catch_up()
                for segment in index.full():
                    await write(segment)
                    await catch_up()
            except Stopping:
                return
            except StoreUnavailable as error:
                _LOGGER.warning("cannot index events for now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # Without this task, what is not sealed would grow until memory ends.
                _LOGGER.exception("cannot index events; retrying")
                await asyncio.sleep(_RETRY_SECONDS)
