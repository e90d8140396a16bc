"""Pages: events at known positions, up to a number of bytes, and the damaged ones listed."""

from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice

from deploylog.events.event import Event
from deploylog.events.filters import Filter
from deploylog.events.index.search import EventRows, Search, Selected
from deploylog.events.store import MAX_DAMAGED, PAGE_BYTES, Damaged, Page, Query

#: Approximate bytes of an event ``e``. A backend knows the lengths without reading the content.
SIZE = " + ".join(
    f'coalesce(octet_length(e."{column}"), 0)'
    for column in ("scopes", "groups", "message", "data", "extensions")
)

#: Bytes of an event besides these.
_OTHER_BYTES = 256

#: A position, and the bytes of the event there.
Match = tuple[int, int]


#: Reads the events at these positions, in their order, and the damaged ones.
ReadRows = Callable[[Sequence[int]], tuple[list[Event], list[Damaged]]]


class Filling:
    """A page while it is being filled."""

    def __init__(self, read: ReadRows, *, limit: int, size: int) -> None:
        self._read = read
        self._limit = limit
        self._max_bytes = min(size, PAGE_BYTES)
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
        events, damaged = self._read(positions)
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


#: Positions whose rows are looked at in one step: little at first, for the page that is full at
#: once.
_LARGEST_STEP = 20_000

#: Events that are read at once to decide whether they match.
_READ_SIZE = 1_000


def fill_page(
    search: Search,
    query: Query,
    filling: Filling,
    rows: EventRows,
    matches_at: Callable[[Sequence[int]], list[Match]],
) -> Page:
    """Answer ``query`` from what ``search`` selects.

    ``matches_at`` gives those of some positions whose events are there and in the range of time.
    """
    newest = query.order == "newest"
    step = query.limit
    for each in search.selected():
        positions = each.positions[::-1] if newest else each.positions
        unread = set(Selected(each.segment, search.unread(each)).positions)
        for part in _parts(positions, step):
            candidates = _decided(part, unread, rows, query.filter) if unread else part
            matches = sorted(matches_at(candidates), reverse=newest)
            search.trace.rows += len(part)
            search.trace.rows_in_vain += len(part) - len(matches)
            while matches and not filling.is_full:
                # Damaged events do not count, so a page may not be full with what was asked for.
                wanted = filling.wanted
                filling.add(matches[:wanted])
                matches = matches[wanted:]
            if filling.is_full:
                return filling.page
            step = min(step * 4, _LARGEST_STEP)
    return filling.page


def _parts(positions: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The positions in runs that grow."""
    start = 0
    while start < len(positions):
        yield positions[start : start + size]
        start += size
        size = min(size * 4, _LARGEST_STEP)


def _decided(
    positions: Sequence[int], unread: Set[int], rows: EventRows, filter: Filter
) -> Sequence[int]:
    """Those of the positions that match, where only the rows of ``unread`` decide."""
    matching = set(rows.matching([p for p in positions if p in unread], filter))
    return [p for p in positions if p not in unread or p in matching]


def matching_rows(read: ReadRows, positions: Sequence[int], filter: Filter) -> Iterator[int]:
    """The positions whose events match the filter, or are damaged."""
    remaining = iter(positions)
    while part := list(islice(remaining, _READ_SIZE)):
        events, damaged = read(part)
        yield from (event.position for event in events if filter.matches(event))
        yield from (each.position for each in damaged)
