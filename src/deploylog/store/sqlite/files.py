"""The files of an open store, and whether their names still lead to them."""

import os

import apsw

from deploylog.errors import StoreUnavailable

Identity = tuple[int, int]


class StoreFiles:
    """The database, its write-ahead log and its shared memory.

    SQLite has them open, so it continues to read and write when they are deleted or replaced, and
    what it writes then is lost when the process ends. No file is opened here: see ``create`` in
    ``connection``.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        """``connection`` has read from the store: all three files exist."""
        self.path = connection.filename
        self._paths = (self.path, connection.filename_wal, f"{self.path}-shm")
        self._identities = [_identity(os.stat(path)) for path in self._paths]
        self._size = os.stat(self.path).st_size

    @property
    def wal(self) -> str:
        """The path of the write-ahead log."""
        return self._paths[1]

    def own(self, file: os.stat_result) -> bool:
        """Whether this is one of the files, under any name."""
        return _identity(file) in self._identities

    def check(self) -> None:
        """Raise StoreUnavailable when a file was deleted, replaced or truncated. Thread-safe."""
        # Before the file is read: another thread may see it grow meanwhile.
        known = self._size
        database, *_ = [
            self._stat(path, identity)
            for path, identity in zip(self._paths, self._identities, strict=True)
        ]
        # Only VACUUM shrinks a database. A copy over it (cp, rsync --inplace) has the same
        # identity, and is usually shorter: a backup has no free pages.
        if database.st_size < known:
            raise self._trouble(self.path, "was overwritten; restart the service")
        self._size = database.st_size

    def _stat(self, path: str, identity: Identity) -> os.stat_result:
        try:
            found = os.stat(path)
        except OSError as error:
            raise self._trouble(path, f"is gone: {error.strerror}") from error
        if _identity(found) != identity:
            raise self._trouble(path, "was replaced; restart the service")
        return found

    def _trouble(self, path: str, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"the store's file {os.path.basename(path)} {what}")


def _identity(file: os.stat_result) -> Identity:
    return file.st_dev, file.st_ino
