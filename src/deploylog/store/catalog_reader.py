"""The catalog: stacks and deployments by select, alike in every backend but for the SQL."""

from collections.abc import Callable
from typing import Any, Generic

import msgspec

from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment, Outcome, Stack
from deploylog.deployments.filters import ANY, DeploymentFilter
from deploylog.errors import DeploymentNotFound, StackNotFound
from deploylog.events.access import Visibility
from deploylog.events.times import LATEST
from deploylog.store.deployment_rows import DeploymentRows, outcome_of
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT, ReaderPools

#: The columns of a stack.
STACK = 'c.id, c.project, c.name, c.created, c.deleted, c.scopes, c."groups"'

#: The columns of a deployment, and the name of its stack.
DEPLOYMENT = (
    "c.id, c.project, c.stack_id, s.name, c.status, c.started, c.ended, c.tool, c.operation,"
    " c.environment, c.actor, c.message, c.added, c.changed, c.destroyed, c.failed,"
    ' c.scopes, c."groups", c.details'
)

Values = dict[str, Any]


#: With ``{visible}``.
_STACKS = f"""
SELECT {STACK} FROM stacks AS c
WHERE {{visible}}
    AND (CAST(:project AS text) IS NULL OR c.project = :project)
    AND (CAST(:name AS text) IS NULL OR c.name = :name)
    AND (CAST(:deleted AS boolean) OR c.deleted IS NULL)
ORDER BY c.created DESC, c.id DESC
"""

_ONE_STACK = f"""
SELECT {STACK} FROM stacks AS c
WHERE c.project = :project AND c.name = :name AND c.deleted IS NULL
"""

_ONE_DEPLOYMENT = f"""
SELECT {DEPLOYMENT} FROM deployments AS c JOIN stacks AS s ON s.id = c.stack_id WHERE c.id = :id
"""

#: With ``{place}`` and ``{conditions}``.
_DEPLOYMENTS = f"""
SELECT {DEPLOYMENT}
FROM {{place}} JOIN stacks AS s ON s.id = c.stack_id
WHERE {{conditions}}
    AND (CAST(:project AS text) IS NULL OR c.project = :project)
    AND (CAST(:stack_id AS text) IS NULL OR c.stack_id = :stack_id)
    AND (CAST(:before AS text) IS NULL OR c.number < (
        SELECT number FROM deployments WHERE id = :before
    ))
ORDER BY c.number DESC
LIMIT :limit
"""

#: The deployments that are current, among all that are visible; with ``{visible}``.
_CURRENT = f"""
(
    SELECT c.*, row_number() OVER (
        PARTITION BY c.stack_id, c.environment ORDER BY c.ended DESC, c.number DESC
    ) AS place
    FROM deployments AS c
    WHERE {{visible}} AND c.status = 'completed'
        AND coalesce(c.operation, '') NOT IN ({", ".join(map(repr, NON_MUTATING_OPERATIONS))})
) AS c
"""

#: The place of all deployments.
_ALL = "deployments AS c"


class CatalogSql(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend selects in a way of its own."""

    #: With ``{conditions}``.
    outcomes: str
    #: With ``{visible}``.
    environments: str
    #: The conditions of a filter, and their values.
    conditions: Callable[[DeploymentFilter], tuple[list[str], Values]]


class SqlCatalog(Generic[ConnectionT]):
    """The ``Catalog`` of a backend."""

    def __init__(
        self,
        readers: ReaderPools[ConnectionT],
        dialect: Dialect[ConnectionT],
        sql: CatalogSql,
    ) -> None:
        self._readers = readers
        self._dialect = dialect
        self._sql = sql
        self._row = DeploymentRows(dialect)

    async def projects(self, visibility: Visibility, *, caller: str = "") -> list[str]:
        visible, values = self._dialect.visible(visibility)
        sql = f"SELECT DISTINCT project FROM stacks AS c WHERE {visible} ORDER BY project"
        return [row[0] for row in await self._query(sql, values, caller)]

    async def stacks(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
        caller: str = "",
    ) -> list[Stack]:
        visible, values = self._dialect.visible(visibility)
        sql = _STACKS.format(visible=visible)
        wanted = {"project": project, "name": name, "deleted": deleted}
        rows = await self._query(sql, {**values, **wanted}, caller)
        return [self._row.stack(row) for row in rows]

    async def stack(self, project: str, name: str) -> Stack:
        wanted = {"project": project, "name": name}
        for row in await self._readers.rows(self._dialect.sql(_ONE_STACK), wanted):
            return self._row.stack(row)
        raise StackNotFound(f"project {project!r} has no stack {name!r}")

    async def deployments(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack_id: str | None = None,
        where: DeploymentFilter = ANY,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Deployment]:
        visible, values = self._dialect.visible(visibility)
        wanted = {"project": project, "stack_id": stack_id, "before": before, "limit": limit}
        conditions, more = self._sql.conditions(where)
        sql = _DEPLOYMENTS.format(
            place=_CURRENT.format(visible=visible) if where.current else _ALL,
            conditions=" AND ".join((visible, *conditions)),
        )
        rows = await self._query(sql, {**values, **wanted, **more}, caller)
        return [self._row.deployment(row) for row in rows]

    async def outcomes(
        self,
        visibility: Visibility,
        *,
        where: DeploymentFilter = ANY,
        before: Outcome | None = None,
        limit: int = 1_000,
        caller: str = "",
    ) -> list[Outcome]:
        visible, values = self._dialect.visible(visibility)
        conditions, more = self._sql.conditions(where)
        sql = self._sql.outcomes.format(conditions=" AND ".join((visible, *conditions)))
        ended, number = (before.ended, before.number) if before is not None else (LATEST, LATEST)
        page = {"ended": ended, "number": number, "limit": limit}
        rows = await self._query(sql, {**values, **more, **page}, caller)
        return [outcome_of(row) for row in rows]

    async def environments(
        self, visibility: Visibility, *, project: str | None = None, caller: str = ""
    ) -> list[str]:
        visible, values = self._dialect.visible(visibility)
        sql = self._sql.environments.format(visible=visible)
        rows = await self._query(sql, {**values, "project": project}, caller)
        return [row[0] for row in rows]

    async def deployment(self, id: str) -> Deployment:
        for row in await self._readers.rows(self._dialect.sql(_ONE_DEPLOYMENT), {"id": id}):
            return self._row.deployment(row)
        raise DeploymentNotFound(f"there is no deployment {id!r}")

    async def _query(self, sql: str, values: Values, caller: str) -> list[tuple[Any, ...]]:
        return await self._readers.queries.rows(self._dialect.sql(sql), values, caller=caller)
