"""Plan files: documents on this machine that clients may name, below configured folders only."""

import os
import stat
from collections.abc import Sequence
from pathlib import PurePosixPath

from deploylog.errors import PlanNotFound, TooLarge

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Not blocking: opening a pipe would wait for somebody to write into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PlanFiles:
    """Reads files below some folders, and nothing that is elsewhere."""

    def __init__(self, folders: Sequence[str], *, limit: int) -> None:
        """``folders`` are absolute; files have at most ``limit`` bytes."""
        self._folders = [PurePosixPath(folder) for folder in folders]
        self._limit = limit

    def read(self, directory: str, file: str) -> bytes:
        """The file's content; raises PlanNotFound, whatever the reason, or TooLarge."""
        path = PurePosixPath(directory) / file
        for folder in self._folders:
            if path.is_relative_to(folder):
                return self._read(folder, path.relative_to(folder).parts)
        raise PlanNotFound

    def _read(self, folder: PurePosixPath, parts: Sequence[str]) -> bytes:
        # Parts are opened one after the other, no link followed: what was looked at is what
        # is read, whoever renames things meanwhile.
        if not parts or ".." in parts or any("\0" in part for part in parts):
            raise PlanNotFound
        try:
            content = _read_below(str(folder), parts, self._limit + 1)
        except OSError as error:
            raise PlanNotFound from error
        if len(content) > self._limit:
            raise TooLarge(f"a plan has at most {self._limit} bytes")
        return content


def _read_below(folder: str, parts: Sequence[str], most: int) -> bytes:
    """Up to ``most`` bytes of the file; raises OSError."""
    opened = _open_below(folder, parts)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(f"{parts[-1]!r} is no file")
        with os.fdopen(opened, "rb", closefd=False) as reader:
            return reader.read(most)
    finally:
        os.close(opened)


def _open_below(folder: str, parts: Sequence[str]) -> int:
    """A descriptor of the file; raises OSError."""
    # The configured folder itself may be a link: the operator chose it.
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts[:-1]:
        try:
            below = os.open(part, _FOLDER, dir_fd=at)
        finally:
            os.close(at)
        at = below
    try:
        return os.open(parts[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)
