"""Head watches: how tasks of an event loop learn that the log has a new head."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class HeadWatch:
    """The head, as one task has seen it."""

    def __init__(self) -> None:
        self.head = 0
        self._event = asyncio.Event()

    def move(self, head: int) -> None:
        """Move the head to ``head``, unless it is there already."""
        self.head = max(self.head, head)
        self.wake()

    def wake(self) -> None:
        """End the wait: the log may have moved, and is to be asked."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until the head moves, or may have moved."""
        await self._event.wait()
        self._event.clear()


class HeadNotifier:
    """Notifies head watches of this process's commits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` runs the tasks that wait."""
        self._loop = loop
        self._watches: set[HeadWatch] = set()

    @contextmanager
    def watch(self) -> Iterator[HeadWatch]:
        """Watch the head inside the block."""
        watch = HeadWatch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def committed(self, head: int) -> None:
        """Notify the watches; may be called from any thread."""
        if self._watches:
            self._loop.call_soon_threadsafe(self._notify, head)

    def _notify(self, head: int) -> None:
        for watch in self._watches:
            watch.move(head)
