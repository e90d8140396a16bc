"""Retention: deletes old events and change sets, on demand and on a schedule."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, Protocol
from uuid import uuid4

import msgspec

from deploylog.errors import DeploylogError, Unavailable
from deploylog.events.access import Principal
from deploylog.events.scope import ROOT
from deploylog.events.times import SECOND

#: Deletes the records of a kind from before a time (ns), and returns their number.
Delete = Callable[[int], Awaitable[int]]


class Cleanup(msgspec.Struct, frozen=True, kw_only=True):
    """One run of retention for a kind. Times are in ns since 1970 (UTC)."""

    #: UUID.
    id: str
    kind: str
    status: Literal["running", "completed", "failed"]
    started: int
    ended: int | None = None
    #: Records older than this are deleted.
    threshold: int
    deleted: int = 0
    error: str | None = None
    #: Until when the process that runs it says so; one that stopped does not renew it.
    held_until: int = 0


class Cleanups(Protocol):
    """The newest cleanups of each kind."""

    async def put(self, cleanup: Cleanup) -> None:
        """Store it under its id, and keep only the newest 50 of its kind."""
        ...

    async def get(self, kind: str, id: str) -> Cleanup:
        """Get a cleanup; raises CleanupNotFound."""
        ...

    async def running(self) -> list[Cleanup]:
        """The cleanups that have not ended."""
        ...


#: Seconds for which a process says that it runs a cleanup, and between two renewals.
HOLD_SECONDS = 15
RENEW_SECONDS = 5.0

#: Seconds between two scheduled runs.
PRUNE_SECONDS = 3600

#: Seconds between two transactions that add checksums to events recorded without one.
CHECK_SECONDS = 0.02

_DAY = 86_400 * SECOND

_LOGGER = logging.getLogger(__name__)


class Retention:
    """Deletes, on demand, the records that are older than their retention."""

    def __init__(
        self,
        cleanups: Cleanups,
        *,
        delete: Mapping[str, Delete],
        days: Mapping[str, float],
        clock: Callable[[], int],
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        """``delete`` and ``days`` go by kind.

        A kind without days, or with 0, is retained indefinitely. ``clock`` returns ns since 1970.
        """
        self._cleanups = cleanups
        self._delete = delete
        self._days = days
        self._clock = clock
        self._renew_seconds = renew_seconds
        self._tasks: asyncio.TaskGroup | None = None
        #: The cleanups that this process runs.
        self._running: dict[str, Cleanup] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run cleanups while in the block; those that a process left have failed."""
        await self._fail_abandoned()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            watching = tasks.create_task(self._watch())
            try:
                yield
            finally:
                self._tasks = None
                watching.cancel()

    async def start(self, principal: Principal, kind: str) -> Cleanup:
        """Start a cleanup; raises Forbidden."""
        principal.require("admin", ROOT)
        now = self._clock()
        days = self._days.get(kind, 0.0)
        cleanup = Cleanup(
            id=str(uuid4()),
            kind=kind,
            status="running",
            started=now,
            threshold=max(now - int(days * _DAY), 0) if days else 0,
            held_until=now + HOLD_SECONDS * SECOND,
        )
        await self._cleanups.put(cleanup)
        if self._tasks is not None:
            self._running[cleanup.id] = cleanup
            self._tasks.create_task(self._run(cleanup))
        return cleanup

    async def get(self, principal: Principal, kind: str, id: str) -> Cleanup:
        """Get a cleanup; raises Forbidden or CleanupNotFound."""
        principal.require("admin", ROOT)
        return await self._cleanups.get(kind, id.lower())

    async def _run(self, cleanup: Cleanup) -> None:
        try:
            deleted = await self._delete_old(cleanup)
            ended = self._ended(cleanup, deleted=deleted)
        except Exception as error:
            _LOGGER.exception("cleanup %s failed", cleanup.id)
            message = error.message if isinstance(error, Unavailable) else None
            ended = self._ended(cleanup, error=message or "an unexpected error occurred")
        # Not renewed any more: that would undo what follows.
        del self._running[cleanup.id]
        try:
            await self._cleanups.put(ended)
        except DeploylogError:
            _LOGGER.exception("cannot store the result of cleanup %s", cleanup.id)

    async def _delete_old(self, cleanup: Cleanup) -> int:
        """Delete old records and return their number: 0 for a kind that is not stored."""
        delete = self._delete.get(cleanup.kind)
        return await delete(cleanup.threshold) if delete is not None else 0

    def _ended(self, cleanup: Cleanup, *, deleted: int = 0, error: str | None = None) -> Cleanup:
        return msgspec.structs.replace(
            cleanup,
            status="completed" if error is None else "failed",
            ended=self._clock(),
            deleted=deleted,
            error=error,
        )

    async def _watch(self) -> None:
        """Renew what this process runs, and fail what no process runs any more."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                await self._renew()
                await self._fail_abandoned()
            except Unavailable:
                _LOGGER.exception("cannot renew cleanups; will retry")

    async def _renew(self) -> None:
        for id in list(self._running):
            if cleanup := self._running.get(id):
                until = self._clock() + HOLD_SECONDS * SECOND
                await self._cleanups.put(msgspec.structs.replace(cleanup, held_until=until))

    async def _fail_abandoned(self) -> None:
        for cleanup in await self._cleanups.running():
            if cleanup.held_until <= self._clock() and cleanup.id not in self._running:
                error = "the service stopped before the cleanup finished"
                await self._cleanups.put(self._ended(cleanup, error=error))


@asynccontextmanager
async def pruning(
    delete: Mapping[str, Delete],
    *,
    days: Mapping[str, float],
    add_checksums: Callable[[], Awaitable[bool]],
    clock: Callable[[], int],
) -> AsyncIterator[None]:
    """Delete what is older than the ``days`` of its kind, every ``PRUNE_SECONDS``."""

    async def prune() -> None:
        now = clock()
        for kind, delete_before in delete.items():
            if days.get(kind):
                deleted = await delete_before(_days_before(now, days[kind]))
                if deleted:
                    _LOGGER.info("deleted %d old %s", deleted, kind)

    async def prune_on_schedule() -> None:
        while True:
            try:
                await prune()
            except Unavailable:
                _LOGGER.exception("cannot delete old records; will retry")
            await asyncio.sleep(PRUNE_SECONDS)

    async def add_missing_checksums() -> None:
        while True:
            try:
                if not await add_checksums():
                    return
            except Unavailable:
                _LOGGER.exception("cannot add checksums; will retry")
                await asyncio.sleep(PRUNE_SECONDS)
            # Leave the writer to appends in between.
            await asyncio.sleep(CHECK_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(prune_on_schedule()),
            tasks.create_task(add_missing_checksums()),
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


def _days_before(now: int, days: float) -> int:
    return now - int(days * 86400) * SECOND
