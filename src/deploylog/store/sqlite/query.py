"""How a query is answered: the index selects positions, and their rows make the page."""

from collections.abc import Sequence
from functools import partial

import apsw
import msgspec

from deploylog.events.index.search import Moment, Search
from deploylog.events.index.trace import Trace
from deploylog.events.store import Page, Query
from deploylog.store.pages import SIZE, Filling, Match, fill_page
from deploylog.store.sqlite.connection import one_value
from deploylog.store.sqlite.index import SqliteEventRows
from deploylog.store.sqlite.pages import read_rows


def read_events(
    connection: apsw.Connection, moment: Moment, query: Query, epoch: int, *, trace: Trace
) -> Page:
    """Answer ``query`` from the index of this moment; ``trace`` counts what it takes."""

    def matches_at(positions: Sequence[int]) -> list[Match]:
        text = msgspec.json.encode(positions).decode()
        found = one_value(connection, _MATCHES, (text, *query.filter.time_bounds))
        return msgspec.json.decode(found, type=list[Match])

    read = partial(read_rows, connection, epoch=epoch)
    return fill_page(
        Search(moment, query, trace),
        query,
        Filling(read, limit=query.limit, size=query.bytes),
        SqliteEventRows(connection, epoch),
        matches_at,
    )


# The events come in the order of the array: CROSS JOIN keeps it the outer loop.
_MATCHES = f"""
SELECT json_group_array(json_array(position, size)) FROM (
    SELECT e.position, {SIZE} AS size FROM json_each(?) AS position
    CROSS JOIN events AS e
    WHERE e.position = position.value AND e.time BETWEEN ? AND ?
)
"""
