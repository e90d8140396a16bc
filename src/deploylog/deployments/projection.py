"""The projection of events to the catalog of stacks and deployments.

The store applies these changes in the transaction that records the events. ``stack.created`` and
``stack.deleted`` create and delete a stack, ``deployment.started`` starts a deployment,
``deployment.progress`` and the other phases add to what it carries, ``resource.*.completed`` and
``resource.*.failed`` count in it, and ``deployment.completed`` or ``deployment.failed`` end it.
``changeset.completed``, ``changeset.drift`` and ``changeset.failed`` end a change set. When a
deployment to an environment ends, the log also records what it did to the state: see
``state_event``.
"""

from typing import Literal, TypeVar

import msgspec

from deploylog.deployments.catalog import (
    NON_MUTATING_OPERATIONS,
    Counts,
    Deployment,
    DeploymentRef,
    Stack,
    Status,
    deployment_ref,
)
from deploylog.deployments.changeset import Status as ChangesetStatus
from deploylog.deployments.details import NO_DETAILS, Details, details_json, parse_details
from deploylog.deployments.lifecycle import (
    CHANGESET_ENDS,
    DEPLOYMENT_ENDS,
    DEPLOYMENT_PHASES,
    DEPLOYMENT_STARTED,
)
from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.scope import Scope, segments

Count = Literal["added", "changed", "destroyed", "failed"]

_Data = TypeVar("_Data")


class StackCreated(msgspec.Struct, frozen=True):
    """A stack is created."""

    stack: Stack


class StackDeleted(msgspec.Struct, frozen=True):
    """A stack is deleted; its name is free again."""

    place: DeploymentRef
    time: int


class DeploymentStarted(msgspec.Struct, frozen=True):
    """A deployment starts."""

    deployment: Deployment


class DeploymentProgressed(msgspec.Struct, frozen=True):
    """A deployment goes on. Only its own ``groups`` may see the details."""

    place: DeploymentRef
    groups: tuple[str, ...]
    #: What the events before do not say.
    details: Details


class DeploymentEnded(msgspec.Struct, frozen=True):
    """A deployment ends. Only its own ``groups`` may see the message and the details."""

    place: DeploymentRef
    status: Status
    time: int
    message: str | None
    groups: tuple[str, ...]
    #: For a deployment whose start event names no operation.
    operation: str | None
    #: What the start event does not say.
    details: Details = NO_DETAILS


class ResourceCounted(msgspec.Struct, frozen=True):
    """A resource was added, changed or destroyed, or failed.

    It counts in the deployment at its place that has the same ``groups``: in others, the count
    would reveal events that their readers may not see.
    """

    place: DeploymentRef
    count: Count
    groups: tuple[str, ...]


class ChangesetEnded(msgspec.Struct, frozen=True):
    """A change set ends.

    The event was authorised for these ``scopes``; only the change set's own ``groups`` may see the
    message.
    """

    id: str
    scopes: tuple[Scope, ...]
    status: ChangesetStatus
    time: int
    message: str | None
    groups: tuple[str, ...]


class StateDeployed(msgspec.Struct, frozen=True):
    """Something is deployed in these scopes, each in the form of ``state_scope``."""

    scopes: tuple[Scope, ...]


Change = (
    StackCreated
    | StackDeleted
    | DeploymentStarted
    | DeploymentProgressed
    | DeploymentEnded
    | ResourceCounted
    | ChangesetEnded
    | StateDeployed
)


class _StackData(msgspec.Struct):
    name: str


class _DeploymentData(msgspec.Struct):
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None


_COUNTED: dict[str, Count] = {
    "resource.create.completed": "added",
    "resource.update.completed": "changed",
    "resource.delete.completed": "destroyed",
}


#: The events of a deployment into a state scope.
_STATE_DEPLOYED = (
    "state.deployment.created",
    "state.deployment.updated",
    "state.deployment.redeployed",
)


def _count(type: str) -> Count | None:
    if type.endswith(".failed"):
        return "failed"
    return _COUNTED.get(type)


def project(event: NewEvent) -> Change | None:
    """The change of ``event`` to the catalog; raises InvalidEvent when its data is incomplete."""
    subject = event.type.partition(".")[0]
    if subject == "changeset":
        return _changeset_change(event)
    if event.type in _STATE_DEPLOYED:
        states = states_of(event.scopes)
        return StateDeployed(states) if states else None
    count = _count(event.type) if subject == "resource" else None
    if count is None and subject not in ("stack", "deployment"):
        return None
    place = deployment_ref(event.scopes)
    if place is None:
        return None
    if subject == "stack":
        return _stack_change(event, place)
    if place.deployment_id is None:
        return None
    if count is not None:
        return ResourceCounted(place, count, event.groups)
    return _deployment_change(event, place, place.deployment_id)


def states_of(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """The scopes that name a deployment in an environment."""
    return tuple(path for path in scopes if path.startswith("state/") and path.count("/") == 3)


def state_event(deployment: Deployment, *, ended_as: str | None, is_first: bool) -> NewEvent | None:
    """The event of what ``deployment`` did to its state; ``None`` if it has none.

    ``ended_as`` is the operation in its end event; ``is_first`` is whether nothing was deployed
    there before.
    """
    states = states_of(deployment.scopes)
    if not states or deployment.operation in NON_MUTATING_OPERATIONS or deployment.ended is None:
        return None
    is_destroy = "destroy" in (deployment.operation, ended_as)
    word = "destroy_requested" if is_destroy else _deployed_word(deployment.counts, is_first)
    names = segments(states[0])[1:]
    return NewEvent(
        type=f"state.deployment.{word}",
        source=SOURCE,
        scopes=deployment.scopes,
        time=deployment.ended,
        producer_id=state_event_id(deployment.id),
        subject=names[-1],
        groups=deployment.groups,
        actor=deployment.actor,
        message=f"State {'/'.join(names)} {word.replace('_', ' ')}: run {deployment.status}",
        data=_state_data(deployment),
    )


def state_event_id(deployment_id: str) -> str:
    """The producer's id of ``state_event``, known before a deployment ends."""
    return f"{deployment_id}/state"


def _deployed_word(counts: Counts, is_first: bool) -> str:
    if is_first:
        return "created"
    return "updated" if counts.added or counts.changed or counts.destroyed else "redeployed"


def _state_data(deployment: Deployment) -> msgspec.Raw:
    data = {
        "deployment": deployment.id,
        "stack": deployment.stack,
        "status": deployment.status,
        "counts": deployment.counts,
        **details_json(deployment.details),
    }
    return msgspec.Raw(msgspec.json.encode(data))


def _changeset_change(event: NewEvent) -> Change | None:
    status = CHANGESET_ENDS.get(event.type)
    names = segments(event.scopes[0])
    if status is None or len(names) != 2 or names[0] != "changeset":
        return None
    return ChangesetEnded(names[1], event.scopes, status, event.time, event.message, event.groups)


def _stack_change(event: NewEvent, place: DeploymentRef) -> Change | None:
    if event.type == "stack.deleted":
        return StackDeleted(place, event.time)
    if event.type != "stack.created":
        return None
    return StackCreated(
        Stack(
            id=place.stack_id,
            project=place.project,
            name=_data(event, _StackData).name,
            created=event.time,
            deleted=None,
            scopes=event.scopes,
            groups=event.groups,
        )
    )


def _deployment_change(event: NewEvent, place: DeploymentRef, deployment_id: str) -> Change | None:
    if status := DEPLOYMENT_ENDS.get(event.type):
        return _ended(event, place, status)
    if event.type in DEPLOYMENT_PHASES:
        details = _details(event)
        return DeploymentProgressed(place, event.groups, details) if details != NO_DETAILS else None
    if event.type != DEPLOYMENT_STARTED:
        return None
    data = _data(event, _DeploymentData)
    return DeploymentStarted(
        Deployment(
            id=deployment_id,
            project=place.project,
            stack_id=place.stack_id,
            stack="",
            status="running",
            started=event.time,
            ended=None,
            tool=data.tool,
            operation=data.operation,
            environment=data.environment,
            actor=event.actor,
            message=None,
            counts=Counts(),
            scopes=event.scopes,
            groups=event.groups,
            details=_details(event),
        )
    )


def _ended(event: NewEvent, place: DeploymentRef, status: Status) -> DeploymentEnded:
    return DeploymentEnded(
        place,
        status,
        event.time,
        event.message,
        event.groups,
        _ended_operation(event),
        _details(event),
    )


def _details(event: NewEvent) -> Details:
    """What the event's data says that the deployment carries; raises InvalidEvent."""
    if event.data is None:
        return NO_DETAILS
    try:
        return parse_details(bytes(event.data))
    except InvalidInput as error:
        field = f"data.{error.field}" if error.field else "data"
        raise InvalidEvent(f"{event.type}: data: {error.message}", field=field) from error


def _ended_operation(event: NewEvent) -> str | None:
    """The operation, if the event names one; its data may be any JSON."""
    try:
        return _data(event, _DeploymentData).operation
    except InvalidEvent:
        return None


def _data(event: NewEvent, type_: type[_Data]) -> _Data:
    try:
        return msgspec.json.decode(event.data if event.data is not None else b"{}", type=type_)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEvent(f"{event.type}: data: {error}", field="data") from error
