"""Filters and visibility as SQL: the second evaluator of ``Filter`` and ``Visibility``.

Every condition is on an event ``e``. Values are always parameters, written ``?``.
"""

from collections.abc import Iterable

import msgspec

from deploylog.events.event import EVERYBODY
from deploylog.events.filters import AnyOf, Field, Filter

Value = str | int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of ``table`` that meet ``sql``; an index has them in the order of ``position``."""

    table: str
    sql: str
    values: tuple[Value, ...]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on an event, and where events that meet it can be found in order."""

    sql: str
    values: tuple[Value, ...]
    #: Selects that give the ``position`` of every event that may meet it, each in order by
    #: itself; empty when there is no index that could.
    sources: tuple[Source, ...] = ()


#: How many values of a field are merged; with more, the condition is only checked.
MAX_VALUES = 32

#: Likewise for scopes and groups. SQLite merges up to 500.
MAX_SOURCES = 64

#: Named, because the planner prefers to walk through the whole table by position.
_INDEXES: dict[Field, str] = {
    "type": "events_type",
    "source": "events_source",
    "actor": "events_actor",
    "resource_type": "events_resource_type",
    "resource_name": "events_resource_name",
}


def filter_conditions(filter: Filter) -> list[Condition]:
    """The conditions of a filter. An event must meet all of them."""
    conditions = [_any_of(condition) for condition in filter.all_of]
    if filter.since is not None:
        conditions.append(Condition(sql="e.time >= ?", values=(filter.since,)))
    if filter.until is not None:
        conditions.append(Condition(sql="e.time < ?", values=(filter.until,)))
    return conditions


def has_index(field: Field) -> bool:
    """Whether an index has the values of the field in order."""
    return field in _INDEXES


def next_value(field: Field) -> str:
    """Select the lowest value of the field that is not below ``?1``.

    One step in the index, however many events have this value or a higher one.
    """
    return (
        f"SELECT {field} FROM events INDEXED BY {_INDEXES[field]} WHERE {field} >= ?1"
        f" ORDER BY {field} LIMIT 1"
    )


def _any_of(condition: AnyOf) -> Condition:
    column = condition.field
    values = condition.values
    parts = [f"e.{column} IN ({_marks(len(values))})"]
    bounds: list[Value] = []
    for prefix in condition.prefixes:
        parts.append(f"(e.{column} >= ? AND substr(e.{column}, 1, {len(prefix)}) = ?)")
        bounds += [prefix, prefix]
    return Condition(
        sql=f"({' OR '.join(parts)})",
        values=(*values, *bounds),
        sources=() if condition.prefixes else _field_sources(condition),
    )


def _field_sources(condition: AnyOf) -> tuple[Source, ...]:
    index = _INDEXES.get(condition.field)
    if index is None or len(condition.values) > MAX_VALUES:
        return ()
    return tuple(
        Source(table=f"events INDEXED BY {index}", sql=f"{condition.field} = ?", values=(value,))
        for value in dict.fromkeys(condition.values)
    )


def scopes_condition(numbers: tuple[int, ...]) -> Condition:
    """The event is below one of the scopes with these numbers."""
    return Condition(
        sql="EXISTS (SELECT 1 FROM postings AS p"
        f" WHERE p.scope_id IN ({_marks(len(numbers))}) AND p.position = e.position)",
        values=numbers,
        sources=_mergeable(
            Source(table="postings", sql="scope_id = ?", values=(number,)) for number in numbers
        ),
    )


def groups_condition(groups: frozenset[str]) -> Condition:
    """The event is public, or visible to one of these groups."""
    asked = tuple(sorted(groups | {EVERYBODY}))
    every = Source(table="events INDEXED BY events_public", sql='"groups" IS NULL', values=())
    return Condition(
        sql='(e."groups" IS NULL OR EXISTS (SELECT 1 FROM event_groups AS g'
        f' WHERE g."group" IN ({_marks(len(asked))}) AND g.position = e.position))',
        values=asked,
        sources=_mergeable(
            (
                every,
                *(Source(table="event_groups", sql='"group" = ?', values=(g,)) for g in asked),
            )
        ),
    )


def _mergeable(sources: Iterable[Source]) -> tuple[Source, ...]:
    found = tuple(sources)
    return found if len(found) <= MAX_SOURCES else ()


def _marks(number: int) -> str:
    return ", ".join("?" * number)
