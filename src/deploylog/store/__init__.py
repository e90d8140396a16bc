"""Where the log is kept."""

from pathlib import Path

from deploylog.errors import InvalidSettings
from deploylog.store.base import QUERY_SECONDS, CommitObserver, OpenStore


def open_store(
    url: str, *, observer: CommitObserver, query_seconds: float = QUERY_SECONDS
) -> OpenStore:
    """The store at ``url``: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""
    from deploylog.store.sqlite import open_sqlite

    return open_sqlite(_sqlite_path(url), observer=observer, query_seconds=query_seconds)


def store_exists(url: str) -> bool:
    """Whether there is a store at ``url`` already."""
    return _sqlite_path(url).exists()


def migrate_store(url: str) -> list[str]:
    """Bring the store to this program's schema; return the names of the steps taken."""
    from deploylog.store.sqlite import migrate_file

    return migrate_file(_sqlite_path(url))


def _sqlite_path(url: str) -> Path:
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise InvalidSettings(f"store {url!r} is not of the form sqlite:///PATH")
    return Path(path)
