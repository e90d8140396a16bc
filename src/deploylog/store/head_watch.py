"""Head watches: how tasks of an event loop learn that the log has a new head."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class HeadWatch:
    """The head, as one task has seen it."""

    def __init__(self) -> None:
        self.head = 0
        self._event = asyncio.Event()
        self._end: Exception | None = None

    def move(self, head: int) -> None:
        """Move the head to ``head``, unless it is there already."""
        self.head = max(self.head, head)
        self.wake()

    def wake(self) -> None:
        """End the wait: the log may have moved, and is to be asked."""
        self._event.set()

    def end(self, error: Exception) -> None:
        """Make ``wait`` raise ``error`` from now on."""
        self._end = error
        self.wake()

    async def wait(self) -> None:
        """Wait until the head moves, or may have moved.

        Raises what the watch was ended with.
        """
        await self._event.wait()
        if self._end is not None:
            raise self._end
        self._event.clear()


class HeadNotifier:
    """Notifies head watches of this process's commits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` runs the tasks that wait."""
        self._loop = loop
        self._watches: set[HeadWatch] = set()
        self._end: Exception | None = None

    @contextmanager
    def watch(self) -> Iterator[HeadWatch]:
        """Watch the head inside the block."""
        watch = HeadWatch()
        if self._end is not None:
            watch.end(self._end)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def committed(self, head: int) -> None:
        """Notify the watches; may be called from any thread."""
        if self._watches:
            self._loop.call_soon_threadsafe(self._notify, head)

    def end(self, error: Exception) -> None:
        """End the watches, also those to come, with ``error``; called in the loop."""
        self._end = error
        for watch in self._watches:
            watch.end(error)

    def _notify(self, head: int) -> None:
        for watch in self._watches:
            watch.move(head)
