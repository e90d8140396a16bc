"""How a query is answered: the index selects positions, and their rows make the page."""

from collections.abc import Sequence
from functools import partial

from deploylog.events.index.search import Moment, Search
from deploylog.events.index.trace import Trace
from deploylog.events.store import Page, Query
from deploylog.store.pages import SIZE, Filling, Match, fill_page
from deploylog.store.postgres.connection import Connection, all_rows
from deploylog.store.postgres.index import PostgresEventRows
from deploylog.store.postgres.pages import read_rows


def read_events(
    connection: Connection, moment: Moment, query: Query, epoch: int, *, trace: Trace
) -> Page:
    """Answer ``query`` from the index of this moment; ``trace`` counts what it takes."""

    def matches_at(positions: Sequence[int]) -> list[Match]:
        return all_rows(connection, _MATCHES, (list(positions), *query.filter.time_bounds))

    read = partial(read_rows, connection, epoch=epoch)
    return fill_page(
        Search(moment, query, trace),
        query,
        Filling(read, limit=query.limit, size=query.bytes),
        PostgresEventRows(connection, epoch),
        matches_at,
    )


_MATCHES = f"""
SELECT e.position, {SIZE} FROM events AS e
WHERE e.position = ANY(%s::bigint[]) AND e.time BETWEEN %s AND %s
"""
