"""Pages: events at known positions, up to a number of bytes, and the damaged ones listed."""

from collections.abc import Sequence
from typing import Any

from deploylog.events.event import Event
from deploylog.events.ids import event_id
from deploylog.events.store import MAX_DAMAGED, PAGE_BYTES, Damaged, Page
from deploylog.store.postgres.connection import Connection
from deploylog.store.postgres.rows import event_of_row, rows_at
from deploylog.store.rows import Unreadable

#: Approximate bytes of an event ``e``. The server knows the lengths without reading the content.
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

    def __init__(self, connection: Connection, *, limit: int, size: int, epoch: int) -> None:
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
