"""Lines of progress on standard error, for a command that reads many events."""

import sys

#: Events between two lines.
_STEP = 100_000


class Steps:
    """Prints how many of how many events are done, when there are many."""

    def __init__(self, done: str) -> None:
        """``done`` is what is done with them, such as ``verified``."""
        self._done = done
        self._next = _STEP

    def __call__(self, read: int, total: int) -> None:
        if read >= self._next:
            print(f"deploylog: {read} of {total} events {self._done}", file=sys.stderr, flush=True)
            self._next = read - read % _STEP + _STEP
