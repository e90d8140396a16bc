"""Which process serves a store in a file: said to another one that is started beside it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claim(path: Path, address: str) -> Iterator[str | None]:
    """Yield who serves already, as a phrase, or ``None``; say meanwhile that it is this process.

    ``path`` is a file beside the store.
    """
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError:
        # Opening the store says what is wrong with its folder.
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield _other(path)
            return
        file.truncate(0)
        file.write(f"{os.getpid()} {address}")
        file.flush()
        # The lock ends with the process, also when it is killed: the file may stay.
        yield None


def _other(path: Path) -> str | None:
    pid, _, address = path.read_text(encoding="utf-8").partition(" ")
    if pid == str(os.getppid()):
        # A worker of the process that serves.
        return None
    return f"process {pid} at {address}"
