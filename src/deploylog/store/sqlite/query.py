"""Queries: walk the sparsest list of positions, and check the other conditions.

Every condition that has an index gives lists of positions, in order: the postings of a scope,
the events of a type, of an actor, of a group. The query walks down the list with the fewest
events nearby, and checks the other conditions on each event there. So a selective condition in a
huge scope does not scan the scope, nor a small scope the events of a common type.
"""

from collections.abc import Iterator, Sequence

import apsw
import msgspec

from deploylog.events.filters import AnyOf, Field, Filter
from deploylog.events.scope import ROOT, Scope, contains
from deploylog.events.store import Page, Query
from deploylog.store.sqlite.append import SPAN_BITS
from deploylog.store.sqlite.conditions import (
    Condition,
    Source,
    filter_conditions,
    groups_condition,
    has_index,
    next_value,
    scopes_condition,
)
from deploylog.store.sqlite.connection import SqlValue, one_row, one_value
from deploylog.store.sqlite.pages import SIZE, Filling, Match

#: How many entries ahead to probe a list to learn how sparse it is.
_PROBE = 256

#: Positions checked in one step, which starts small for a page that is full soon.
_MAX_STEP = 20_000

#: Values that prefixes expand to; with more, events are compared with the prefixes.
_MAX_EXPANDED = 500

_EVERY_EVENT = (Source(table="events", sql="1", values=()),)


class Range(msgspec.Struct, frozen=True):
    """Positions from ``low`` to ``high``, both exclusive."""

    low: int
    high: int


def read_events(connection: apsw.Connection, query: Query, epoch: int) -> Page:
    """Answer ``query``."""
    conditions = _conditions(connection, query)
    if conditions is None:
        return Page()
    newest = query.order == "newest"
    ranges = _ranges(connection, query)
    if newest:
        ranges.reverse()
    filling = Filling(connection, limit=query.limit, size=query.bytes, epoch=epoch)
    for span in ranges:
        if filling.is_full:
            break
        _Walk(connection, conditions, span, newest=newest).fill(filling)
    return filling.page


def _conditions(connection: apsw.Connection, query: Query) -> list[Condition] | None:
    """The conditions on events; ``None`` when no event can meet them."""
    filter = _with_prefixes_expanded(connection, query.filter)
    if not all(condition.values or condition.prefixes for condition in filter.all_of):
        return None
    conditions = filter_conditions(filter)
    if query.visibility.groups is not None:
        conditions.append(groups_condition(query.visibility.groups))
    for scopes in _scopes(query):
        numbers = _numbers(connection, scopes)
        if not numbers:
            return None
        conditions.append(scopes_condition(numbers))
    return conditions


def _with_prefixes_expanded(connection: apsw.Connection, filter: Filter) -> Filter:
    """``filter`` with prefixes replaced by the values in the log, where they are few.

    Comparing each event with hundreds of prefixes takes seconds; looking values up is fast.
    """
    conditions = tuple(_with_values(connection, condition) for condition in filter.all_of)
    return msgspec.structs.replace(filter, all_of=conditions)


def _with_values(connection: apsw.Connection, condition: AnyOf) -> AnyOf:
    if not condition.prefixes or not has_index(condition.field):
        return condition
    values = dict.fromkeys(condition.values)
    try:
        for prefix in condition.prefixes:
            for value in _values_below(connection, condition.field, prefix):
                values[value] = None
                if len(values) > _MAX_EXPANDED:
                    return condition
    except UnicodeDecodeError:
        # A damaged event; it is reported when it is read.
        return condition
    return AnyOf(field=condition.field, values=tuple(values))


def _values_below(connection: apsw.Connection, field: Field, prefix: str) -> Iterator[str]:
    """The values in the log that start with ``prefix``, in order."""
    sql, low = next_value(field), prefix
    while (row := one_row(connection, sql, (low,))) and str(row[0]).startswith(prefix):
        yield row[0]
        low = f"{row[0]}\0"


def _scopes(query: Query) -> Iterator[tuple[Scope, ...]]:
    """Sets of scopes: the event must be below a scope of each set."""
    asked = query.filter.scopes
    if query.scope:
        yield (query.scope,)
    if asked and ROOT not in asked:
        yield asked
    granted = query.visibility.scopes
    is_granted = any(contains(scope, query.scope) for scope in granted) or (
        bool(asked) and all(any(contains(scope, each) for scope in granted) for each in asked)
    )
    if not is_granted:
        yield granted


def _numbers(connection: apsw.Connection, scopes: Sequence[Scope]) -> tuple[int, ...]:
    rows = connection.execute(
        f"SELECT scope_id FROM scopes WHERE path IN ({', '.join('?' * len(scopes))})",
        tuple(scopes),
    )
    return tuple(row[0] for row in rows)


def _ranges(connection: apsw.Connection, query: Query) -> list[Range]:
    """Where the events of the query can be, oldest first."""
    head = one_value(connection, "SELECT head FROM log")
    low = query.after if query.after is not None else 0
    high = min(query.before, head + 1) if query.before is not None else head + 1
    if high - low < 2:
        return []
    whole = Range(low, high)
    if query.filter.since is None and query.filter.until is None:
        return [whole]
    return _spans_in(connection, query.filter, whole)


def _spans_in(connection: apsw.Connection, filter: Filter, whole: Range) -> list[Range]:
    """The blocks of ``whole`` with events that may be in the time of the filter."""
    rows = connection.execute(
        _SPANS,
        (
            (whole.low + 1) >> SPAN_BITS,
            (whole.high - 1) >> SPAN_BITS,
            filter.since if filter.since is not None else 0,
            filter.until if filter.until is not None else 2**63 - 1,
        ),
    )
    ranges: list[Range] = []
    for (block,) in rows:
        low, high = (block << SPAN_BITS) - 1, (block + 1) << SPAN_BITS
        if ranges and ranges[-1].high == low + 1:
            low = ranges.pop().low
        ranges.append(Range(low, high))
    return [Range(max(each.low, whole.low), min(each.high, whole.high)) for each in ranges]


_SPANS = """
SELECT block FROM spans
WHERE block BETWEEN ? AND ? AND latest >= ? AND earliest <= ?
ORDER BY block
"""


class _Walk:
    """A walk through a range of positions, newest or oldest first."""

    def __init__(
        self,
        connection: apsw.Connection,
        conditions: Sequence[Condition],
        span: Range,
        *,
        newest: bool,
    ) -> None:
        self._connection = connection
        self._span = span
        self._newest = newest
        self._direction = "DESC" if newest else "ASC"
        driver = self._sparsest(conditions)
        self._sources = driver.sources if driver else _EVERY_EVENT
        exact = [c for c in conditions if c is not driver]
        self._check = " AND ".join(["1", *(c.sql for c in exact)])
        self._values = tuple(value for c in exact for value in c.values)

    def fill(self, filling: Filling) -> None:
        """Add the events that meet every condition, until the page is full."""
        step = filling.wanted
        while not filling.is_full:
            positions = self._positions(self._span, step)
            wanted = filling.wanted
            matches = self._matches(positions, wanted)
            filling.add(matches)
            # Damaged events do not count, so the page may have room after all wanted matches.
            is_cut = len(matches) == wanted
            if len(positions) < step and not is_cut:
                break
            last = matches[-1][0] if is_cut else positions[-1]
            low, high = self._span.low, self._span.high
            self._span = Range(low, last) if self._newest else Range(last, high)
            step = min(step * 4, _MAX_STEP)

    def _sparsest(self, conditions: Sequence[Condition]) -> Condition | None:
        driving = [condition for condition in conditions if condition.sources]
        if len(driving) < 2:
            return driving[0] if driving else None
        return min(driving, key=lambda condition: sum(map(self._density, condition.sources)))

    def _density(self, source: Source) -> float:
        """Entries per position, from where the walk starts."""
        start, end = (
            (self._span.high, self._span.low) if self._newest else (self._span.low, self._span.high)
        )
        sql = f"{self._select(source)} ORDER BY position {self._direction} LIMIT 1 OFFSET {_PROBE}"
        row = one_row(self._connection, sql, self._bounded(source, self._span))
        if row is None:
            return 1 / abs(end - start)
        return _PROBE / max(1, abs(int(row[0]) - start))

    def _positions(self, span: Range, limit: int) -> list[int]:
        selects = " UNION ".join(self._select(source) for source in self._sources)
        values = tuple(v for source in self._sources for v in self._bounded(source, span))
        sql = (
            "SELECT json_group_array(position) FROM"
            f" ({selects} ORDER BY position {self._direction} LIMIT {limit})"
        )
        text = one_value(self._connection, sql, values)
        return msgspec.json.decode(text, type=list[int])

    def _matches(self, positions: Sequence[int], limit: int) -> list[Match]:
        """The first events at these positions that meet the other conditions."""
        # The events are in the order of the array: CROSS JOIN makes it the outer loop.
        sql = (
            f"SELECT json_group_array(json_array(position, size)) FROM"
            f" (SELECT e.position, {SIZE} AS size FROM json_each(?) AS position"
            f" CROSS JOIN events AS e ON e.position = position.value"
            f" WHERE {self._check} LIMIT {limit})"
        )
        text = msgspec.json.encode(positions).decode()
        found = one_value(self._connection, sql, (text, *self._values))
        matches = msgspec.json.decode(found, type=list[Match])
        matches.sort(reverse=self._newest)
        return matches

    def _select(self, source: Source) -> str:
        return (
            f"SELECT position FROM {source.table}"
            f" WHERE {source.sql} AND position > ? AND position < ?"
        )

    def _bounded(self, source: Source, span: Range) -> tuple[SqlValue, ...]:
        return (*source.values, span.low, span.high)
