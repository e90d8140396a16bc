"""Events, deployments, change sets and stacks, as the client reads them from responses."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from deploylog.deployments.catalog import Counts, Status
from deploylog.deployments.changeset import ChangeCounts
from deploylog.deployments.changeset import Status as ChangesetStatus
from deploylog.deployments.details import AppliedPlan, Artifact, Commit, Details

Params = Sequence[tuple[str, str]]


class NewDeployment(Details, frozen=True, kw_only=True):
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
    version: str | None = None
    commits: tuple[Commit, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    url: str | None = None
    change_request: str | None = None
    approvers: tuple[str, ...] = ()
    plan: AppliedPlan | None = None
    labels: dict[str, str] = {}
    production: bool | None = None
    emergency: bool | None = None
    rework_of: str | None = None
    restores: str | None = None
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class DeploymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of deployments, newest first."""

    deployments: tuple[DeploymentState, ...]
    #: The ``before`` of the next page, if there may be one.
    next: str | None = None


class DeploymentLink(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that a metric comes from."""

    id: str
    url: str


class DurationsState(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took."""

    number: int
    median_seconds: float
    p75_seconds: float
    p90_seconds: float


class MetricState(msgspec.Struct, frozen=True, kw_only=True):
    """One of DORA's metrics. What is ``None`` is unknown, or no part of this metric."""

    of: int
    known: int
    known_share: float | None
    reason: str | None
    total: int
    deployments: tuple[DeploymentLink, ...]
    durations: DurationsState | None = None
    per_day: float | None = None
    between: DurationsState | None = None
    rate: float | None = None


class DoraState(msgspec.Struct, frozen=True, kw_only=True):
    """DORA's five metrics."""

    since: datetime
    until: datetime
    counted: int
    left_out: dict[str, int]
    change_lead_time: MetricState
    deployment_frequency: MetricState
    failed_deployment_recovery_time: MetricState
    change_fail_rate: MetricState
    deployment_rework_rate: MetricState


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


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How the server found the events of a page."""

    segments: int
    hits: int
    rows: int
    rows_in_vain: int


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events, each in the server's JSON."""

    events: tuple[msgspec.Raw, ...]
    #: The cursor of the next page, if there may be one.
    next: str | None = None
    previous: str | None = None
    damaged: tuple[DamagedState, ...] = ()
    #: If it was asked for.
    explain: Explanation | None = None


class EventCount(msgspec.Struct, frozen=True):
    """How many events there are."""

    count: int


class Facet(msgspec.Struct, frozen=True):
    """A value of a field, and how many events have it."""

    value: str
    count: int


class FacetList(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values of a field, most frequent first."""

    field: str
    top: tuple[Facet, ...]
    #: Different values.
    values: int
    #: Events, with and without the field.
    total: int


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


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event happened; what is not known is empty."""

    stack: str = ""
    environment: str = ""
    version: str = ""
    #: Id of the deployment.
    deployment: str = ""
