"""Backups: a copy of the whole store in one file, and a store restored from one."""

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

#: Pages copied at once; between two steps the command can be interrupted.
_PAGES = 2_000

#: Where SQLite's locks on a file are: the pending byte, the reserved byte, 510 shared bytes.
_LOCK_START, _LOCK_LENGTH = 0x40000000, 512

#: What SQLite keeps beside a file, and would take for the newest part of another put in its place.
_BESIDE = ("-wal", "-journal", "-shm")


def backup_file(store: Path, file: Path, *, force: bool) -> Contents:
    """Copy the store to ``file``, which appears whole or not at all, and say what is in it.

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
    """Make the store from a backup, and say what is in it and where the previous one is.

    The new store appears whole or not at all. It gets a new epoch, unless ``keep_ids``. Raises
    OperatorError when the file is not a sound backup, when any program has the store open, or
    when a store exists, unless ``force``: it then keeps the old one under another name.
    """
    file, store = file.resolve(), store.resolve()
    _check_place(store, other=file)
    with _writing(store.parent), _free(store, force=force), _partial(store) as partial:
        with _reading(file, apsw.SQLITE_OPEN_READONLY) as source:
            contents = _copy(source, partial)
        if not keep_ids:
            _draw_epoch(partial)
        _check_copy(partial, contents)
        _give(partial, store)
        _sync(partial)
        kept = _set_aside(store)
        _place(partial, store, force=force)
    return Restored(contents=contents, kept=str(kept) if kept else None)


# Reading and copying


@contextmanager
def _reading(path: Path, flags: int) -> Iterator[apsw.Connection]:
    """A connection that sees one state of the file, for as long as the block takes."""
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
    """Copy what ``source`` sees to a new file, and say what that is."""
    contents = _contents(source, Path(source.filename))
    with _writing(partial.parent), closing(create(partial)) as target:
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_PAGES)
        # One file, which can be read from a disk that cannot be written.
        target.execute("PRAGMA journal_mode = DELETE")
    return contents


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise as OperatorError what shows that the folder takes no copy."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise OperatorError(f"cannot write to {folder}: {error}") from error
    except OSError as error:
        raise OperatorError(f"cannot write to {folder}: {error.strerror}") from error


def _contents(connection: apsw.Connection, path: Path) -> Contents:
    """What is in the store; raises OperatorError when it is none of this program's."""
    schema, known = int(one_value(connection, "PRAGMA user_version")), len(migrations("sqlite"))
    if schema > known:
        raise SchemaTooNew(
            f"{path} has schema version {schema}, this program knows up to {known}: "
            "use a newer Deploylog"
        )
    if one_row(connection, "SELECT 1 FROM sqlite_master WHERE name = 'log'") is None:
        raise OperatorError(f"{path} is not a Deploylog store")
    row = one_row(connection, _CONTENTS)
    if row is None:
        raise OperatorError(f"{path} is not a Deploylog store: its log has no row")
    head, events, newest = row
    if newest > head:
        raise OperatorError(f"{path} is damaged: it has events after its newest position")
    return Contents(events=events, head=head, schema=schema)


_CONTENTS = """
SELECT head, (SELECT count(*) FROM events), (SELECT coalesce(max(position), 0) FROM events)
FROM log
"""


def _draw_epoch(partial: Path) -> None:
    """Let no id or page token of the log that was stand for an event of the log that will be.

    Positions after the backup are given again, to other events.
    """
    with _errors(partial), closing(apsw_open(partial)) as connection, connection:
        connection.execute("UPDATE log SET epoch = ?", (secrets.randbits(EPOCH_BITS),))
        if one_row(connection, "SELECT 1 FROM sqlite_master WHERE name = 'token_key'"):
            connection.execute("UPDATE token_key SET value = randomblob(32)")


def _check_copy(partial: Path, contents: Contents) -> None:
    """Raise OperatorError unless the copy is sound, and has what it was made of."""
    with _reading(partial, apsw.SQLITE_OPEN_READONLY) as connection:
        verdict = one_value(connection, "PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise OperatorError(f"the store is damaged: {verdict}")
        if _contents(connection, partial) != contents:
            raise OperatorError("the copy does not have what the store has")


# Places


def _check_place(place: Path, *, other: Path) -> None:
    """Raise OperatorError unless a file can be made there that does no harm to ``other``."""
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
    """Keep every SQLite connection out of the file at ``place`` while in the block.

    Raises OperatorError when there is one, or when there is such a file and no ``force``.
    """
    # A write-ahead log that was left alone is not deleted without asking either.
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
    """A name beside ``place`` for what is not whole yet; nothing is left of it."""
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
    finally:
        for path in (partial, *_beside(partial)):
            path.unlink(missing_ok=True)


def _place(partial: Path, place: Path, *, force: bool) -> None:
    """Give the whole file its name, durably."""
    if force:
        partial.replace(place)
    else:
        _link(partial, place)
    _sync(place.parent)


def _link(partial: Path, place: Path) -> None:
    """Give it the name, unless something has come there meanwhile."""
    try:
        os.link(partial, place)
    except FileExistsError as error:
        raise OperatorError(f"{place} exists; replace it with --force") from error
    except OSError:
        # A file system without hard links.
        partial.replace(place)


def _set_aside(store: Path) -> Path | None:
    """Keep what is at the store's place under another name, and say which."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = store.with_name(f"{store.name}.before-restore-{moment}")
    if not any(path.exists() for path in (store, *_beside(store))):
        return None
    # The name of the old store goes last, when the new one takes it: a service that starts
    # after a crash in between must not find an empty place and begin an empty log.
    if store.exists():
        os.link(store, kept)
    for old, new in zip(_beside(store), _beside(kept), strict=True):
        with suppress(FileNotFoundError):
            old.rename(new)
    return kept


def _beside(file: Path) -> list[Path]:
    return [Path(f"{file}{suffix}") for suffix in _BESIDE]


def _give(partial: Path, store: Path) -> None:
    """Let root make the store for the user whose it was, or whose folder it is in."""
    if os.geteuid() == 0:
        owner = (store if store.exists() else store.parent).stat()
        os.chown(partial, owner.st_uid, owner.st_gid)


def _sync(path: Path) -> None:
    """Let what was written to it survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
