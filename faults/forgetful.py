"""A disk that forgets what was not synced, for the service in this process.

The arguments are the folder of the disk, a seed, the protection to take out (or ``-``), and those
of ``deploylog``. SQLite writes to its files as always. Beside them, the folder holds what a loss of
power would leave: a write gets there when its file is synced, and before that only by chance,
sector by sector. So a process that is killed leaves both: the files, and the disk after it.
"""

import os
import random
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import apsw

from deploylog.cli import main
from deploylog.store.sqlite import connection
from faults.weakened import PROTECTIONS

#: What a disk writes whole, or not at all.
_SECTOR = 512

#: The share of sectors that are written although nobody has asked for it yet.
_EARLY = 0.1

#: SQLite's own way to a file.
_BASE = "unix"

#: A write: an offset and its bytes. ``None`` cuts the file there.
_Write = tuple[int, bytes | None]


class Disk:
    """What survives of each file."""

    def __init__(self, folder: Path, choice: random.Random) -> None:
        self._folder = folder
        self._choice = choice
        self._lock = threading.Lock()
        self._unsynced: defaultdict[str, list[_Write]] = defaultdict(list)
        #: Files that are deleted, and not in the folder on the disk; logs whose folder was synced.
        self._deleted: set[str] = set()
        self._with_folder: set[str] = set()

    def write(self, path: str, write: _Write) -> None:
        """Note a write, and let some of its sectors reach the disk."""
        with self._lock:
            self._unsynced[path].append(write)
            offset, data = write
            for start in range(0, len(data or b""), _SECTOR):
                if data is not None and self._choice.random() < _EARLY:
                    self._apply(path, (offset + start, data[start : start + _SECTOR]))

    def sync(self, path: str) -> None:
        """Let everything that was written to the file reach the disk, in order."""
        with self._lock:
            if path.endswith(("-wal", "-journal")) and path not in self._with_folder:
                # With the first sync of a log SQLite syncs its folder, too.
                self._with_folder.add(path)
                self._sync_folder()
            for write in self._unsynced.pop(path, ()):
                self._apply(path, write)

    def delete(self, path: str, *, is_synced: bool) -> None:
        """Delete the file; until its folder is synced it may come back."""
        with self._lock:
            self._unsynced.pop(path, None)
            self._with_folder.discard(path)
            self._deleted.add(path)
            if is_synced or self._choice.random() < _EARLY:
                self._sync_folder()

    def _sync_folder(self) -> None:
        for path in self._deleted:
            self._place(path).unlink(missing_ok=True)
        self._deleted.clear()

    def _apply(self, path: str, write: _Write) -> None:
        offset, data = write
        file = os.open(self._place(path), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if data is None:
                os.ftruncate(file, offset)
            else:
                os.pwrite(file, data, offset)
        finally:
            os.close(file)

    def _place(self, path: str) -> Path:
        return self._folder / Path(path).name


class ForgetfulVfs(apsw.VFS):
    """SQLite's own files, and the disk beside them."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("forgetful", base=_BASE, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "ForgetfulFile":  # noqa: N802
        return ForgetfulFile(name, flags, self._disk)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self._disk.delete(filename, is_synced=syncdir)


class ForgetfulFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], disk: Disk) -> None:
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        super().__init__(_BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        if self._path:
            self._disk.write(self._path, (offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        if self._path:
            self._disk.write(self._path, (newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        if self._path:
            self._disk.sync(self._path)


def after_power_loss(files: Path, disk: Path) -> None:
    """Make the files those of the disk, as after a restart of the machine."""
    for file in files.glob("*.db*"):
        if not file.name.endswith(".key"):
            file.unlink()
    for file in disk.iterdir():
        with suppress(FileNotFoundError):
            (files / file.name).write_bytes(file.read_bytes())


#: Pages in the write-ahead log before they are copied to the file: few, so that many losses of
#: power fall into that.
_CHECKPOINT_PAGES = 100

if __name__ == "__main__":
    connection.CHECKPOINT_PAGES = _CHECKPOINT_PAGES
    folder, seed, without = sys.argv[1:4]
    if without in PROTECTIONS:
        PROTECTIONS[without]()
    # Referenced, for SQLite only borrows it.
    vfs = ForgetfulVfs(Disk(Path(folder), random.Random(seed)))
    sys.argv = ["deploylog", *sys.argv[4:]]
    main()
