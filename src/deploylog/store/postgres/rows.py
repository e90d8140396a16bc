"""Rows: how an event is read from the ``events`` table. What it holds is as in SQLite."""

from collections.abc import Sequence
from typing import Any, cast

from deploylog.events.event import Event
from deploylog.store.postgres.connection import Connection, all_rows
from deploylog.store.rows import BAD_CONTENT, COLUMNS, WHOLE, Row, Unreadable, event_from

STORED = ", ".join(f'"{column}"' for column in (*COLUMNS, "checksum"))

#: Their types.
TYPES = tuple(
    "bigint" if column in ("position", "recorded", "time", "elapsed", "checksum") else "text"
    for column in (*COLUMNS, "checksum")
)


def event_of_row(row: tuple[Any, ...], epoch: int) -> Event:
    """The event of one row, selected by ``WHOLE``. Raises Unreadable."""
    try:
        return event_from(cast("Row", row), epoch)
    except BAD_CONTENT as error:
        raise Unreadable("unreadable") from error


def rows_at(connection: Connection, positions: Sequence[int]) -> list[tuple[Any, ...]]:
    """The rows of the events at these positions, which rise; in order."""
    return all_rows(connection, _AT, (list(positions),))


_AT = f"""
SELECT {WHOLE} FROM events AS e WHERE e.position = ANY(%s::bigint[]) ORDER BY e.position
"""
