"""A clock that is stepped while the service in this process runs.

The arguments are a file with the seconds to add to the clock, the protection to take out (or
``-``), and those of ``deploylog``.
"""

import runpy
import sys
import time
from pathlib import Path


class SteppedClock:
    """The system's clock, and what the file adds to it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time_ns = time.time_ns

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._time_ns() + int(self._file.read_text() or 0) * 1_000_000_000

    def time(self) -> float:
        """Seconds since 1970."""
        return self.time_ns() / 1e9


if __name__ == "__main__":
    clock = SteppedClock(Path(sys.argv[1]))
    # Before anything is imported that keeps a reference to the functions.
    time.time_ns, time.time = clock.time_ns, clock.time
    without, rest = sys.argv[2], sys.argv[3:]
    module = "deploylog" if without == "-" else "faults.weakened"
    sys.argv = [module, *(() if without == "-" else (without,)), *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
