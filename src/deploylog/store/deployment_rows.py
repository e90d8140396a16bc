"""The rows of deployments, as far as they are alike in every backend."""

from collections.abc import Callable
from typing import Any

import msgspec

from deploylog.deployments.catalog import Counts, Deployment, Outcome, Stack
from deploylog.deployments.details import Details
from deploylog.events.scope import Scope

#: The details of a deployment, from what ``details_text`` made.
decode_details = msgspec.json.Decoder(Details).decode


def details_text(details: Details) -> str:
    """The details as JSON."""
    return msgspec.json.encode(details).decode()


class DeploymentRows(msgspec.Struct, frozen=True, kw_only=True):
    """Reads rows of a backend, which has its own form of scopes and groups."""

    scopes_of: Callable[[Any], tuple[Scope, ...]]
    groups_of: Callable[[Any], tuple[str, ...]]

    def stack(self, row: tuple[Any, ...]) -> Stack:
        """The stack in a row."""
        id, project, name, created, deleted, scopes, groups = row
        return Stack(
            id=id,
            project=project,
            name=name,
            created=created,
            deleted=deleted,
            scopes=self.scopes_of(scopes),
            groups=self.groups_of(groups),
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
            scopes=self.scopes_of(scopes),
            groups=self.groups_of(groups),
            details=decode_details(details),
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
