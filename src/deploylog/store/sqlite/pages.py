"""Rows by position: the events, and the damaged ones."""

from collections.abc import Sequence

import apsw

from deploylog.events.event import Event
from deploylog.events.ids import event_id
from deploylog.events.store import Damaged
from deploylog.store.rows import WHOLE, Unreadable, json_text
from deploylog.store.sqlite.connection import all_rows, one_row, one_value
from deploylog.store.sqlite.rows import SELECTED, event_of_row, events_of


def read_rows(
    connection: apsw.Connection, positions: Sequence[int], epoch: int
) -> tuple[list[Event], list[Damaged]]:
    """The events at these positions, in their order, and the damaged ones."""
    try:
        return events_of(one_value(connection, _AT_ONCE, (json_text(positions),)), epoch), []
    except BAD_ROW:
        # One bad row makes the text of all unreadable.
        return _one_by_one(connection, positions, epoch)


#: What a read raises when a row, or its page of the file, is damaged.
BAD_ROW = (Unreadable, UnicodeDecodeError, apsw.SQLError, apsw.CorruptError)


_AT_ONCE = f"""
SELECT {SELECTED}
FROM json_each(?) AS position CROSS JOIN events AS e WHERE e.position = position.value
"""


def _one_by_one(
    connection: apsw.Connection, positions: Sequence[int], epoch: int
) -> tuple[list[Event], list[Damaged]]:
    events: list[Event] = []
    damaged: list[Damaged] = []
    for position in positions:
        try:
            found = read_row(connection, position, epoch)
        except Unreadable as error:
            id = _id_of(connection, position, epoch)
            damaged.append(Damaged(position=position, id=id, reason=error.reason))
        else:
            if found is not None:
                events.append(found)
    return events, damaged


def positions_between(connection: apsw.Connection, low: int, high: int) -> list[int]:
    """The positions of the rows from behind ``low`` up to ``high``, in order."""
    return [row[0] for row in all_rows(connection, _BETWEEN, (low, high))]


_BETWEEN = "SELECT position FROM events WHERE position > ? AND position <= ? ORDER BY position"


def read_row(connection: apsw.Connection, position: int, epoch: int) -> Event | None:
    """The event at ``position``, if there is one. Raises Unreadable."""
    try:
        row = one_row(connection, _ONE, (position,))
        return event_of_row(row, epoch) if row is not None else None
    except (UnicodeDecodeError, apsw.SQLError, apsw.CorruptError) as error:
        raise Unreadable("unreadable") from error


_ONE = f"SELECT {WHOLE} FROM events AS e WHERE e.position = ?"


def _id_of(connection: apsw.Connection, position: int, epoch: int) -> str:
    """The id; its time is 0 when the recorded time cannot be read."""
    try:
        row = one_row(connection, "SELECT recorded FROM events WHERE position = ?", (position,))
    except (UnicodeDecodeError, apsw.CorruptError):
        row = None
    recorded = row[0] if row is not None else 0
    if not isinstance(recorded, int) or not 0 <= recorded < 1 << 63:
        recorded = 0
    return event_id(position=position, recorded=recorded, epoch=epoch)
