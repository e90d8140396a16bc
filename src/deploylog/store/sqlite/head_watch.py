"""How a process learns that another one may have committed."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from deploylog.store.head_watch import HeadWatch

if sys.platform == "linux":
    from inotify_simple import INotify, flags

#: Seconds between two looks at a file of whose writes the system notifies us.
_RARE_SECONDS = 1.0


class WriteAheadLogWatch:
    """Whether another process may have committed, by the time of the write-ahead log.

    It costs one ``stat``, which is less than to ask SQLite.
    """

    #: A time of modification is trusted once it is this old, in ns: it may be coarse.
    _SETTLED = 1_000_000_000

    #: ns after which the answer is yes in any case, for file systems that keep no such time.
    _CERTAIN = 5_000_000_000

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``path`` is the write-ahead log; the clocks return ns."""
        self.path = path
        self._clock = clock
        self._monotonic = monotonic
        self._modified = -1
        self._asked = 0

    def may_have_moved(self) -> bool:
        """Whether something may have been written since this was last true."""
        now, modified = self._monotonic(), self._time()
        is_new = modified is None or modified != self._modified
        is_young = modified is not None and modified > self._clock() - self._SETTLED
        if is_new or is_young or now - self._asked >= self._CERTAIN:
            self._modified = modified if modified is not None else -1
            self._asked = now
            return True
        return False

    def _time(self) -> int | None:
        try:
            return os.stat(self.path).st_mtime_ns
        except OSError:
            return None


@contextmanager
def noticing(log: WriteAheadLogWatch, watch: HeadWatch, seconds: float) -> Iterator[None]:
    """Wake ``watch`` within ``seconds`` of a commit of another process, inside the block.

    Linux notifies us when the file is written, so that an idle service need not look. Elsewhere a
    timer looks so often. On Linux one looks once a second all the same, for file systems whose
    other writers it does not see.
    """
    notices = Notices.of(log.path, watch, seconds)
    poll = _Poll(log, watch, _RARE_SECONDS if notices else seconds)
    poll.start()
    try:
        yield
    finally:
        poll.stop()
        if notices:
            notices.stop()


class _Poll:
    """Looks at the time of the file, by a timer without a task."""

    def __init__(self, log: WriteAheadLogWatch, watch: HeadWatch, seconds: float) -> None:
        self._log = log
        self._watch = watch
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._log.may_have_moved():
            self._watch.wake()
        self.start()


class Notices:
    """Reads the notifications of inotify(7) for the file's folder: the file may be replaced.

    After a notice it rests, since a busy writer, this process too, would cause one for each commit.
    """

    @classmethod
    def of(cls, path: str, watch: HeadWatch, seconds: float) -> Self | None:
        """None where the system has no inotify, or no more of it for this user."""
        if sys.platform != "linux":
            return None
        try:
            return cls(path, watch, seconds)
        except OSError:
            return None

    def __init__(self, path: str, watch: HeadWatch, seconds: float) -> None:
        """``seconds`` is the rest after a notice."""
        folder, self._name = os.path.split(path)
        self._watch = watch
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._inotify = INotify(nonblocking=True)
        self._inotify.add_watch(folder or ".", flags.MODIFY | flags.CREATE)
        self._rest: asyncio.TimerHandle | None = None
        self._listen()

    def stop(self) -> None:
        if self._rest:
            self._rest.cancel()
        self._loop.remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _listen(self) -> None:
        self._rest = None
        self._loop.add_reader(self._inotify.fileno(), self._look)

    def _look(self) -> None:
        self._loop.remove_reader(self._inotify.fileno())
        self._rest = self._loop.call_later(self._seconds, self._listen)
        self.read()

    def read(self) -> None:
        """Wake the watch if a notification is about the file."""
        # An overflow has no name: something was written.
        if any(event.name in (self._name, "") for event in self._inotify.read(timeout=0)):
            self._watch.wake()
