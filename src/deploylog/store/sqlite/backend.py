"""The SQLite backend: a file named by ``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from deploylog.errors import InvalidSettings
from deploylog.store.contract import (
    CommitObserver,
    Contents,
    Finding,
    OpenStore,
    Restored,
    Verified,
)
from deploylog.store.sqlite import migrate_file, open_sqlite
from deploylog.store.sqlite.backups import backup_file, restore_file
from deploylog.store.sqlite.copying import SqliteCopy, reading_copy, writing_copy
from deploylog.store.sqlite.verify import verify_file


class SqliteBackend:
    """The ``Backend`` of stores in SQLite files."""

    def open(self, url: str, *, observer: CommitObserver, query_seconds: float) -> OpenStore:
        return open_sqlite(_path_of(url), observer=observer, query_seconds=query_seconds)

    def exists(self, url: str) -> bool:
        return _path_of(url).exists()

    def key_file(self, url: str) -> Path:
        path = _path_of(url)
        return path.with_name(f"{path.name}.key")

    def migrate(self, url: str) -> list[str]:
        return migrate_file(_path_of(url))

    def backup(self, url: str, file: Path, *, force: bool) -> Contents:
        return backup_file(_path_of(url), file, force=force)

    def restore(self, url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
        return restore_file(file, _path_of(url), force=force, keep_ids=keep_ids)

    def verify(
        self,
        url: str,
        *,
        found: Callable[[Finding], None],
        progress: Callable[[int, int], None],
        mend: bool,
    ) -> Verified:
        return verify_file(_path_of(url), found=found, progress=progress, mend=mend)

    def reading_copy(self, url: str) -> AbstractContextManager[SqliteCopy]:
        return reading_copy(_path_of(url))

    def writing_copy(self, url: str) -> AbstractContextManager[SqliteCopy]:
        return writing_copy(_path_of(url))


def _path_of(url: str) -> Path:
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise InvalidSettings(f"store {url!r} is not of the form sqlite:///PATH")
    return Path(path)
