"""The tables of the catalog, as an append changes them in its transaction."""

from collections.abc import Callable
from typing import Generic

from deploylog.store.catalog import CatalogWrites, Counted
from deploylog.store.deployment_rows import DeploymentRows, details_text
from deploylog.store.dialect import Dialect
from deploylog.store.readers import ConnectionT

_INSERT_STACK = """
INSERT INTO stacks (id, project, name, created, deleted, scopes, "groups")
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_DELETE_STACK = "UPDATE stacks SET deleted = ? WHERE id = ?"

_INSERT_DEPLOYMENT = """
INSERT INTO deployments (id, project, stack_id, status, started, ended, tool, operation,
                         environment, actor, message, scopes, "groups", details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_END_DEPLOYMENT = """
UPDATE deployments SET status = ?, ended = ?, message = ?, operation = ?, details = ? WHERE id = ?
"""

_END_CHANGESET = "UPDATE changesets SET status = ?, ended = ?, message = ? WHERE id = ?"

_INSERT_STATE = "INSERT INTO states (path) VALUES (?) ON CONFLICT DO NOTHING"


class CatalogTables(Generic[ConnectionT]):
    """The tables of a backend."""

    def __init__(
        self,
        dialect: Dialect[ConnectionT],
        rows: DeploymentRows,
        *,
        count: Callable[[ConnectionT, Counted], None],
    ) -> None:
        """``count`` adds to the counts of deployments."""
        self._dialect = dialect
        self._rows = rows
        self._count = count

    def write(self, connection: ConnectionT, writes: CatalogWrites) -> None:
        """Write what was admitted."""
        change = self._dialect.change
        for id, time in writes.deleted_stacks:
            change(connection, _DELETE_STACK, (time, id))
        for stack in writes.new_stacks:
            change(connection, _INSERT_STACK, self._rows.row_of_stack(stack))
        for deployment in writes.new_deployments:
            change(connection, _INSERT_DEPLOYMENT, self._rows.row_of_deployment(deployment))
        for each in writes.changed_deployments:
            details = details_text(each.details)
            values = (each.status, each.ended, each.message, each.operation, details, each.id)
            change(connection, _END_DEPLOYMENT, values)
        if writes.counted:
            self._count(connection, writes.counted)
        for ended in writes.ended_changesets:
            change(connection, _END_CHANGESET, (ended.status, ended.ended, ended.message, ended.id))
        for path in writes.states:
            change(connection, _INSERT_STATE, (path,))
