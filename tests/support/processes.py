"""No processes in unit tests, and many in others."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any

_EVENTS = {"os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


class NoProcesses:
    """Raises an error where a process is started, while it is enforced."""

    def __init__(self) -> None:
        self._is_enforced = False
        sys.addaudithook(self._audit)

    @contextmanager
    def enforced(self) -> Iterator[None]:
        self._is_enforced = True
        try:
            yield
        finally:
            self._is_enforced = False

    def _audit(self, event: str, _: tuple[Any, ...]) -> None:
        if self._is_enforced and event in _EVENTS:
            raise AssertionError(
                f"{event}: a unit test starts no process; mark it with pytest.mark.process"
            )


def new_processes() -> ForkServerContext:
    """Makes processes that are forked from one that has already imported the stores."""
    processes = get_context("forkserver")
    processes.set_forkserver_preload(
        ["deploylog.store.postgres.backend", "deploylog.store.sqlite.backend"]
    )
    return processes
