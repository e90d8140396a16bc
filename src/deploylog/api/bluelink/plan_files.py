"""Plan files that clients name by path, limited to configured directories."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from deploylog.errors import PlanNotFound, TooLarge

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Nonblocking, since opening a pipe would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PlanFiles:
    """Reads files below the configured directories, and nowhere else."""

    def __init__(
        self, folders: Sequence[str], *, limit: int, reserved: Callable[[os.stat_result], bool]
    ) -> None:
        """``folders`` are absolute. Reading raises TooLarge above ``limit`` bytes.

        A file for which ``reserved`` returns True is never opened.
        """
        self._reserved = reserved
        self._folders = [PurePosixPath(folder) for folder in folders]
        self._limit = limit

    def read(self, directory: str, file: str) -> bytes:
        """The file's content; raises TooLarge, or PlanNotFound for any other reason."""
        path = PurePosixPath(directory) / file
        for folder in self._folders:
            if path.is_relative_to(folder):
                return self._read(folder, path.relative_to(folder).parts)
        raise PlanNotFound

    def _read(self, folder: PurePosixPath, parts: Sequence[str]) -> bytes:
        # Open one part after the other and follow no link, so that a concurrent rename cannot
        # replace a part between its check and its use.
        if not parts or ".." in parts or any("\0" in part for part in parts):
            raise PlanNotFound
        try:
            content = self._read_below(str(folder), parts)
        except OSError as error:
            raise PlanNotFound from error
        if len(content) > self._limit:
            raise TooLarge(f"a plan must have at most {self._limit} bytes")
        return content

    def _read_below(self, folder: str, parts: Sequence[str]) -> bytes:
        """The file's content, up to one byte more than the limit; raises OSError."""
        opened = self._open_below(folder, parts)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise OSError(f"{parts[-1]!r} is not a regular file")
            with os.fdopen(opened, "rb", closefd=False) as reader:
                return reader.read(self._limit + 1)
        finally:
            os.close(opened)

    def _open_below(self, folder: str, parts: Sequence[str]) -> int:
        """A descriptor of the file; raises OSError."""
        # The configured directory itself may be a link: the operator chose it.
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            try:
                child = os.open(part, _FOLDER, dir_fd=parent)
            finally:
                os.close(parent)
            parent = child
        try:
            # Checked before opening: closing a file of the store would drop SQLite's locks on it.
            if self._reserved(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)):
                raise OSError(f"{parts[-1]!r} belongs to the store")
            return os.open(parts[-1], _FILE, dir_fd=parent)
        finally:
            os.close(parent)
