"""How a query is answered: the index selects positions, and their rows make the page."""

from collections.abc import Iterator, Sequence, Set

from deploylog.events.filters import Filter
from deploylog.events.index.search import EventRows, Moment, Search, Selected
from deploylog.events.index.trace import Trace
from deploylog.events.store import Page, Query
from deploylog.store.postgres.connection import Connection, all_rows
from deploylog.store.postgres.index import PostgresEventRows, time_bounds
from deploylog.store.postgres.pages import SIZE, Filling, Match

#: Positions whose rows are looked at in one step: little at first, for the page that is full at
#: once.
_LARGEST_STEP = 20_000


def read_events(
    connection: Connection, moment: Moment, query: Query, epoch: int, *, trace: Trace
) -> Page:
    """Answer ``query`` from the index of this moment; ``trace`` counts what it takes."""
    search = Search(moment, query, trace)
    rows = PostgresEventRows(connection, epoch)
    filling = Filling(connection, limit=query.limit, size=query.bytes, epoch=epoch)
    step = query.limit
    for each in search.selected():
        positions = each.positions
        if query.order == "newest":
            positions.reverse()
        unread = set(Selected(each.segment, search.unread(each)).positions)
        for part in _parts(positions, step):
            candidates = _decided(part, unread, rows, query.filter) if unread else part
            matches = _matches(connection, candidates, query)
            trace.rows += len(part)
            trace.rows_in_vain += len(part) - len(matches)
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


def _matches(connection: Connection, positions: Sequence[int], query: Query) -> list[Match]:
    """Those of the positions whose events are there and in the range of time, in their order."""
    values = (list(positions), *time_bounds(query.filter))
    matches: list[Match] = all_rows(connection, _MATCHES, values)
    matches.sort(reverse=query.order == "newest")
    return matches


_MATCHES = f"""
SELECT e.position, {SIZE} FROM events AS e
WHERE e.position = ANY(%s::bigint[]) AND e.time BETWEEN %s AND %s
"""
