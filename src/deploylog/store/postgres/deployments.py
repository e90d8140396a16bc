"""Stacks and deployments in PostgreSQL: what an append loads and writes, and the catalog."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deploylog.deployments.filters import DeploymentFilter
from deploylog.deployments.projection import Count, states_of
from deploylog.events.scope import Scope
from deploylog.store.catalog import (
    CatalogLookups,
    CatalogRows,
    ChangesetRow,
    Counted,
    StackRow,
)
from deploylog.store.catalog_reader import DEPLOYMENT, CatalogSql, SqlCatalog
from deploylog.store.catalog_tables import CatalogTables
from deploylog.store.deployment_rows import DeploymentRows
from deploylog.store.postgres.connection import Connection, all_rows
from deploylog.store.postgres.dialect import DIALECT
from deploylog.store.postgres.readers import Readers

_ROWS = DeploymentRows(DIALECT)


def load_catalog(connection: Connection, wanted: CatalogLookups) -> CatalogRows:
    """The rows that decide what changes do; one statement for each kind that is wanted."""
    deployments = [_ROWS.deployment(row) for row in _rows(connection, _ENDING, wanted.deployments)]
    states = {*wanted.states, *(path for each in deployments for path in states_of(each.scopes))}
    return CatalogRows(
        stacks=[
            StackRow(*row)
            for row in (
                *_rows(connection, _STACKS_BY_ID, wanted.stacks),
                *_named_stacks(connection, wanted.names),
            )
        ],
        deployments=deployments,
        states=[Scope(path) for (path,) in _rows(connection, _STATES, tuple(states))],
        changesets=[
            ChangesetRow(id, tuple(map(Scope, scopes)), tuple(groups))
            for id, scopes, groups in _rows(connection, _STAGING, wanted.changesets)
        ],
    )


def _rows(connection: Connection, sql: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
    return all_rows(connection, sql, (list(values),)) if values else []


def _named_stacks(
    connection: Connection, names: Sequence[tuple[str, str]]
) -> list[tuple[Any, ...]]:
    if not names:
        return []
    values = ([project for project, _ in names], [name for _, name in names])
    return all_rows(connection, _STACKS_BY_NAME, values)


def _count(connection: Connection, counted: Counted) -> None:
    counts = [
        (
            *(counts.get(name, 0) for name in _COUNTS),
            *msgspec.structs.astuple(place),
            list(groups),
        )
        for (place, groups), counts in counted.items()
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_COUNT, counts)


_COUNTS: tuple[Count, ...] = ("added", "changed", "destroyed", "failed")

#: Writes what an append changes, in its transaction.
write_catalog = CatalogTables(DIALECT, _ROWS, count=_count).write

_STACK_ROW = "s.id, s.project, s.name, s.deleted IS NOT NULL"

_STACKS_BY_ID = f"""
SELECT {_STACK_ROW} FROM stacks AS s WHERE s.id = ANY(%s::text[])
"""

_STACKS_BY_NAME = f"""
SELECT {_STACK_ROW} FROM unnest(%s::text[], %s::text[]) AS wanted (project, name)
JOIN stacks AS s ON s.project = wanted.project AND s.name = wanted.name AND s.deleted IS NULL
"""

_STATES = """
SELECT path FROM states WHERE path = ANY(%s::text[])
"""

_STAGING = """
SELECT c.id, c.scopes, c."groups" FROM changesets AS c
WHERE c.status = 'staging' AND lower(c.id) = ANY(SELECT lower(id) FROM unnest(%s::text[]) AS id)
"""

_COUNT = """
UPDATE deployments SET
    added = added + %s, changed = changed + %s, destroyed = destroyed + %s, failed = failed + %s
WHERE project = %s AND stack_id = %s AND id = %s AND "groups" = %s::text[]
"""

#: With deployments whose stack is missing: ``verify`` may not have the event that created it.
_ENDING = f"""
SELECT {DEPLOYMENT.replace("s.name", "coalesce(s.name, '')")} FROM deployments AS c
LEFT JOIN stacks AS s ON s.id = c.stack_id WHERE c.id = ANY(%s::text[])
"""

_OUTCOMES = """
SELECT c.number, c.id, c.project, c.stack_id, c.status, c.started, c.ended, c.operation,
    c.environment, c.details
FROM deployments AS c
WHERE (c.ended, c.number) < (%(ended)s, %(number)s) AND {conditions}
ORDER BY c.ended DESC, c.number DESC
LIMIT %(limit)s
"""

_ENVIRONMENTS = """
SELECT environment FROM (
    SELECT DISTINCT c.environment COLLATE "C" AS environment FROM deployments AS c
    WHERE {visible} AND c.environment IS NOT NULL
        AND (%(project)s::text IS NULL OR c.project = %(project)s)
) AS found ORDER BY environment
"""

_HAS_COMMIT = """
EXISTS (
    SELECT 1 FROM jsonb_array_elements(coalesce(c.details::jsonb -> 'commits', '[]')) AS k,
        unnest(%(commits)s::text[]) AS prefix
    WHERE starts_with(k ->> 'sha', prefix)
)
"""

_APPLIES_PLAN = "lower(c.details::jsonb -> 'plan' ->> 'id') = ANY(%(plans)s::text[])"

_HAS_LABELS = """
NOT EXISTS (
    SELECT 1 FROM unnest(%(label_names)s::text[], %(label_values)s::text[]) AS w (name, value)
    WHERE c.details::jsonb -> 'labels' ->> w.name IS DISTINCT FROM w.value
)
"""

_HAS_ID = """
EXISTS (SELECT 1 FROM unnest(%(deployments)s::text[]) AS prefix WHERE starts_with(c.id, prefix))
"""


_IS_EXPLAINED = (
    "coalesce(c.details::jsonb ->> 'restores', c.details::jsonb ->> 'rework_of') IS NOT NULL"
)


def _conditions(where: DeploymentFilter) -> tuple[list[str], dict[str, object]]:
    """The conditions of a filter in SQL, and the values of their parameters."""
    lists: dict[str, tuple[object, str]] = {
        "stacks": (where.stacks, "c.stack_id = ANY(%(stacks)s::text[])"),
        "environments": (where.environments, "c.environment = ANY(%(environments)s::text[])"),
        "deployments": (where.deployments, _HAS_ID),
        "statuses": (where.statuses, "c.status = ANY(%(statuses)s::text[])"),
        "versions": (where.versions, "c.details::jsonb ->> 'version' = ANY(%(versions)s::text[])"),
        "commits": (where.commits, _HAS_COMMIT),
        "plans": (where.plans, _APPLIES_PLAN),
    }
    conditions: list[str] = []
    values: dict[str, object] = {}
    for name, (wanted, condition) in lists.items():
        # No stack is a condition that nothing meets; of the others, none is no condition.
        if wanted or (name == "stacks" and wanted is not None):
            conditions.append(condition)
            values[name] = list(wanted)  # type: ignore[call-overload]
    if where.labels:
        conditions.append(_HAS_LABELS)
        values["label_names"] = [name for name, _ in where.labels]
        values["label_values"] = [value for _, value in where.labels]
    if where.project is not None:
        conditions.append("c.project = %(of_project)s")
        values["of_project"] = where.project
    if where.since is not None:
        conditions.append("c.started >= %(since)s")
        values["since"] = where.since
    if where.is_explained:
        conditions.append(_IS_EXPLAINED)
    if where.current:
        conditions.append("c.place = 1 AND s.deleted IS NULL")
    return conditions, values


_CATALOG = CatalogSql(outcomes=_OUTCOMES, environments=_ENVIRONMENTS, conditions=_conditions)


def postgres_catalog(readers: Readers) -> SqlCatalog[Connection]:
    """The ``Catalog`` of a PostgreSQL store."""
    return SqlCatalog(readers, DIALECT, _CATALOG)
