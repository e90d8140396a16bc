"""The JSON of projects, stacks, deployments and change sets; pure."""

from collections.abc import Sequence

import msgspec

from deploylog.deployments.catalog import Counts, Deployment, Stack
from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.deployments.details import FIELDS, AppliedPlan, Artifact, Commit
from deploylog.events.times import Time, render_time


class DeploymentBody(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment."""

    id: str
    project: str
    stack: str
    stack_id: str
    status: str
    started: Time
    ended: Time | None
    tool: str | None
    operation: str | None
    environment: str | None
    actor: str | None
    message: str | None
    counts: Counts
    version: str | None
    commits: tuple[Commit, ...]
    artifacts: tuple[Artifact, ...]
    url: str | None
    change_request: str | None
    approvers: tuple[str, ...]
    plan: AppliedPlan | None
    labels: dict[str, str]
    production: bool | None
    emergency: bool | None
    rework_of: str | None
    restores: str | None
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class DeploymentPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of deployments."""

    deployments: list[DeploymentBody]
    next: str | None = None


class ChangesetBody(msgspec.Struct, frozen=True, kw_only=True):
    """A change set, without its changes."""

    id: str
    project: str
    stack: str | None
    stack_id: str | None
    status: str
    destroy: bool
    location: str
    tool: str
    tool_version: str | None
    actor: str | None
    created: Time
    ended: Time | None
    message: str | None
    totals: ChangeCounts
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class ChangesetPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of change sets."""

    changesets: list[ChangesetBody]
    next: str | None = None


class StackBody(msgspec.Struct, frozen=True, kw_only=True):
    """A stack."""

    id: str
    project: str
    name: str
    created: Time
    deleted: Time | None
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class StackList(msgspec.Struct, frozen=True):
    """Stacks."""

    stacks: list[StackBody]


class ProjectList(msgspec.Struct, frozen=True):
    """Names of projects."""

    projects: list[str]


def render_deployment(deployment: Deployment) -> DeploymentBody:
    """A deployment's JSON."""
    return DeploymentBody(
        id=deployment.id,
        project=deployment.project,
        stack=deployment.stack,
        stack_id=deployment.stack_id,
        status=deployment.status,
        started=render_time(deployment.started),
        ended=render_time(deployment.ended) if deployment.ended is not None else None,
        tool=deployment.tool,
        operation=deployment.operation,
        environment=deployment.environment,
        actor=deployment.actor,
        message=deployment.message,
        counts=deployment.counts,
        **{name: getattr(deployment.details, name) for name in FIELDS},
        scopes=deployment.scopes,
        groups=deployment.groups,
    )


def render_deployments(deployments: Sequence[Deployment], *, limit: int) -> DeploymentPage:
    """A page of deployments."""
    return DeploymentPage(
        deployments=[render_deployment(deployment) for deployment in deployments],
        next=deployments[-1].id if len(deployments) == limit else None,
    )


def render_changeset(changeset: Changeset) -> ChangesetBody:
    """A change set's JSON."""
    return ChangesetBody(
        id=changeset.id,
        project=changeset.project,
        stack=changeset.stack,
        stack_id=changeset.stack_id,
        status=changeset.status,
        destroy=changeset.destroy,
        location=changeset.location,
        tool=changeset.tool,
        tool_version=changeset.tool_version,
        actor=changeset.actor,
        created=render_time(changeset.created),
        ended=render_time(changeset.ended) if changeset.ended is not None else None,
        message=changeset.message,
        totals=changeset.totals,
        scopes=changeset.scopes,
        groups=changeset.groups,
    )


def render_changesets(changesets: Sequence[Changeset], *, limit: int) -> ChangesetPage:
    """A page of change sets."""
    return ChangesetPage(
        changesets=[render_changeset(changeset) for changeset in changesets],
        next=changesets[-1].id if len(changesets) == limit else None,
    )


def render_stack(stack: Stack) -> StackBody:
    """A stack's JSON."""
    return StackBody(
        id=stack.id,
        project=stack.project,
        name=stack.name,
        created=render_time(stack.created),
        deleted=render_time(stack.deleted) if stack.deleted is not None else None,
        scopes=stack.scopes,
        groups=stack.groups,
    )
