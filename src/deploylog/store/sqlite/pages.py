"""Pages: events at known positions, up to a number of bytes, and the damaged ones listed."""

from collections.abc import Sequence

import apsw
import msgspec

from deploylog.events.event import Event
from deploylog.events.ids import event_id
from deploylog.events.store import MAX_DAMAGED, PAGE_BYTES, Damaged, Page
from deploylog.store.rows import WHOLE, Unreadable
from deploylog.store.sqlite.connection import one_row, one_value
from deploylog.store.sqlite.rows import SELECTED, event_of_row, events_of

#: Approximate bytes of an event ``e``. SQLite knows the lengths without reading the content.
SIZE = " + ".join(
    f'coalesce(octet_length(e."{column}"), 0)'
    for column in ("scopes", "groups", "message", "data", "extensions")
)

#: Bytes of an event besides these.
_OTHER_BYTES = 256

#: A position, and the bytes of the event there.
Match = tuple[int, int]


class Filling:
    """A page while it is being filled."""

    def __init__(self, connection: apsw.Connection, *, limit: int, size: int, epoch: int) -> None:
        self._connection = connection
        self._limit = limit
        self._max_bytes = min(size, PAGE_BYTES)
        self._epoch = epoch
        self._events: list[Event] = []
        self._damaged: list[Damaged] = []
        self._size = 0
        self._last: int | None = None
        self._next: int | None = None

    @property
    def wanted(self) -> int:
        """How many more events fit."""
        return self._limit - len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be added."""
        return self._next is not None or self.wanted <= 0

    @property
    def page(self) -> Page:
        return Page(self._events, next=self._next, damaged=self._damaged, size=self._size)

    def add(self, matches: Sequence[Match]) -> None:
        """Add the next events, in order, until the page is full."""
        positions = self._fitting(matches)
        if not positions:
            if matches:
                # The page is full: not even the first of them fits.
                self._next = self._last
            return
        self._last = positions[-1]
        events, damaged = read_rows(self._connection, positions, self._epoch)
        self._events += events
        self._damaged += damaged
        is_cut = len(positions) < len(matches)
        if is_cut or self.wanted <= 0 or len(self._damaged) >= MAX_DAMAGED:
            self._next = self._last

    def _fitting(self, matches: Sequence[Match]) -> list[int]:
        """The positions of the events that fit. The first event of a page always fits."""
        positions: list[int] = []
        for position, size in matches:
            size += _OTHER_BYTES
            if self._size and self._size + size > self._max_bytes:
                break
            self._size += size
            positions.append(position)
        return positions


def read_rows(
    connection: apsw.Connection, positions: Sequence[int], epoch: int
) -> tuple[list[Event], list[Damaged]]:
    """The events at these positions, in their order, and the damaged ones."""
    text = msgspec.json.encode(positions).decode()
    try:
        return events_of(one_value(connection, _AT_ONCE, (text,)), epoch), []
    except BAD_ROW:
        # One bad row makes the text of all unreadable.
        return _one_by_one(connection, positions, epoch)


#: What a read raises when a row, or its page of the file, is damaged.
BAD_ROW = (Unreadable, UnicodeDecodeError, apsw.SQLError, apsw.CorruptError)


_AT_ONCE = f"""
SELECT {SELECTED}
FROM json_each(?) AS position CROSS JOIN events AS e ON e.position = position.value
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
