"""The rows of deployments, as far as they are alike in every backend."""

from typing import Any

import msgspec

from deploylog.deployments.catalog import Counts, Deployment, Outcome, Stack
from deploylog.deployments.details import Details
from deploylog.store.dialect import Dialect

#: The details of a deployment, from what ``details_text`` made.
decode_details = msgspec.json.Decoder(Details).decode


def details_text(details: Details) -> str:
    """The details as JSON."""
    return msgspec.json.encode(details).decode()


class DeploymentRows:
    """Rows of a backend, which has its own form of scopes and groups."""

    def __init__(self, dialect: Dialect[Any]) -> None:
        self._dialect = dialect

    def stack(self, row: tuple[Any, ...]) -> Stack:
        """The stack in a row."""
        id, project, name, created, deleted, scopes, groups = row
        return Stack(
            id=id,
            project=project,
            name=name,
            created=created,
            deleted=deleted,
            scopes=self._dialect.scopes(scopes),
            groups=self._dialect.names(groups),
        )

    def deployment(self, row: tuple[Any, ...]) -> Deployment:
        """The deployment in a row."""
        (id, project, stack_id, stack, status, started, ended, tool, operation, environment, actor,
         message, added, changed, destroyed, failed, scopes, groups, details) = row  # fmt: skip
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
            scopes=self._dialect.scopes(scopes),
            groups=self._dialect.names(groups),
            details=decode_details(details),
        )

    def row_of_stack(self, stack: Stack) -> tuple[Any, ...]:
        """The row of a new stack."""
        return (
            stack.id,
            stack.project,
            stack.name,
            stack.created,
            stack.deleted,
            self._dialect.array(stack.scopes),
            self._dialect.array(stack.groups),
        )

    def row_of_deployment(self, deployment: Deployment) -> tuple[Any, ...]:
        """The row of a new deployment, without its counts, which are added to those it has."""
        return (
            deployment.id,
            deployment.project,
            deployment.stack_id,
            deployment.status,
            deployment.started,
            deployment.ended,
            deployment.tool,
            deployment.operation,
            deployment.environment,
            deployment.actor,
            deployment.message,
            self._dialect.array(deployment.scopes),
            self._dialect.array(deployment.groups),
            details_text(deployment.details),
        )


def outcome_of(row: tuple[Any, ...]) -> Outcome:
    """The outcome in a row."""
    (number, id, project, stack_id, status, started, ended, operation, environment,
     details) = row  # fmt: skip
    return Outcome(
        number=number,
        id=id,
        project=project,
        stack_id=stack_id,
        status=status,
        started=started,
        ended=ended,
        operation=operation,
        environment=environment,
        details=decode_details(details),
    )
