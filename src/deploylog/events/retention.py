"""Retention: what is old is deleted, on demand and by schedule."""

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

#: What old things of a kind are deleted by: those before a time (ns); returns how many.
Delete = Callable[[int], Awaitable[int]]


class Cleanup(msgspec.Struct, frozen=True, kw_only=True):
    """One time that old things were, or are being, forgotten. Times in ns since 1970 (UTC)."""

    #: UUID.
    id: str
    kind: str
    status: Literal["running", "completed", "failed"]
    started: int
    ended: int | None = None
    #: What is older than this is forgotten.
    threshold: int
    deleted: int = 0
    error: str | None = None


class Cleanups(Protocol):
    """The newest cleanups of each kind."""

    async def put(self, cleanup: Cleanup) -> None:
        """Keep it, instead of what was kept under its id. Only the newest 50 of a kind stay."""
        ...

    async def get(self, kind: str, id: str) -> Cleanup:
        """The cleanup; raises CleanupNotFound."""
        ...

    async def running(self) -> list[Cleanup]:
        """Those that have not ended."""
        ...


#: Seconds between two looks for what need not be retained any longer.
PRUNE_SECONDS = 3600

#: Seconds between two transactions that give events of old their checksum.
CHECK_SECONDS = 0.02

_DAY = 86_400 * SECOND

_LOGGER = logging.getLogger(__name__)


class Retention:
    """Forgets what is older than it need be."""

    def __init__(
        self,
        cleanups: Cleanups,
        *,
        delete: Mapping[str, Delete],
        days: Mapping[str, float],
        clock: Callable[[], int],
    ) -> None:
        """``delete`` and ``days`` go by kind: how to delete what is older than so many days. A
        kind without days, or with 0, keeps everything. ``clock`` gives ns since 1970.
        """
        self._cleanups = cleanups
        self._delete = delete
        self._days = days
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while in the block; what an earlier process did not end has failed."""
        await self._fail_unended()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            yield
            self._tasks = None

    async def start(self, principal: Principal, kind: str) -> Cleanup:
        """Begin to forget what is old; raises Forbidden."""
        principal.require("admin", ROOT)
        now = self._clock()
        days = self._days.get(kind, 0.0)
        cleanup = Cleanup(
            id=str(uuid4()),
            kind=kind,
            status="running",
            started=now,
            threshold=max(now - int(days * _DAY), 0) if days else 0,
        )
        await self._cleanups.put(cleanup)
        if self._tasks is not None:
            self._tasks.create_task(self._run(cleanup))
        return cleanup

    async def get(self, principal: Principal, kind: str, id: str) -> Cleanup:
        """How far it is; raises Forbidden or CleanupNotFound."""
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
        try:
            await self._cleanups.put(ended)
        except DeploylogError:
            _LOGGER.exception("cannot keep the end of cleanup %s", cleanup.id)

    async def _delete_old(self, cleanup: Cleanup) -> int:
        """Delete what is old; how many. Of a kind that is not stored there is nothing to delete."""
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

    async def _fail_unended(self) -> None:
        for cleanup in await self._cleanups.running():
            error = "the service ended before the cleanup did"
            await self._cleanups.put(self._ended(cleanup, error=error))


@asynccontextmanager
async def pruning(
    delete: Mapping[str, Delete],
    *,
    days: Mapping[str, float],
    add_checksums: Callable[[], Awaitable[bool]],
    clock: Callable[[], int],
) -> AsyncIterator[None]:
    """Delete, now and then, what is older than the ``days`` of its kind."""

    async def prune() -> None:
        now = clock()
        for kind, delete_before in delete.items():
            if days.get(kind):
                deleted = await delete_before(_days_before(now, days[kind]))
                if deleted:
                    _LOGGER.info("deleted %d old %s", deleted, kind)

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
                if not await add_checksums():
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
