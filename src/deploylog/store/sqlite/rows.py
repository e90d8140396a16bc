"""Rows in SQLite: events are read as one JSON text, not row by row.

SQLite then works through it in a single call, without the interpreter's lock. Row by row, every
row would wait for that lock again, and a busy event loop would slow a reader down a hundred times.
"""

from typing import Any

import msgspec

from deploylog.events.event import Event
from deploylog.store.rows import BAD_CONTENT, WHOLE, Row, Unreadable, event_from

#: The events of a query as one JSON text.
SELECTED = f"json_group_array(json_array({WHOLE}))"

_decode_rows = msgspec.json.Decoder(list[Row]).decode


def events_of(text: str, epoch: int) -> list[Event]:
    """The events of a JSON text selected by ``SELECTED``. Raises Unreadable if one is damaged."""
    try:
        return [event_from(row, epoch) for row in _decode_rows(text)]
    except BAD_CONTENT as error:
        raise Unreadable("unreadable") from error


def event_of_row(row: tuple[Any, ...], epoch: int) -> Event:
    """The event of one row, selected by ``WHOLE``. Raises Unreadable."""
    try:
        return event_from(msgspec.convert(row, Row), epoch)
    except BAD_CONTENT as error:
        raise Unreadable("unreadable") from error
