"""Stores: the backend that a URL names, and what can be done with a store."""

from collections.abc import Callable
from pathlib import Path

from deploylog.errors import InvalidSettings, OperatorError
from deploylog.store.contract import (
    QUERY_SECONDS,
    Backend,
    CommitObserver,
    Contents,
    Finding,
    OpenStore,
    Restored,
    Verified,
)
from deploylog.store.copying import Copied
from deploylog.store.copying import copy as copy_all


def _sqlite() -> Backend:
    from deploylog.store.sqlite.backend import SqliteBackend

    return SqliteBackend()


def _postgresql() -> Backend:
    try:
        from deploylog.store.postgres.backend import PostgresBackend
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise OperatorError(
            "a store in PostgreSQL needs psycopg: install deploylog[postgres]"
        ) from error
    return PostgresBackend()


#: The backends by the scheme of a store's URL. A driver is imported when a URL asks for it.
BACKENDS: dict[str, Callable[[], Backend]] = {"postgresql": _postgresql, "sqlite": _sqlite}


def open_store(
    url: str, *, observer: CommitObserver, query_seconds: float = QUERY_SECONDS
) -> OpenStore:
    """The store at ``url``, brought to this program's schema."""
    return _backend_of(url).open(url, observer=observer, query_seconds=query_seconds)


def store_exists(url: str) -> bool:
    """Whether there is a store at ``url`` already."""
    return _backend_of(url).exists(url)


def key_file_of(url: str) -> Path | None:
    """The encryption key that the service creates beside the store, unless another is named.

    ``None`` where the processes of a store may be on several machines: all need the same key.
    """
    return _backend_of(url).key_file(url)


def migrate_store(url: str) -> list[str]:
    """Bring the store to this program's schema; return the names of the steps taken."""
    return _backend_of(url).migrate(url)


def backup_store(url: str, file: Path, *, force: bool) -> Contents:
    """Copy the store, which services may use meanwhile, to a file; return what it contains.

    Raises OperatorError when the file exists, unless ``force``.
    """
    return _backend_of(url).backup(url, file, force=force)


def restore_store(url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
    """Create the store from a backup.

    Raises OperatorError when the store is in use, or when it exists, unless ``force``. Event ids
    change unless ``keep_ids``.
    """
    return _backend_of(url).restore(url, file, force=force, keep_ids=keep_ids)


def verify_store(
    url: str,
    *,
    found: Callable[[Finding], None],
    progress: Callable[[int, int], None],
    mend: bool = False,
) -> Verified:
    """Verify the store at ``url``, beside a running service or without one.

    With ``mend``, make right what is derived from events, in one transaction: no service records
    meanwhile. ``found`` is called with each finding; ``progress`` with the events read, and all
    events.
    """
    return _backend_of(url).verify(url, found=found, progress=progress, mend=mend)


def copy_store(source: str, target: str, *, progress: Callable[[int, int], None]) -> Copied:
    """Copy everything of one store to another, which is created; verify it.

    Services may use the source meanwhile. Raises OperatorError when the target is something else
    than a new store or an earlier copy of the source, or when it is in use.
    """
    migrate_store(target)
    with (
        _backend_of(source).reading_copy(source) as copied,
        _backend_of(target).writing_copy(target) as copy,
    ):
        return copy_all(copied, copy, progress=progress)


def shown_url(url: str) -> str:
    """``url`` for people to read: without a password, and without options."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" or not separator:
        return url
    place, _, database = rest.partition("?")[0].partition("/")
    user, at, host = place.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}/{database}"


def _backend_of(url: str) -> Backend:
    backend = BACKENDS.get(url.partition(":")[0])
    if backend is None:
        raise InvalidSettings(
            f"store {shown_url(url)!r} is not the URL of a store, such as sqlite:///PATH"
        )
    return backend()
