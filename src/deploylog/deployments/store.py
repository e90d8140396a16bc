"""What is kept of stacks, deployments and change sets."""

from typing import Protocol

from deploylog.deployments.catalog import Deployment, Stack
from deploylog.deployments.changeset import Changeset
from deploylog.events.access import Visibility
from deploylog.events.store import IdempotencyKey


class Catalog(Protocol):
    """Stacks and deployments, as the recorded events tell of them.

    Lists are queries as ``EventLog.read`` has them, ``caller`` is ``Query.caller``.
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
        """The visible stacks that exist, or with ``deleted`` all that ever did, newest first."""
        ...

    async def stack(self, project: str, name: str) -> Stack:
        """The stack that now has this name; raises StackNotFound."""
        ...

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
        """The visible deployments, last started first, those started before ``before``."""
        ...

    async def deployment(self, id: str) -> Deployment:
        """The deployment; raises DeploymentNotFound."""
        ...


class Changesets(Protocol):
    """Change sets, and their changes.

    Here they begin. The event that ends one ends it here, too, in the same transaction: see
    ``projection.ChangesetEnded``.
    """

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: IdempotencyKey, since: int
    ) -> Changeset:
        """Keep a new change set with its ``changes``, durably, and return it.

        When the same ``request`` added one at ``since`` (ns) or later, that one comes back
        instead and nothing is added; with another fingerprint it raises RequestReused. Raises
        Conflict when another request has used the id.
        """
        ...

    async def get(self, id: str) -> Changeset:
        """The change set; raises ChangesetNotFound."""
        ...

    async def changes(self, id: str) -> bytes:
        """Its changes, as they were added; raises ChangesetNotFound."""
        ...

    async def unfinished(self) -> list[Changeset]:
        """Those that are still staging, oldest first."""
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
        """The visible change sets, last added first, those added before ``before``.

        ``stack`` is the name of the stack that they are for, whether there is one or not.
        """
        ...

    async def delete_before(self, created: int) -> int:
        """Delete finished change sets that were created before this time (ns); return how many.

        Their events stay as long as others do.
        """
        ...
