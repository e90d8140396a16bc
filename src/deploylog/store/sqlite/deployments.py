"""Stacks and deployments in SQLite: written with the events, read by anybody."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from deploylog.deployments.catalog import Counts, Deployment, DeploymentRef, Stack
from deploylog.deployments.projection import (
    Change,
    ChangesetEnded,
    Count,
    DeploymentEnded,
    DeploymentStarted,
    ResourceCounted,
    StackCreated,
    StackDeleted,
    StateDeployed,
    project,
    state_event,
    states_of,
)
from deploylog.errors import DeploymentNotFound, InvalidEvent, StackExists, StackNotFound
from deploylog.events.access import Visibility
from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope
from deploylog.store.sqlite.connection import SqlValue, all_rows, one_row
from deploylog.store.sqlite.readers import Readers
from deploylog.store.sqlite.rows import json_text, names_of, scopes_of
from deploylog.store.sqlite.visibility import visible_rows


class CatalogWriter:
    """Takes what events change, then applies it, in one transaction that its caller began."""

    def __init__(self, connection: apsw.Connection) -> None:
        """``connection`` is the writing one."""
        self._connection = connection
        self._changes: list[Change] = []
        self._names: set[tuple[str, str]] = set()
        self._stack_ids: set[tuple[str, str]] = set()

    def admit(self, changes: Sequence[Change]) -> None:
        """Take ``changes``, to be applied with the others.

        Raises, and takes none, when they clash with what is recorded or was taken before.
        """
        names, stack_ids = set(self._names), set(self._stack_ids)
        for change in changes:
            if isinstance(change, StackCreated):
                stack = change.stack
                self._check_stack(stack, names, stack_ids)
                names.add((stack.project, stack.name))
                stack_ids.add((stack.project, stack.id))
            elif isinstance(change, DeploymentStarted):
                self._check_deployment(change.deployment, stack_ids)
        self._names, self._stack_ids = names, stack_ids
        self._changes += changes

    def _check_stack(
        self, stack: Stack, names: set[tuple[str, str]], stack_ids: set[tuple[str, str]]
    ) -> None:
        taken = (
            (stack.project, stack.name) in names
            or stack.id in {id for _, id in stack_ids}
            or one_row(
                self._connection,
                "SELECT 1 FROM stacks"
                " WHERE id = ? OR (project = ? AND name = ? AND deleted IS NULL)",
                (stack.id, stack.project, stack.name),
            )
        )
        if taken:
            raise StackExists(f"stack {stack.name!r} of project {stack.project!r} exists already")

    def _check_deployment(self, deployment: Deployment, stack_ids: set[tuple[str, str]]) -> None:
        known = (deployment.project, deployment.stack_id) in stack_ids or one_row(
            self._connection,
            "SELECT 1 FROM stacks WHERE id = ? AND project = ?",
            (deployment.stack_id, deployment.project),
        )
        if not known:
            raise InvalidEvent(
                f"project {deployment.project!r} has no stack with id {deployment.stack_id!r}",
                field="scopes",
            )

    def apply(self) -> list[NewEvent]:
        """Bring the tables up to date; what the deployments that ended did to their states."""
        changes, self._changes = self._changes, []
        told = [self._state_event(id, ended_as) for id, ended_as in self.replay(changes)]
        return [event for event in told if event is not None]

    def replay(self, changes: Sequence[Change]) -> list[tuple[str, str | None]]:
        """Apply changes that clash with nothing; the ids of the deployments that they end, and the
        operation that each end says.
        """
        counted: dict[tuple[DeploymentRef, tuple[str, ...]], dict[Count, int]] = {}
        ended: list[tuple[str, str | None]] = []
        for change in changes:
            if isinstance(change, ResourceCounted):
                counts = counted.setdefault((change.place, change.groups), {})
                counts[change.count] = counts.get(change.count, 0) + 1
            elif isinstance(change, DeploymentEnded):
                ended += [(id, change.operation) for id in self._end(change)]
            else:
                self._apply(change)
        self._count(counted)
        return ended

    def _count(
        self, counted: dict[tuple[DeploymentRef, tuple[str, ...]], dict[Count, int]]
    ) -> None:
        if counted:
            # One statement for all deployments: each would wait anew for the interpreter's lock.
            rows = [
                (*msgspec.structs.astuple(place), json_text(groups), counts)
                for (place, groups), counts in counted.items()
            ]
            self._connection.execute(_COUNT, (json_text(rows),))

    def _apply(self, change: Change) -> None:
        execute = self._connection.execute
        if isinstance(change, StackCreated):
            stack = change.stack
            names = (json_text(stack.scopes), json_text(stack.groups))
            execute(_INSERT_STACK, (stack.id, stack.project, stack.name, stack.created, *names))
        elif isinstance(change, StackDeleted):
            place = change.place
            execute(
                "UPDATE stacks SET deleted = ? WHERE id = ? AND project = ? AND deleted IS NULL",
                (change.time, place.stack_id, place.project),
            )
        elif isinstance(change, DeploymentStarted):
            execute(_INSERT_DEPLOYMENT, _deployment_row(change.deployment))
        elif isinstance(change, ChangesetEnded):
            groups, scopes = json_text(change.groups), json_text(change.scopes)
            ended = (change.status, change.time, groups, change.message)
            execute(_END_CHANGESET, (*ended, change.id, scopes))
        elif isinstance(change, StateDeployed):
            for path in change.scopes:
                execute("INSERT INTO states (path) VALUES (?) ON CONFLICT DO NOTHING", (path,))

    def _end(self, change: DeploymentEnded) -> list[str]:
        """The id of the deployment, if it is this that ends it."""
        place, groups = change.place, json_text(change.groups)
        why = (change.status, change.time, groups, change.message, change.operation)
        of = (place.deployment_id, place.stack_id, place.project)
        return [id for (id,) in all_rows(self._connection, _END_DEPLOYMENT, (*why, *of))]

    def _state_event(self, id: str, ended_as: str | None) -> NewEvent | None:
        [row] = all_rows(self._connection, f"{_ONE_DEPLOYMENT} WHERE c.id = ?", (id,))
        deployment = _deployment_of(row)
        is_first = not self._is_deployed(states_of(deployment.scopes))
        event = state_event(deployment, ended_as=ended_as, is_first=is_first)
        # At once: the next one may be of the same state.
        if event is not None and (change := project(event)):
            self._apply(change)
        return event

    def _is_deployed(self, states: Sequence[Scope]) -> bool:
        sql = "SELECT 1 FROM states WHERE path = ?"
        return any(one_row(self._connection, sql, (path,)) for path in states[:1])


#: What was authorised is the event's scope: another project's deployment is none of its business.
_END_DEPLOYMENT = """
UPDATE deployments SET
    status = ?, ended = ?, message = CASE WHEN "groups" = ? THEN ? END,
    operation = coalesce(operation, ?)
WHERE id = ? AND stack_id = ? AND project = ? AND ended IS NULL
RETURNING id
"""

#: Likewise. The first event that ends it counts.
_END_CHANGESET = """
UPDATE changesets SET
    status = ?, ended = ?, message = CASE WHEN "groups" = ? THEN ? END
WHERE id = ? AND scopes = ? AND status = 'staging'
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

_INSERT_STACK = """
INSERT INTO stacks (id, project, name, created, scopes, "groups") VALUES (?, ?, ?, ?, ?, ?)
"""

_INSERT_DEPLOYMENT = """
INSERT INTO deployments (id, project, stack_id, status, started, tool, operation, environment,
                         actor, scopes, "groups")
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""


def _deployment_row(deployment: Deployment) -> tuple[SqlValue, ...]:
    return (
        deployment.id,
        deployment.project,
        deployment.stack_id,
        deployment.status,
        deployment.started,
        deployment.tool,
        deployment.operation,
        deployment.environment,
        deployment.actor,
        json_text(deployment.scopes),
        json_text(deployment.groups),
    )


class SqliteCatalog:
    """The ``Catalogue`` of a SQLite store."""

    def __init__(self, readers: Readers) -> None:
        """``readers`` is where to read."""
        self._readers = readers

    async def projects(self, visibility: Visibility, *, caller: str = "") -> list[str]:
        visible, values = visible_rows(visibility)
        sql = f"SELECT DISTINCT project FROM stacks AS c WHERE {visible} ORDER BY project"
        rows = await self._readers.queries.rows(sql, values, caller=caller)
        return [row[0] for row in rows]

    async def stacks(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
        caller: str = "",
    ) -> list[Stack]:
        visible, values = visible_rows(visibility)
        sql = (
            f"SELECT {_STACK} FROM stacks AS c WHERE {visible}"
            " AND (:project IS NULL OR c.project = :project)"
            " AND (:name IS NULL OR c.name = :name)"
            " AND (:deleted OR c.deleted IS NULL)"
            " ORDER BY c.created DESC, c.id DESC"
        )
        wanted = {"project": project, "name": name, "deleted": deleted}
        rows = await self._readers.queries.rows(sql, values | wanted, caller=caller)
        return [_stack_of(row) for row in rows]

    async def stack(self, project: str, name: str) -> Stack:
        sql = (
            f"SELECT {_STACK} FROM stacks AS c"
            " WHERE c.project = :project AND c.name = :name AND c.deleted IS NULL"
        )
        for row in await self._readers.rows(sql, {"project": project, "name": name}):
            return _stack_of(row)
        raise StackNotFound(f"project {project!r} has no stack {name!r}")

    async def deployments(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack_id: str | None = None,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Deployment]:
        visible, values = visible_rows(visibility)
        wanted = {"project": project, "stack_id": stack_id, "before": before, "limit": limit}
        sql = _DEPLOYMENTS.format(visible=visible)
        rows = await self._readers.queries.rows(sql, values | wanted, caller=caller)
        return [_deployment_of(row) for row in rows]

    async def deployment(self, id: str) -> Deployment:
        for row in await self._readers.rows(f"{_ONE_DEPLOYMENT} WHERE c.id = :id", {"id": id}):
            return _deployment_of(row)
        raise DeploymentNotFound(f"there is no deployment {id!r}")


_STACK = 'c.id, c.project, c.name, c.created, c.deleted, c.scopes, c."groups"'

_DEPLOYMENT = (
    "c.id, c.project, c.stack_id, s.name, c.status, c.started, c.ended, c.tool, c.operation,"
    " c.environment, c.actor, c.message, c.added, c.changed, c.destroyed, c.failed,"
    ' c.scopes, c."groups"'
)

_ONE_DEPLOYMENT = (
    f"SELECT {_DEPLOYMENT} FROM deployments AS c JOIN stacks AS s ON s.id = c.stack_id"
)

_DEPLOYMENTS = f"""
SELECT {_DEPLOYMENT}
FROM deployments AS c JOIN stacks AS s ON s.id = c.stack_id
WHERE {{visible}}
    AND (:project IS NULL OR c.project = :project)
    AND (:stack_id IS NULL OR c.stack_id = :stack_id)
    AND (:before IS NULL OR c.number < (SELECT number FROM deployments WHERE id = :before))
ORDER BY c.number DESC
LIMIT :limit
"""


def _stack_of(row: tuple[Any, ...]) -> Stack:
    id, project, name, created, deleted, scopes, groups = row
    return Stack(
        id=id,
        project=project,
        name=name,
        created=created,
        deleted=deleted,
        scopes=scopes_of(scopes),
        groups=names_of(groups),
    )


def _deployment_of(row: tuple[Any, ...]) -> Deployment:
    (id, project, stack_id, stack, status, started, ended, tool, operation, environment, actor,
     message, added, changed, destroyed, failed, scopes, groups) = row  # fmt: skip
    return Deployment(
        id=id,
        project=project,
        stack_id=stack_id,
        stack=stack,
        status=status,
        started=started,
        ended=ended,
        tool=tool,
        operation=operation,
        environment=environment,
        actor=actor,
        message=message,
        counts=Counts(added=added, changed=changed, destroyed=destroyed, failed=failed),
        scopes=scopes_of(scopes),
        groups=names_of(groups),
    )
