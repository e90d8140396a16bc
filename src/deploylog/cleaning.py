"""Cleaning: old events and change sets are forgotten when an administrator asks for it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec

from deploylog.errors import DeploylogError, Unavailable
from deploylog.principals import Principal
from deploylog.scope import ROOT
from deploylog.store.base import Cleanup, CleanupKind, Store
from deploylog.times import SECOND

_DAY = 86_400 * SECOND

_LOGGER = logging.getLogger(__name__)


class Cleaning:
    """Forgets what is older than it need be."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int],
        event_days: float,
        changeset_retention_days: float,
    ) -> None:
        """``clock`` gives ns since 1970; 0 days keep everything."""
        self._store = store
        self._clock = clock
        self._days: dict[CleanupKind, float] = {
            "events": event_days,
            "changesets": changeset_retention_days,
        }
        self._tasks: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work while in the block; what an earlier process did not end has failed."""
        await self._fail_unended()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            yield
            self._tasks = None

    async def start(self, principal: Principal, kind: CleanupKind) -> Cleanup:
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
        await self._store.cleanups.put(cleanup)
        if self._tasks is not None:
            self._tasks.create_task(self._run(cleanup))
        return cleanup

    async def get(self, principal: Principal, kind: CleanupKind, id: str) -> Cleanup:
        """How far it is; raises Forbidden or CleanupNotFound."""
        principal.require("admin", ROOT)
        return await self._store.cleanups.get(kind, id.lower())

    async def _run(self, cleanup: Cleanup) -> None:
        try:
            forgotten = await self._forget(cleanup)
            ended = self._ended(cleanup, forgotten=forgotten)
        except Exception as error:
            _LOGGER.exception("cleanup %s failed", cleanup.id)
            message = error.message if isinstance(error, Unavailable) else None
            ended = self._ended(cleanup, error=message or "an unexpected error occurred")
        try:
            await self._store.cleanups.put(ended)
        except DeploylogError:
            _LOGGER.exception("cannot keep the end of cleanup %s", cleanup.id)

    async def _forget(self, cleanup: Cleanup) -> int:
        """Forget, and how many; of other kinds nothing is kept in the first place."""
        if cleanup.kind == "events":
            return await self._store.log.prune(cleanup.threshold)
        if cleanup.kind == "changesets":
            return await self._store.changesets.forget(cleanup.threshold)
        return 0

    def _ended(self, cleanup: Cleanup, *, forgotten: int = 0, error: str | None = None) -> Cleanup:
        return msgspec.structs.replace(
            cleanup,
            status="completed" if error is None else "failed",
            ended=self._clock(),
            forgotten=forgotten,
            error=error,
        )

    async def _fail_unended(self) -> None:
        for cleanup in await self._store.cleanups.running():
            error = "the service ended before the cleanup did"
            await self._store.cleanups.put(self._ended(cleanup, error=error))
