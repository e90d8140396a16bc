"""Moved: tells those who wait in an event loop that this process has committed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class HeadWatch:
    """One waiter's view of the head."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.head = 0
        self._event = asyncio.Event()

    def move(self, head: int) -> None:
        """The head is now ``head``."""
        self.head = max(self.head, head)
        self._event.set()

    async def wait(self, seconds: float | None) -> bool:
        """Wait until the head has moved, for at most ``seconds``; return whether it has."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class HeadNotifier:
    """The head as this process's commits move it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` is where the waiters are."""
        self._loop = loop
        self._watches: set[HeadWatch] = set()

    @contextmanager
    def watch(self) -> Iterator[HeadWatch]:
        """Watch the head while in the block."""
        watch = HeadWatch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def committed(self, head: int) -> None:
        """Tell the waiters; may be called from any thread."""
        if self._watches:
            self._loop.call_soon_threadsafe(self._tell, head)

    def _tell(self, head: int) -> None:
        for watch in self._watches:
            watch.move(head)
