"""Backups: copy a whole store to one file, and restore a store from it."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from deploylog.errors import OperatorError, SchemaTooNew
from deploylog.events.ids import EPOCH_BITS
from deploylog.store.contract import Contents, Restored
from deploylog.store.migrations import migrations
from deploylog.store.sqlite.connection import (
    BUSY_TIMEOUT,
    apsw_open,
    create,
    one_row,
    one_value,
    opening,
    store_errors,
)

#: Pages copied in one step; the command can be interrupted between steps.
_PAGES = 2_000

#: Where SQLite's locks on a file are: the pending byte, the reserved byte, 510 shared bytes.
_LOCK_START, _LOCK_LENGTH = 0x40000000, 512

#: Files of SQLite beside a database. It would take them for the newest part of a restored one.
_BESIDE = ("-wal", "-journal", "-shm")


def backup_file(store: Path, file: Path, *, force: bool) -> Contents:
    """Copy the store to ``file``, which appears whole or not at all; return its contents.

    Services may use the store meanwhile: the copy is its state at one moment. Raises
    OperatorError when ``file`` exists, unless ``force``.
    """
    store, file = store.resolve(), file.resolve()
    _check_place(file, other=store)
    with _writing(file.parent), _free(file, force=force), _partial(file) as partial:
        with _reading(store, apsw.SQLITE_OPEN_READWRITE) as source:
            contents = _copy(source, partial)
        _check_copy(partial, contents)
        _sync(partial)
        for path in _beside(file):
            path.unlink(missing_ok=True)
        _place(partial, file, force=force)
    return contents


def restore_file(file: Path, store: Path, *, force: bool, keep_ids: bool) -> Restored:
    """Create the store from a backup; return its contents, and where the previous store is.

    The new store appears whole or not at all. It gets a new epoch, unless ``keep_ids``. Raises
    OperatorError when the file is not a sound backup, when any program has the store open, or
    when a store exists. With ``force``, renames the existing store instead.
    """
    file, store = file.resolve(), store.resolve()
    _check_place(store, other=file)
    with _writing(store.parent), _free(store, force=force), _partial(store) as partial:
        with _reading(file, apsw.SQLITE_OPEN_READONLY) as source:
            contents = _copy(source, partial)
        if not keep_ids:
            _draw_epoch(partial)
        _check_copy(partial, contents)
        _chown(partial, store)
        _sync(partial)
        previous = _rename_previous(store)
        _place(partial, store, force=force)
    return Restored(contents=contents, previous=str(previous) if previous else None)


# Reading and copying


@contextmanager
def _reading(path: Path, flags: int) -> Iterator[apsw.Connection]:
    """A connection that sees one state of the file throughout the block."""
    if not path.exists():
        raise OperatorError(f"{path} does not exist")
    with _errors(path), closing(apsw_open(path, flags)) as connection:
        connection.set_busy_timeout(BUSY_TIMEOUT)
        connection.execute("BEGIN")
        yield connection


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    with store_errors(), opening(path):
        try:
            yield
        except apsw.CorruptError as error:
            raise OperatorError(f"{path} is damaged: {error}") from error


def _copy(source: apsw.Connection, partial: Path) -> Contents:
    """Copy what ``source`` sees to a new file; return its contents."""
    contents = _contents(source, Path(source.filename))
    with _writing(partial.parent), closing(create(partial)) as target:
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_PAGES)
        # A single file can be read from a read-only disk.
        target.execute("PRAGMA journal_mode = DELETE")
    return contents


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise OperatorError when the copy cannot be written to the folder."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise OperatorError(f"cannot write to {folder}: {error}") from error
    except OSError as error:
        raise OperatorError(f"cannot write to {folder}: {error.strerror}") from error


def _contents(connection: apsw.Connection, path: Path) -> Contents:
    """The contents of the store. Raises OperatorError when this program cannot use it."""
    schema, known = int(one_value(connection, "PRAGMA user_version")), len(migrations("sqlite"))
    if schema > known:
        raise SchemaTooNew(
            f"{path} has schema version {schema}, this program knows up to {known}: "
            "use a newer Deploylog"
        )
    if one_row(connection, "SELECT 1 FROM sqlite_master WHERE name = 'log'") is None:
        raise OperatorError(f"{path} is not a Deploylog store")
    table = "event_rows" if schema >= _ROWS_APART else "events"
    row = one_row(connection, _CONTENTS.format(table=table))
    if row is None:
        raise OperatorError(f"{path} is not a Deploylog store: its log has no row")
    head, events, newest = row
    if newest > head:
        raise OperatorError(f"{path} is damaged: it has events after its newest position")
    return Contents(events=events, head=head, schema=schema)


_CONTENTS = """
SELECT head, (SELECT count(*) FROM {table}), (SELECT coalesce(max(position), 0) FROM {table})
FROM log
"""

#: The schema from which on the events are a view; their rows are counted much faster.
_ROWS_APART = 18


def _draw_epoch(partial: Path) -> None:
    """Invalidate ids and page tokens of the previous log.

    Other events will get the positions after the backup.
    """
    with _errors(partial), closing(apsw_open(partial)) as connection, connection:
        connection.execute("UPDATE log SET epoch = ?", (secrets.randbits(EPOCH_BITS),))
        if one_row(connection, "SELECT 1 FROM sqlite_master WHERE name = 'token_key'"):
            connection.execute("UPDATE token_key SET value = randomblob(32)")


def _check_copy(partial: Path, contents: Contents) -> None:
    """Raise OperatorError unless the copy is sound and has the contents of its source."""
    with _reading(partial, apsw.SQLITE_OPEN_READONLY) as connection:
        result = one_value(connection, "PRAGMA integrity_check(1)")
        if result != "ok":
            raise OperatorError(f"the store is damaged: {result}")
        if _contents(connection, partial) != contents:
            raise OperatorError("the copy does not have what the store has")


# Places


def _check_place(place: Path, *, other: Path) -> None:
    """Raise OperatorError unless a file at ``place`` is possible and harms no file of ``other``."""
    if not place.parent.is_dir():
        raise OperatorError(f"the folder {str(place.parent)!r} does not exist")
    if place.is_dir():
        raise OperatorError(f"{place} is a directory")
    if place in (other, *_beside(other)) or (
        place.exists() and other.exists() and place.samefile(other)
    ):
        raise OperatorError(f"{place} is a file of {other}")


@contextmanager
def _free(place: Path, *, force: bool) -> Iterator[None]:
    """Lock every SQLite connection out of the file at ``place`` inside the block.

    Raises OperatorError when the file is in use, or when it exists, unless ``force``.
    """
    # Nor is a write-ahead log without its database deleted without ``force``.
    there = [path for path in (place, *_beside(place)) if path.exists()]
    if there and not force:
        raise OperatorError(f"{there[0]} exists; replace it with --force")
    if not place.exists():
        yield
        return
    # Closing a descriptor drops this process's locks on the file. There are none: no connection
    # of this process is open on what it replaces.
    with open(place, "rb+") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_LENGTH, _LOCK_START)
        except OSError as error:
            raise OperatorError(
                f"{place} is in use: stop the service, and every program that has it open"
            ) from error
        yield


@contextmanager
def _partial(place: Path) -> Iterator[Path]:
    """A temporary name beside ``place``; its files are deleted at the end."""
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
    finally:
        for path in (partial, *_beside(partial)):
            path.unlink(missing_ok=True)


def _place(partial: Path, place: Path, *, force: bool) -> None:
    """Rename the whole file, durably."""
    if force:
        partial.replace(place)
    else:
        _link(partial, place)
    _sync(place.parent)


def _link(partial: Path, place: Path) -> None:
    """Name the file ``place``, unless that exists by now."""
    try:
        os.link(partial, place)
    except FileExistsError as error:
        raise OperatorError(f"{place} exists; replace it with --force") from error
    except OSError:
        # A file system without hard links.
        partial.replace(place)


def _rename_previous(store: Path) -> Path | None:
    """Rename the files of the previous store; return its new path."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    previous = store.with_name(f"{store.name}.before-restore-{moment}")
    if not any(path.exists() for path in (store, *_beside(store))):
        return None
    # The new store replaces the name of the old one last: a service that starts after a crash in
    # between must not find no store and start an empty log.
    if store.exists():
        os.link(store, previous)
    for old, new in zip(_beside(store), _beside(previous), strict=True):
        with suppress(FileNotFoundError):
            old.rename(new)
    return previous


def _beside(file: Path) -> list[Path]:
    return [Path(f"{file}{suffix}") for suffix in _BESIDE]


def _chown(partial: Path, store: Path) -> None:
    """As root, give the file to the owner of the previous store, or of the folder."""
    if os.geteuid() == 0:
        owner = (store if store.exists() else store.parent).stat()
        os.chown(partial, owner.st_uid, owner.st_gid)


def _sync(path: Path) -> None:
    """Flush the file to the disk, so that it survives a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
