"""Rows by position: the events, and the damaged ones."""

from collections.abc import Sequence
from typing import Any

from deploylog.events.event import Event
from deploylog.events.ids import event_id
from deploylog.events.store import Damaged
from deploylog.store.postgres.connection import Connection
from deploylog.store.postgres.rows import event_of_row, rows_at
from deploylog.store.rows import Unreadable


def read_rows(
    connection: Connection, positions: Sequence[int], epoch: int
) -> tuple[list[Event], list[Damaged]]:
    """The events at these positions, which rise or fall, in their order; and the damaged ones."""
    rows = rows_at(connection, positions)
    if len(positions) > 1 and positions[0] > positions[-1]:
        rows.reverse()
    return whole_of(rows, epoch)


def whole_of(rows: Sequence[tuple[Any, ...]], epoch: int) -> tuple[list[Event], list[Damaged]]:
    """The events of rows that ``WHOLE`` selected, and the damaged ones."""
    events: list[Event] = []
    damaged: list[Damaged] = []
    for row in rows:
        try:
            events.append(event_of_row(row, epoch))
        except Unreadable as error:
            damaged.append(_damaged(row, error, epoch))
    return events, damaged


def _damaged(row: tuple[Any, ...], error: Unreadable, epoch: int) -> Damaged:
    position, recorded = row[:2]
    # Its time is 0 when the recorded time is none.
    id = event_id(position=position, recorded=max(recorded, 0), epoch=epoch)
    return Damaged(position=position, id=id, reason=error.reason)


def read_row(connection: Connection, position: int, epoch: int) -> Event | None:
    """The event at ``position``, if there is one. Raises Unreadable."""
    for row in rows_at(connection, (position,)):
        return event_of_row(row, epoch)
    return None
