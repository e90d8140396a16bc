"""How a process learns that another one may have committed."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploylog.store.head_watch import HeadWatch


class WriteAheadLogWatch:
    """Whether another process may have committed, as far as the write-ahead log's time tells.

    It costs one ``stat``, so an idle service need not ask SQLite twenty times a second.
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
        self._path = path
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
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return None


@contextmanager
def polling(log: WriteAheadLogWatch, watch: HeadWatch, seconds: float) -> Iterator[None]:
    """Wake ``watch`` within ``seconds`` of a commit of another process, inside the block.

    A timer without a task: an idle service does nothing else, twenty times a second.
    """
    poll = _Poll(log, watch, seconds)
    poll.start()
    try:
        yield
    finally:
        poll.stop()


class _Poll:
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
