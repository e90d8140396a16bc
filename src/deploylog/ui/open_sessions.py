"""Which sessions are open: one that a person ends is over at every process within a second."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

from deploylog.auth.cache import TtlCache
from deploylog.auth.store import EndedSessions
from deploylog.errors import Unavailable
from deploylog.events.hub import Reader

#: Seconds between two looks for ended sessions that have open streams.
WATCH_SECONDS = 0.3

_LOGGER = logging.getLogger(__name__)


class OpenSessions:
    """Ends sessions, and the streams that they have open. Sessions are known by their token."""

    def __init__(
        self, ended: EndedSessions, *, clock: Callable[[], int], monotonic: Callable[[], float]
    ) -> None:
        """``clock`` gives ns, as in all processes; ``monotonic`` seconds."""
        self._ended = ended
        self._clock = clock
        self._cache = TtlCache(self._load, clock=monotonic)
        #: Readers of open streams, and the id of the session of each.
        self._readers: dict[Reader, str] = {}

    async def is_open(self, token: str) -> bool:
        """Whether the session has not been ended, at any process."""
        return await self._cache.get(_id_of(token)) is not None

    async def end(self, token: str, *, until: int) -> None:
        """End the session, which would be over at ``until`` (ns) anyway."""
        id = _id_of(token)
        await self._ended.end(id, now=self._clock(), until=until)
        self._cache.drop(id)
        self._close({id})

    @contextmanager
    def ending(self, follow: AbstractContextManager[Reader], token: str) -> Iterator[Reader]:
        """Follow until the session ends."""
        with follow as reader:
            self._readers[reader] = _id_of(token)
            try:
                yield reader
            finally:
                del self._readers[reader]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Inside the block, close the streams of sessions that other processes end."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._watch())
            try:
                yield
            finally:
                task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if self._readers:
                    self._close(await self._ended.ended(set(self._readers.values())))
            except Unavailable:
                _LOGGER.exception("cannot check sessions; retrying")

    def _close(self, ended: set[str]) -> None:
        for reader, id in self._readers.items():
            if id in ended:
                reader.close()

    async def _load(self, id: str) -> bool | None:
        return None if await self._ended.ended([id]) else True


def _id_of(token: str) -> str:
    """What the store knows a session by: a copy of the store discloses no token."""
    return hashlib.sha256(token.encode()).hexdigest()
