"""Stacks and deployments in SQLite: the rows that an append loads and writes, and the catalog."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from deploylog.deployments.filters import DeploymentFilter
from deploylog.deployments.projection import states_of
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
from deploylog.store.rows import json_text, names_of, scopes_of
from deploylog.store.sqlite.connection import SqlValue, all_rows
from deploylog.store.sqlite.dialect import DIALECT
from deploylog.store.sqlite.readers import Readers

_ROWS = DeploymentRows(DIALECT)


def load_catalog(connection: apsw.Connection, wanted: CatalogLookups) -> CatalogRows:
    """The rows that decide what changes do; one statement for each kind that is wanted."""
    deployments = [_ROWS.deployment(row) for row in _rows(connection, _ENDING, wanted.deployments)]
    states = {*wanted.states, *(path for each in deployments for path in states_of(each.scopes))}
    return CatalogRows(
        stacks=[
            StackRow(id, project, name, bool(is_deleted))
            for sql, values in ((_STACKS_BY_ID, wanted.stacks), (_STACKS_BY_NAME, wanted.names))
            for id, project, name, is_deleted in _rows(connection, sql, values)
        ],
        deployments=deployments,
        states=[Scope(path) for (path,) in _rows(connection, _STATES, tuple(states))],
        changesets=[
            row
            for each in _rows(connection, _STAGING, wanted.changesets)
            if (row := _changeset_row(*each)) is not None
        ],
    )


def _rows(connection: apsw.Connection, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    return all_rows(connection, sql, (json_text(values),)) if values else []


def _changeset_row(id: str, scopes: bytes, groups: bytes) -> ChangesetRow | None:
    """``None`` for a damaged one: it must not prevent the event that ends it."""
    try:
        return ChangesetRow(id, scopes_of(scopes.decode()), names_of(groups.decode()))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _count(connection: apsw.Connection, counted: Counted) -> None:
    counts = [
        (*msgspec.structs.astuple(place), json_text(groups), counts)
        for (place, groups), counts in counted.items()
    ]
    # One statement for all deployments: each would wait for the interpreter's lock again.
    connection.execute(_COUNT, (json_text(counts),))


#: Writes what an append changes, in its transaction.
write_catalog = CatalogTables(DIALECT, _ROWS, count=_count).write

_STACK_ROW = "s.id, s.project, s.name, s.deleted IS NOT NULL"

_STACKS_BY_ID = f"""
SELECT {_STACK_ROW} FROM json_each(?) AS id CROSS JOIN stacks AS s ON s.id = id.value
"""

_STACKS_BY_NAME = f"""
SELECT {_STACK_ROW} FROM json_each(?) AS name
CROSS JOIN stacks AS s
    ON s.project = name.value ->> 0 AND s.name = name.value ->> 1 AND s.deleted IS NULL
"""

_STATES = """
SELECT s.path FROM json_each(?) AS path CROSS JOIN states AS s ON s.path = path.value
"""

_STAGING = """
SELECT c.id, CAST(c.scopes AS BLOB), CAST(c."groups" AS BLOB) FROM json_each(?) AS id
CROSS JOIN changesets AS c ON c.id = id.value
WHERE c.status = 'staging'
"""

_COUNT = """
UPDATE deployments SET
    added = added + coalesce(counted.value -> 4 ->> 'added', 0),
    changed = changed + coalesce(counted.value -> 4 ->> 'changed', 0),
    destroyed = destroyed + coalesce(counted.value -> 4 ->> 'destroyed', 0),
    failed = failed + coalesce(counted.value -> 4 ->> 'failed', 0)
FROM json_each(?) AS counted
WHERE deployments.project = counted.value ->> 0
    AND deployments.stack_id = counted.value ->> 1
    AND deployments.id = counted.value ->> 2
    AND deployments."groups" = counted.value ->> 3
"""

#: With deployments whose stack is missing: ``verify`` may not have the event that created it.
_ENDING = f"""
SELECT {DEPLOYMENT.replace("s.name", "coalesce(s.name, '')")} FROM json_each(?) AS id
CROSS JOIN deployments AS c ON c.id = id.value LEFT JOIN stacks AS s ON s.id = c.stack_id
"""

#: The index by name: another one would sort all that is left of the deployments for each page.
_OUTCOMES = """
SELECT c.number, c.id, c.project, c.stack_id, c.status, c.started, c.ended, c.operation,
    c.environment, c.details
FROM deployments AS c INDEXED BY deployments_ended
WHERE (c.ended, c.number) < (:ended, :number) AND {conditions}
ORDER BY c.ended DESC, c.number DESC
LIMIT :limit
"""


_ENVIRONMENTS = """
SELECT DISTINCT c.environment FROM deployments AS c
WHERE {visible} AND c.environment IS NOT NULL AND (:project IS NULL OR c.project = :project)
ORDER BY c.environment
"""

#: The value of a parameter that is a JSON array.
_ONE_OF = "IN (SELECT value FROM json_each(:{}))"

_HAS_COMMIT = """
EXISTS (
    SELECT 1 FROM json_each(c.details, '$.commits') AS k, json_each(:commits) AS p
    WHERE substr(k.value ->> 'sha', 1, length(p.value)) = p.value
)
"""

_HAS_LABELS = """
NOT EXISTS (
    SELECT 1 FROM json_each(:labels) AS w WHERE NOT EXISTS (
        SELECT 1 FROM json_each(c.details, '$.labels') AS l
        WHERE l.key = w.value ->> 0 AND l.value = w.value ->> 1
    )
)
"""

_HAS_ID = """
EXISTS (
    SELECT 1 FROM json_each(:deployments) AS p
    WHERE substr(c.id, 1, length(p.value)) = p.value
)
"""


_IS_EXPLAINED = "coalesce(c.details ->> '$.restores', c.details ->> '$.rework_of') IS NOT NULL"


def _conditions(where: DeploymentFilter) -> tuple[list[str], dict[str, SqlValue]]:
    """The conditions of a filter in SQL, and the values of their parameters."""
    lists = {
        "stacks": (where.stacks, f"c.stack_id {_ONE_OF.format('stacks')}"),
        "environments": (
            where.environments or None,
            f"c.environment {_ONE_OF.format('environments')}",
        ),
        "deployments": (where.deployments or None, _HAS_ID),
        "statuses": (where.statuses or None, f"c.status {_ONE_OF.format('statuses')}"),
        "versions": (
            where.versions or None,
            f"c.details ->> '$.version' {_ONE_OF.format('versions')}",
        ),
        "commits": (where.commits or None, _HAS_COMMIT),
        "plans": (
            where.plans or None,
            f"lower(c.details ->> '$.plan.id') {_ONE_OF.format('plans')}",
        ),
        "labels": (where.labels or None, _HAS_LABELS),
    }
    given = {name: pair for name, pair in lists.items() if pair[0] is not None}
    conditions = [condition for _, condition in given.values()]
    values: dict[str, SqlValue] = {name: json_text(some or ()) for name, (some, _) in given.items()}
    if where.project is not None:
        conditions.append("c.project = :of_project")
        values["of_project"] = where.project
    if where.since is not None:
        conditions.append("c.started >= :since")
        values["since"] = where.since
    if where.is_explained:
        conditions.append(_IS_EXPLAINED)
    if where.current:
        conditions.append("c.place = 1 AND s.deleted IS NULL")
    return conditions, values


_CATALOG = CatalogSql(outcomes=_OUTCOMES, environments=_ENVIRONMENTS, conditions=_conditions)


def sqlite_catalog(readers: Readers) -> SqlCatalog[apsw.Connection]:
    """The ``Catalog`` of a SQLite store."""
    return SqlCatalog(readers, DIALECT, _CATALOG)
