"""Copies: everything of a store in another store, of whichever backend.

Events come first, some thousand in a transaction, so that an interrupted copy continues where it
stopped. What else a store holds changes all the time: it is copied last, in one transaction, with
the mark that the copy is whole. No store opens a copy without that mark.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Protocol

import msgspec

from deploylog.errors import OperatorError

#: What a column of a row holds, as SQLite has it: arrays are JSON, and truth is a number.
Cell = int | float | str | bytes | None

Row = tuple[Cell, ...]

#: The columns of each table, in alphabetical order.
Tables = Mapping[str, Sequence[str]]

EVENTS, LOG, MARK = "events", "log", "copied"

#: What a new store has rows in.
_NEVER_EMPTY = {LOG, "token_key"}

#: The rows of one batch, and about its bytes.
_BATCH_ROWS, _BATCH_BYTES = 2_000, 4 * 1024 * 1024

#: Positions whose events are compared at once.
_RANGE = 1 << 16

_encode = msgspec.msgpack.Encoder().encode


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a copy, in counts."""

    events: int
    #: The newest position.
    head: int
    #: The rows of everything else.
    rows: int


class CopySource(Protocol):
    """A store as it is at one moment."""

    @property
    def name(self) -> str:
        """Its URL, for people to read."""
        ...

    def tables(self) -> Tables:
        """The tables that a copy takes: not those that are derived from them, nor the mark."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """All rows, in the order of the primary key."""
        ...

    def events(self, columns: Sequence[str], low: int, high: int) -> Iterator[Row]:
        """The rows of the events behind position ``low`` up to ``high``, in order."""
        ...


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """That a store is a copy."""

    #: Of the log that was copied.
    epoch: int
    whole: bool


class CopyTarget(CopySource, Protocol):
    """A store that nobody has open, and that becomes a copy."""

    def transaction(self) -> AbstractContextManager[object]:
        """What is written in the block is written whole or not at all."""
        ...

    def mark(self) -> Mark | None: ...

    def set_mark(self, mark: Mark) -> None: ...

    def newest(self) -> int:
        """The position of the newest event."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows; of events, with what is derived from them but the index."""
        ...

    def delete_events(self, low: int, high: int) -> None:
        """Delete the events behind position ``low`` up to ``high``."""
        ...

    def drop_index(self) -> None: ...

    def replace(self, tables: Tables, rows: Callable[[str], Iterable[Sequence[Row]]]) -> None:
        """Replace all rows of ``tables`` by the batches that ``rows`` returns for each."""
        ...

    def seal(self) -> None:
        """Index the full segments of the log."""
        ...


class _Log(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    head: int
    floor: int


def copy(source: CopySource, target: CopyTarget, *, progress: Callable[[int, int], None]) -> Copied:
    """Copy ``source`` to ``target``, or what is new since the last time.

    ``progress`` gets the events copied and all events, approximately. Raises OperatorError when the
    target is something else than an earlier copy of the source, or the result differs.
    """
    tables = _tables_of_both(source, target)
    log = _log_of(source)
    _claim(target, source, log.epoch)
    columns = tables[EVENTS]
    _copy_events(source, target, columns, log, progress)
    events = _verify_events(source, target, columns, log)
    others = {name: columns for name, columns in tables.items() if name != EVENTS}
    with target.transaction():
        rows = _copy_others(source, target, others)
        target.set_mark(Mark(epoch=log.epoch, whole=True))
    target.seal()
    return Copied(events=events, head=log.head, rows=rows)


def unfinished(name: str) -> OperatorError:
    """The error of opening a copy that is not whole."""
    return OperatorError(f"{name} is an unfinished copy: run the same deploylog copy again")


def _tables_of_both(source: CopySource, target: CopyTarget) -> Tables:
    tables = source.tables()
    assert tables == target.tables(), "the backends keep the same tables"
    return tables


def _log_of(store: CopySource) -> _Log:
    [(epoch, floor, head)] = store.rows(LOG, ["epoch", "floor", "head"])
    return msgspec.convert({"epoch": epoch, "head": head, "floor": floor}, _Log)


def _claim(target: CopyTarget, source: CopySource, epoch: int) -> None:
    """Mark the target as a copy that is not whole. Raises OperatorError when it must not be one."""
    with target.transaction():
        mark = target.mark()
        if mark is None and not _is_empty(target):
            raise OperatorError(f"{target.name} is not empty: copy to a new store")
        if mark is not None and mark.epoch != epoch:
            raise OperatorError(f"{target.name} is a copy of another store than {source.name}")
        target.set_mark(Mark(epoch=epoch, whole=False))


def _is_empty(store: CopySource) -> bool:
    tables = store.tables()
    return not _log_of(store).head and not any(
        next(iter(store.rows(name, columns)), None) is not None
        for name, columns in tables.items()
        if name not in _NEVER_EMPTY
    )


def _copy_events(
    source: CopySource,
    target: CopyTarget,
    columns: Sequence[str],
    log: _Log,
    progress: Callable[[int, int], None],
) -> None:
    """Copy the events behind the newest one of the target."""
    newest = target.newest()
    if newest > log.head:
        raise OperatorError(f"{target.name} has events that {source.name} does not have")
    with target.transaction():
        target.delete_events(0, log.floor)
    start = max(newest, log.floor)
    copied = start - log.floor
    for batch in _batches(source.events(columns, start, log.head)):
        with target.transaction():
            target.insert(EVENTS, columns, batch)
        copied += len(batch)
        progress(copied, log.head - log.floor)


def _verify_events(
    source: CopySource, target: CopyTarget, columns: Sequence[str], log: _Log
) -> int:
    """Compare all events, and copy those again that have changed since; return their number."""
    events = 0
    for low in range(log.floor, log.head, _RANGE):
        high = min(low + _RANGE, log.head)
        wanted = _digest(source.events(columns, low, high))
        if _digest(target.events(columns, low, high)) != wanted:
            _copy_again(source, target, columns, low, high)
            if _digest(target.events(columns, low, high)) != wanted:
                raise OperatorError(f"the events at {low + 1} to {high} differ from those copied")
        events += wanted[0]
    return events


def _copy_again(
    source: CopySource, target: CopyTarget, columns: Sequence[str], low: int, high: int
) -> None:
    """Replace the events of a range, for example those erased after they were copied."""
    with target.transaction():
        target.delete_events(low, high)
        for batch in _batches(source.events(columns, low, high)):
            target.insert(EVENTS, columns, batch)
        target.drop_index()


def _copy_others(source: CopySource, target: CopyTarget, tables: Tables) -> int:
    """Replace what is in the other tables, and compare it; return the number of rows."""
    target.replace(tables, lambda name: _batches(source.rows(name, tables[name])))
    total = 0
    for name, columns in tables.items():
        wanted = _digest(source.rows(name, columns))
        if _digest(target.rows(name, columns)) != wanted:
            raise OperatorError(f"the {name} differ from those copied")
        total += wanted[0]
    return total


def _digest(rows: Iterable[Row]) -> tuple[int, bytes]:
    """The number of rows, and a digest of them in their order."""
    digest, number = blake2b(digest_size=16), 0
    for row in rows:
        digest.update(_encode(row))
        number += 1
    return number, digest.digest()


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
