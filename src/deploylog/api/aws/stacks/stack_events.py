"""CloudFormation's stack events: recorded ones, and ones synthesized from other events."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment, deployment_ref
from deploylog.events.event import Event, Resource
from deploylog.events.filters import AnyOf, Filter
from deploylog.events.times import render_time
from deploylog.ingest.cloudformation.stack_event import (
    SOURCE,
    STACK_TYPE,
    STATUS_BY_TYPE,
    StackEvent,
    stack_event_of,
)

#: What a deployment does to its stack, in CloudFormation's terms.
Action = Literal["CREATE", "UPDATE", "DELETE"]

#: The suffix of a stack's status, by the event that starts or ends its deployment.
_PHASES = {
    "deployment.started": "IN_PROGRESS",
    "deployment.completed": "COMPLETE",
    "deployment.failed": "FAILED",
}

#: Without progress events, whose status is the same as their start's.
TYPES = (*(type for type in STATUS_BY_TYPE if not type.endswith(".progress")), *_PHASES)

#: All stack events that were recorded from CloudFormation.
RECORDED = Filter(all_of=(AnyOf(field="source", values=(SOURCE,)),))

#: Recorded stack events of a stack itself, without its resources and nested stacks.
LIFECYCLE = Filter(all_of=(*RECORDED.all_of, AnyOf(field="type", values=tuple(_PHASES))))

#: Events of other sources that correspond to a stack event.
SYNTHESIZED = Filter(all_of=(AnyOf(field="type", values=TYPES),))

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9]+")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")

_MAX_ID = 255

#: Bytes of the hash in an id; in base 32, eight characters.
_HASHED_BYTES = 5

#: A resource in the root module, without a key, whose name is one word. Each word starts with a
#: letter and the last one is the name, so no two such addresses have the same logical id.
_PLAIN = re.compile(r"(?!module[._])[a-z][a-z0-9]+(?:_[a-z][a-z0-9]+)*\.[a-z][a-z0-9]*")

#: Tools' names for operations that create or delete a stack.
_CREATIONS = ("create", "import")
_DELETIONS = ("destroy", "delete")


class _OperationData(msgspec.Struct):
    operation: str | None = None


def recorded_stack_event(event: Event) -> StackEvent | None:
    """The stack event that ``event`` records; ``None`` if its data is not one."""
    recorded = stack_event_of(event)
    if recorded is None:
        return None
    # Events are listed by the log's time, which may differ from the time in the data. All known
    # clients accept milliseconds.
    return msgspec.structs.replace(recorded, timestamp=render_milliseconds(event.time))


def synthesize_stack_event(
    event: Event, *, arn: str, name: str, actions: Mapping[str, Action | None]
) -> StackEvent | None:
    """The stack event that CloudFormation would emit; ``None`` if it would emit none.

    ``actions`` holds the actions of deployments, by id.
    """
    phase = _PHASES.get(event.type)
    if phase is not None:
        return _synthesize_lifecycle(event, phase, arn=arn, name=name, actions=actions)
    status = STATUS_BY_TYPE.get(event.type)
    if status is None:
        return None
    return _synthesize_resource(event, status, arn=arn, name=name)


def _synthesize_lifecycle(
    event: Event, phase: str, *, arn: str, name: str, actions: Mapping[str, Action | None]
) -> StackEvent | None:
    id = deployment_of(event)
    action = _action_of_event(event) if id is None else actions.get(id, _action_of_event(event))
    if action is None:
        return None
    return StackEvent(
        stack_id=arn,
        event_id=event.id,
        stack_name=name,
        logical_resource_id=name,
        physical_resource_id=arn,
        resource_type=STACK_TYPE,
        timestamp=render_milliseconds(event.time),
        resource_status=f"{action}_{phase}",
        resource_status_reason=event.message or None,
        client_request_token=_token(id),
    )


def _synthesize_resource(event: Event, status: str, *, arn: str, name: str) -> StackEvent:
    resource = event.resource
    logical_id = (
        logical_id_of(resource) if resource is not None else alphanumeric(event.subject or name)
    )
    return StackEvent(
        stack_id=arn,
        event_id=f"{logical_id}-{status}-{event.id}",
        stack_name=name,
        logical_resource_id=logical_id,
        physical_resource_id=(resource.id_value if resource else None) or "",
        resource_type=resource.type if resource else "Custom::Resource",
        timestamp=render_milliseconds(event.time),
        resource_status=status,
        resource_status_reason=event.message or None,
        client_request_token=_token(deployment_of(event)),
    )


def deployment_of(event: Event) -> str | None:
    """The id of the deployment that the event belongs to."""
    ref = deployment_ref(event.scopes)
    return ref.deployment_id if ref is not None else None


def lifecycle_deployment_of(event: Event) -> str | None:
    """The id of the deployment that the event starts or ends."""
    return deployment_of(event) if event.type in _PHASES else None


def action_of(deployment: Deployment, before: Deployment | None) -> Action | None:
    """The deployment's action on its stack; ``None`` if it changes nothing.

    ``before`` is the last mutating deployment before it.
    """
    if deployment.operation in NON_MUTATING_OPERATIONS:
        return None
    if deployment.operation in _DELETIONS:
        return "DELETE"
    is_new = before is None or (before.operation in _DELETIONS and before.status == "completed")
    return "CREATE" if is_new or deployment.operation in _CREATIONS else "UPDATE"


_STATUSES = {"running": "IN_PROGRESS", "completed": "COMPLETE", "failed": "FAILED"}


def status_of(deployment: Deployment, action: Action) -> str:
    """The stack's status during or after the deployment."""
    return f"{action}_{_STATUSES[deployment.status]}"


def _action_of_event(event: Event) -> Action | None:
    """The action that the event's own data implies, for deployments outside the catalog."""
    try:
        operation = msgspec.json.decode(event.data or b"{}", type=_OperationData).operation
    except (msgspec.DecodeError, RecursionError):
        operation = None
    if operation in NON_MUTATING_OPERATIONS:
        return None
    return "DELETE" if operation in _DELETIONS else "CREATE"


def logical_id_of(resource: Resource) -> str:
    """A logical id that is unique to the resource's address.

    ``aws_instance.web`` becomes ``AwsInstanceWeb``. An ambiguous address gets a hash:
    ``module.a.aws_instance.web[0]`` becomes ``AAwsInstanceWeb0`` and eight characters. The name
    of a resource of CloudFormation's own types already is a logical id.
    """
    if "::" in resource.type and resource.address is None and resource.key is None:
        return alphanumeric(resource.name)
    address = resource.address or _address_of(resource)
    words = [word for word in _NOT_IN_AN_ID.split(address) if word]
    readable = "".join(word[0].upper() + word[1:] for word in words if word != "module")
    return readable if _PLAIN.fullmatch(address) else _hashed(readable, address)


def _address_of(resource: Resource) -> str:
    address = f"{resource.type}.{resource.name}"
    return f'{address}["{resource.key}"]' if resource.key is not None else address


def alphanumeric(name: str) -> str:
    """``name`` if it is alphanumeric, or else its letters and digits with a hash of all of it."""
    letters = _NOT_IN_AN_ID.sub("", name)
    return letters if letters == name and 0 < len(name) <= _MAX_ID else _hashed(letters, name)


def _hashed(readable: str, whole: str) -> str:
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=_HASHED_BYTES)
    hash = base64.b32encode(digest.digest()).decode()
    return (readable[: _MAX_ID - len(hash)] or "X") + hash


def _token(id: str | None) -> str | None:
    return id if id is not None and _TOKEN.fullmatch(id) else None


def render_milliseconds(time: int) -> str:
    """``2022-03-30T23:26:33.499Z``, truncated to milliseconds."""
    return f"{render_time(time)[:23]}Z"
