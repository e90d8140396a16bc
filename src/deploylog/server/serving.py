"""Which process serves a store in a file: said to another one that is started beside it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def claim(path: Path, address: str) -> Iterator[str | None]:
    """Yield who serves already, as a phrase, or ``None``; say meanwhile that it is this process.

    ``path`` is a file beside the store.
    """
    try:
        file = _open_as_owner(path)
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


def _open_as_owner(path: Path) -> TextIO:
    """Like everything beside the store, only its owner can read it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _other(path: Path) -> str | None:
    pid, _, address = path.read_text(encoding="utf-8").partition(" ")
    if pid == str(os.getppid()):
        # A worker of the process that serves.
        return None
    return f"process {pid} at {address}"
