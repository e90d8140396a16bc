"""Events, deployments, change sets and stacks, as the client reads them from responses."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from deploylog.deployments.catalog import Counts, Status
from deploylog.deployments.changeset import ChangeCounts
from deploylog.deployments.changeset import Status as ChangesetStatus

Params = Sequence[tuple[str, str]]


class NewDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment to open."""

    #: UUID that the client chooses, so that a retry opens nothing twice.
    id: str
    project: str
    stack: str
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: RFC 3339; without it the deployment starts when the server opens it.
    started: str | None = None


class DeploymentState(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, as the server returns it."""

    id: str
    project: str
    stack: str
    stack_id: str
    status: Status
    started: datetime
    ended: datetime | None = None
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    message: str | None = None
    counts: Counts
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class DeploymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of deployments, newest first."""

    deployments: tuple[DeploymentState, ...]
    #: The ``before`` of the next page, if there may be one.
    next: str | None = None


class ChangesetState(msgspec.Struct, frozen=True, kw_only=True):
    """A change set, as the server returns it."""

    id: str
    project: str
    stack: str | None = None
    stack_id: str | None = None
    status: ChangesetStatus
    destroy: bool
    location: str
    tool: str
    tool_version: str | None = None
    actor: str | None = None
    created: datetime
    ended: datetime | None = None
    message: str | None = None
    totals: ChangeCounts
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class ChangesetPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of change sets, newest first."""

    changesets: tuple[ChangesetState, ...]
    #: The ``before`` of the next page, if there may be one.
    next: str | None = None


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, as the server returns it."""

    id: str
    project: str
    name: str
    created: datetime
    deleted: datetime | None = None
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The id and the position under which the server recorded an event."""

    id: str
    position: str


class DamagedState(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is missing from a page because the store holds it damaged."""

    position: str


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events, each in the server's JSON."""

    events: tuple[msgspec.Raw, ...]
    #: The cursor of the next page, if there may be one.
    next: str | None = None
    previous: str | None = None
    damaged: tuple[DamagedState, ...] = ()


class LoggedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of an event that the terminal shows; its JSON has the rest."""

    id: str
    type: str
    source: str
    time: datetime
    scopes: str = ""
    subject: str | None = None
    actor: str | None = None
    message: str | None = None
    resourceaddress: str | None = None
    resourcename: str | None = None
    resourcetype: str | None = None
