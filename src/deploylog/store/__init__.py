"""Where the log is kept."""

from collections.abc import Callable
from pathlib import Path

from deploylog.errors import InvalidSettings
from deploylog.store.contract import (
    QUERY_SECONDS,
    CommitObserver,
    Contents,
    Finding,
    OpenStore,
    Restored,
    Verified,
)


def open_store(
    url: str, *, observer: CommitObserver, query_seconds: float = QUERY_SECONDS
) -> OpenStore:
    """The store at ``url``: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""
    from deploylog.store.sqlite import open_sqlite

    return open_sqlite(_sqlite_path(url), observer=observer, query_seconds=query_seconds)


def store_exists(url: str) -> bool:
    """Whether there is a store at ``url`` already."""
    return _sqlite_path(url).exists()


def key_file_of(url: str) -> Path:
    """The encryption key that the service creates beside the store, unless another is named."""
    path = _sqlite_path(url)
    return path.with_name(f"{path.name}.key")


def migrate_store(url: str) -> list[str]:
    """Bring the store to this program's schema; return the names of the steps taken."""
    from deploylog.store.sqlite import migrate_file

    return migrate_file(_sqlite_path(url))


def backup_store(url: str, file: Path, *, force: bool) -> Contents:
    """Copy the store, which services may use meanwhile, to a file; say what is in it.

    Raises OperatorError when the file exists, unless ``force``.
    """
    from deploylog.store.sqlite.backups import backup_file

    return backup_file(_sqlite_path(url), file, force=force)


def restore_store(url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
    """Make the store from a backup.

    Raises OperatorError when the store is in use, or when it exists, unless ``force``. Event ids
    change unless ``keep_ids``.
    """
    from deploylog.store.sqlite.backups import restore_file

    return restore_file(file, _sqlite_path(url), force=force, keep_ids=keep_ids)


def verify_store(
    url: str, *, found: Callable[[Finding], None], progress: Callable[[int, int], None]
) -> Verified:
    """Verify the store at ``url``, beside a running service or without one, and change nothing.

    ``found`` is given what is wrong; ``progress`` events read, and events in all.
    """
    from deploylog.store.sqlite.verify import verify_file

    return verify_file(_sqlite_path(url), found=found, progress=progress)


def _sqlite_path(url: str) -> Path:
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise InvalidSettings(f"store {url!r} is not of the form sqlite:///PATH")
    return Path(path)
