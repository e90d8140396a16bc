"""The contracts for stacks, deployments and change sets."""

from typing import Protocol

from deploylog.deployments.catalog import Deployment, Outcome, Stack
from deploylog.deployments.changeset import Changeset
from deploylog.deployments.filters import ANY, DeploymentFilter
from deploylog.events.access import Visibility
from deploylog.events.store import IdempotencyKey


class Catalog(Protocol):
    """Stacks and deployments, projected from the recorded events.

    Lists are queries, as ``EventLog.read`` is; ``caller`` is ``Query.caller``.
    """

    async def projects(self, visibility: Visibility, *, caller: str = "") -> list[str]:
        """The names of the projects that have a visible stack, in order."""
        ...

    async def stacks(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
        caller: str = "",
    ) -> list[Stack]:
        """The visible stacks, newest first; with ``deleted``, deleted ones too."""
        ...

    async def stack(self, project: str, name: str) -> Stack:
        """The stack that has this name now. Raises StackNotFound."""
        ...

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
        """The visible deployments that started before deployment ``before``, newest first.

        Of those that are current, what is not visible does not hide what was there before.
        """
        ...

    async def outcomes(
        self,
        visibility: Visibility,
        *,
        where: DeploymentFilter = ANY,
        before: Outcome | None = None,
        limit: int = 1_000,
        caller: str = "",
    ) -> list[Outcome]:
        """The visible deployments that ended before ``before``, last ended first.

        ``where`` must not ask for those that are current.
        """
        ...

    async def environments(
        self, visibility: Visibility, *, project: str | None = None, caller: str = ""
    ) -> list[str]:
        """The environments of the visible deployments, in order."""
        ...

    async def deployment(self, id: str) -> Deployment:
        """The deployment with this id. Raises DeploymentNotFound."""
        ...


class Changesets(Protocol):
    """Change sets, and their changes.

    ``add`` starts a change set. The event that ends it updates it in the same transaction: see
    ``projection.ChangesetEnded``.
    """

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: IdempotencyKey, since: int
    ) -> Changeset:
        """Store a new change set with its ``changes``, durably, and return it.

        When the same ``request`` added a change set at ``since`` (ns) or later, return that one
        and add nothing. Raises RequestReused when the request has another fingerprint, Conflict
        when another request has used the id.
        """
        ...

    async def get(self, id: str) -> Changeset:
        """The change set with this id. Raises ChangesetNotFound."""
        ...

    async def changes(self, id: str) -> bytes:
        """The changes of a change set, byte for byte as added. Raises ChangesetNotFound."""
        ...

    async def unfinished(self) -> list[Changeset]:
        """The change sets that are still staging, oldest first."""
        ...

    async def list(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack: str | None = None,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Changeset]:
        """The visible change sets that were added before change set ``before``, newest first.

        ``stack`` is the name of the stack that they are for; the stack need not exist.
        """
        ...

    async def delete_before(self, created: int) -> int:
        """Delete finished change sets that were created before this time (ns); return how many.

        Their events stay until they are pruned.
        """
        ...
