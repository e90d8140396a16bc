"""The dictionary: what events of a block share is stored once, and their rows refer to it.

The events of a deployment have their source, scopes, groups and actor in common, and few types
between them. Such a *context* and such a *kind* get a number when they occur for the second time
in a block of 16,384 positions; until then a row holds them itself. Each block begins anew, so that
retention deletes its entries with its events. The view ``events`` has every event whole.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import apsw

from deploylog.store.sqlite.connection import SqlValue, all_rows, insert_rows

#: Positions of a block, as a power of two. The view has it, too.
BLOCK_BITS = 14

BLOCK_SIZE = 1 << BLOCK_BITS

#: Characters of a context or a kind that may get a number. Clients choose them: without a limit the
#: entries of a block could take gigabytes of memory.
_MAX_LENGTH = 1_024

#: No position is in it.
_NO_BLOCK = -1

#: Columns of a row: those of an event, its checksum, and two numbers.
_WIDTH = 23

#: What the rows of a table have beside their id.
_Entry = tuple[SqlValue, ...]


class Dictionary:
    """The entries of the newest block, as one writer knows them."""

    def __init__(self, connection: apsw.Connection) -> None:
        """It knows nothing yet."""
        self._connection = connection
        self._contexts = _Entries("event_contexts", ("source", "scopes", '"groups"', "actor"))
        self._kinds = _Entries("event_kinds", ("type", "resource_type", "id_key"))
        self._block = _NO_BLOCK
        #: The newest position whose entries are known, and the floor at that time.
        self._head, self._floor = -1, -1

    def catch_up(self, head: int, floor: int) -> None:
        """Learn the entries of others, in the caller's transaction, which has this head and floor.

        An event refers to no entry that was deleted: who prunes moves the floor.
        """
        if floor != self._floor:
            self._block = _NO_BLOCK
        elif head != self._head and self._block != _NO_BLOCK:
            self._contexts.load(self._connection, self._block)
            self._kinds.load(self._connection, self._block)
        self._head, self._floor = head, floor

    def insert(self, events: Sequence[Sequence[SqlValue]]) -> None:
        """Insert events, each with the columns of an event and its checksum, in order.

        It has caught up in this transaction.
        """
        rows = [self._row(event) for event in events]
        self._contexts.write(self._connection)
        self._kinds.write(self._connection)
        values = list(chain.from_iterable(rows))
        insert_rows(self._connection, "INSERT INTO event_rows", _WIDTH, values)
        self._head = int(rows[-1][0])  # type: ignore[arg-type]

    def forget(self) -> None:
        """Forget all, for something of it was not committed."""
        self._block, self._head, self._floor = _NO_BLOCK, -1, -1
        self._contexts.clear()
        self._kinds.clear()

    def _row(self, event: Sequence[SqlValue]) -> tuple[SqlValue, ...]:
        (position, recorded, time, source, producer_id, type_, subject, scopes,
         groups, actor, resource_type, resource_name, resource_key, resource_address,
         id_key, id_value, elapsed, message, data, extensions, checksum) = event  # fmt: skip
        block = position >> BLOCK_BITS  # type: ignore[operator]
        if block != self._block:
            self._begin(block)
        context = self._contexts.number((source, scopes, groups, actor))
        if context is not None:
            source, scopes, groups, actor = "", "", None, None
        kind = self._kinds.number((type_, resource_type, id_key))
        if kind is not None:
            type_, resource_type, id_key = "", None, None
        return (
            position, recorded, time, source, producer_id, type_, subject, scopes,
            groups, actor, resource_type, resource_name, resource_key, resource_address,
            id_key, id_value, elapsed, message, data, extensions, checksum, context, kind,
        )  # fmt: skip

    def _begin(self, block: int) -> None:
        for entries in (self._contexts, self._kinds):
            entries.write(self._connection)
            entries.clear()
            entries.load(self._connection, block)
        self._block = block


class _Entries:
    """The entries that one table has of a block."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self._width = len(columns) + 1
        self._insert = f"INSERT INTO {table}"
        self._select = f"SELECT id, {', '.join(columns)} FROM {table} WHERE id BETWEEN ? AND ?"
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._first = self._next = 0
        self._numbers: dict[_Entry, int] = {}
        #: The hashes of what occurred without a number.
        self._seen: set[int] = set()
        self._new: list[SqlValue] = []

    def load(self, connection: apsw.Connection, block: int) -> None:
        """Read the entries of the block that are not known yet."""
        self._first = block << BLOCK_BITS
        bounds = (self._first + self._next, self._first + BLOCK_SIZE - 1)
        for id, *entry in all_rows(connection, self._select, bounds):
            self._numbers[tuple(entry)] = id - self._first
            self._next = id - self._first + 1

    def number(self, entry: _Entry) -> int | None:
        """The number of an entry; ``None`` where it has none."""
        number = self._numbers.get(entry)
        return number if number is not None else self._new_number(entry)

    def _new_number(self, entry: _Entry) -> int | None:
        mark = hash(entry)
        if mark not in self._seen:
            self._seen.add(mark)
            return None
        if sum(len(text) for text in entry if isinstance(text, str)) > _MAX_LENGTH:
            return None
        number = self._numbers[entry] = self._next
        self._next += 1
        self._new += (self._first + number, *entry)
        return number

    def write(self, connection: apsw.Connection) -> None:
        """Insert what got a number."""
        if self._new:
            insert_rows(connection, self._insert, self._width, self._new)
            self._new = []


def drop_unused(connection: apsw.Connection, low: int, high: int) -> None:
    """Delete the entries to which no event refers any more, of blocks from ``low`` to ``high``.

    Events at these positions were deleted in the caller's transaction.
    """
    for block in range(low >> BLOCK_BITS, (high >> BLOCK_BITS) + 1):
        for _, sql in _UNUSED:
            connection.execute(f"DELETE {sql}", _bounds(block))


def unused(connection: apsw.Connection) -> Iterator[tuple[str, int]]:
    """The table and the id of each entry to which no event refers; not of the newest block, of
    which a service may know them.
    """
    [(head,)] = all_rows(connection, "SELECT head FROM log")
    for table, sql in _UNUSED:
        blocks = all_rows(connection, f"SELECT DISTINCT id >> {BLOCK_BITS} FROM {table}")
        for (block,) in blocks:
            if block != head >> BLOCK_BITS:
                for (id,) in all_rows(connection, f"SELECT id {sql}", _bounds(block)):
                    yield table, id


def _bounds(block: int) -> tuple[int, int]:
    """The first and the last position of a block, between which are its ids, too."""
    return block << BLOCK_BITS, ((block + 1) << BLOCK_BITS) - 1


def _unused_sql(table: str, column: str) -> str:
    return f"""
    FROM {table} WHERE id BETWEEN ?1 AND ?2 AND id - ?1 NOT IN (
        SELECT {column} FROM event_rows WHERE position BETWEEN ?1 AND ?2 AND {column} IS NOT NULL
    )
    """


_UNUSED = tuple(
    (table, _unused_sql(table, column))
    for table, column in (("event_contexts", "context"), ("event_kinds", "kind"))
)
