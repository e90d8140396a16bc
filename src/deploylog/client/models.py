"""What the server tells of events, deployments, change sets and stacks, as a client reads it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from deploylog.deployments.catalog import Counts, Status
from deploylog.deployments.changeset import ChangeCounts
from deploylog.deployments.changeset import Status as ChangesetStatus

Params = Sequence[tuple[str, str]]


class NewDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment is opened with."""

    #: UUID, given by whoever opens it, so that a retry opens nothing twice.
    id: str
    project: str
    stack: str
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: RFC 3339; absent, it started when the server was told.
    started: str | None = None


class DeploymentState(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, as the server tells of it."""

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
    """Some deployments, last started first."""

    deployments: tuple[DeploymentState, ...]
    #: Where the next page goes on from (``before=``), when there may be one.
    next: str | None = None


class ChangesetState(msgspec.Struct, frozen=True, kw_only=True):
    """A change set, as the server tells of it."""

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
    """Some change sets, last added first."""

    changesets: tuple[ChangesetState, ...]
    #: Where the next page goes on from (``before=``), when there may be one.
    next: str | None = None


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, as the server tells of it."""

    id: str
    project: str
    name: str
    created: datetime
    deleted: datetime | None = None
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event has been recorded."""

    id: str
    position: str


class DamagedState(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a page lacks, since it is damaged."""

    position: str


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, each as the server wrote it."""

    events: tuple[msgspec.Raw, ...]
    #: Where the next page goes on from, when there may be one.
    next: str | None = None
    previous: str | None = None
    damaged: tuple[DamagedState, ...] = ()


class LoggedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is shown of an event; its JSON holds the rest."""

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
