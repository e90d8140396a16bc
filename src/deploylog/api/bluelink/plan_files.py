"""Plan files: documents on this machine that clients may name, below configured folders only."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from deploylog.errors import PlanNotFound, TooLarge

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Not blocking: opening a pipe would wait for somebody to write into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PlanFiles:
    """Reads files below some folders, and nothing that is elsewhere."""

    def __init__(
        self, folders: Sequence[str], *, limit: int, reserved: Callable[[os.stat_result], bool]
    ) -> None:
        """``folders`` are absolute; files have at most ``limit`` bytes; those that are
        ``reserved`` are never opened.
        """
        self._reserved = reserved
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
            content = self._read_below(str(folder), parts)
        except OSError as error:
            raise PlanNotFound from error
        if len(content) > self._limit:
            raise TooLarge(f"a plan has at most {self._limit} bytes")
        return content

    def _read_below(self, folder: str, parts: Sequence[str]) -> bytes:
        """The file, up to one byte more than it may have; raises OSError."""
        opened = self._open_below(folder, parts)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise OSError(f"{parts[-1]!r} is no file")
            with os.fdopen(opened, "rb", closefd=False) as reader:
                return reader.read(self._limit + 1)
        finally:
            os.close(opened)

    def _open_below(self, folder: str, parts: Sequence[str]) -> int:
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
            # Before it is opened: closing a file of the store would drop SQLite's locks on it.
            if self._reserved(os.stat(parts[-1], dir_fd=at, follow_symlinks=False)):
                raise OSError(f"{parts[-1]!r} is the store's")
            return os.open(parts[-1], _FILE, dir_fd=at)
        finally:
            os.close(at)
