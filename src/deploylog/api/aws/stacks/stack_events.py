"""Events as CloudFormation tells them: what it said itself, or what it would have said."""

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

#: What a deployment does to its stack, in CloudFormation's words.
Action = Literal["CREATE", "UPDATE", "DELETE"]

#: How the event that begins a deployment, or ends it, ends a status.
_PHASES = {
    "deployment.started": "IN_PROGRESS",
    "deployment.completed": "COMPLETE",
    "deployment.failed": "FAILED",
}

#: Progress is told in no event of its own: the start has said it.
TYPES = (*(type for type in STATUS_BY_TYPE if not type.endswith(".progress")), *_PHASES)

#: Of what was collected from CloudFormation, everything that it said.
COLLECTED = Filter(all_of=(AnyOf(field="source", values=(SOURCE,)),))

#: Of that, what a collector records of a stack itself, and of none that is nested in it.
LIFECYCLE = Filter(all_of=(*COLLECTED.all_of, AnyOf(field="type", values=tuple(_PHASES))))

#: Of anything else, what has a status in CloudFormation.
MADE = Filter(all_of=(AnyOf(field="type", values=TYPES),))

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9]+")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")

_MAX_ID = 255

#: Bytes of a hash in an id, which are eight characters of base 32.
_HASHED_BYTES = 5

#: A resource in the root module, without a key, whose name is one word. Words begin with a letter
#: and the last one is the name, so its id can be read back: no other such address has it.
_PLAIN = re.compile(r"(?!module[._])[a-z][a-z0-9]+(?:_[a-z][a-z0-9]+)*\.[a-z][a-z0-9]*")


#: What tools call it when a deployment makes a stack, or takes it away.
_CREATIONS = ("create", "import")
_DELETIONS = ("destroy", "delete")


class _Started(msgspec.Struct):
    operation: str | None = None


def recorded_stack_event(event: Event) -> StackEvent | None:
    """What CloudFormation said; ``None`` if somebody else wrote this under its name."""
    said = stack_event_of(event)
    if said is None:
        return None
    # The time by which the event is listed: a writer may say another one in its data. Clients that
    # want no fraction, or an offset, are not known; one form is enough.
    return msgspec.structs.replace(said, timestamp=render_milliseconds(event.time))


def synthesize_stack_event(
    event: Event, *, arn: str, name: str, actions: Mapping[str, Action | None]
) -> StackEvent | None:
    """What CloudFormation would have said of the stack.

    ``actions`` are what deployments did, by id. ``None`` if it would have said nothing.
    """
    phase = _PHASES.get(event.type)
    if phase is not None:
        return _made_of_stack(event, phase, arn=arn, name=name, actions=actions)
    status = STATUS_BY_TYPE.get(event.type)
    if status is None:
        return None
    return _made_of_resource(event, status, arn=arn, name=name)


def _made_of_stack(
    event: Event, phase: str, *, arn: str, name: str, actions: Mapping[str, Action | None]
) -> StackEvent | None:
    id = deployment_of(event)
    action = _said_action(event) if id is None else actions.get(id, _said_action(event))
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


def _made_of_resource(event: Event, status: str, *, arn: str, name: str) -> StackEvent:
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
    place = deployment_ref(event.scopes)
    return place.deployment_id if place is not None else None


def run_of(event: Event) -> str | None:
    """The id of the deployment that the event begins or ends."""
    return deployment_of(event) if event.type in _PHASES else None


def action_of(deployment: Deployment, before: Deployment | None) -> Action | None:
    """What a deployment does to its stack; ``None`` if nothing.

    ``before`` is the one before it that did something.
    """
    if deployment.operation in NON_MUTATING_OPERATIONS:
        return None
    if deployment.operation in _DELETIONS:
        return "DELETE"
    is_gone = before is None or (before.operation in _DELETIONS and before.status == "completed")
    return "CREATE" if is_gone or deployment.operation in _CREATIONS else "UPDATE"


_STATUSES = {"running": "IN_PROGRESS", "completed": "COMPLETE", "failed": "FAILED"}


def status_of(deployment: Deployment, action: Action) -> str:
    """The stack's status after the deployment, or while it runs."""
    return f"{action}_{_STATUSES[deployment.status]}"


def _said_action(event: Event) -> Action | None:
    """What a deployment does that is of no stack that is shown, as far as its event says."""
    try:
        operation = msgspec.json.decode(event.data or b"{}", type=_Started).operation
    except (msgspec.DecodeError, RecursionError):
        operation = None
    if operation in NON_MUTATING_OPERATIONS:
        return None
    return "DELETE" if operation in _DELETIONS else "CREATE"


def logical_id_of(resource: Resource) -> str:
    """The logical id that stands for the resource's whole address, and for that alone.

    ``aws_instance.web`` is ``AwsInstanceWeb``. An address that other addresses could be written
    as, too, has a hash: ``module.a.aws_instance.web[0]`` is ``AAwsInstanceWeb0`` and eight
    characters. A name of CloudFormation's own types is a logical id already.
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
    """``name`` if it is letters and digits, else those that it has and a hash of all of it."""
    letters = _NOT_IN_AN_ID.sub("", name)
    return letters if letters == name and 0 < len(name) <= _MAX_ID else _hashed(letters, name)


def _hashed(readable: str, whole: str) -> str:
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=_HASHED_BYTES)
    hash = base64.b32encode(digest.digest()).decode()
    return (readable[: _MAX_ID - len(hash)] or "X") + hash


def _token(id: str | None) -> str | None:
    return id if id is not None and _TOKEN.fullmatch(id) else None


def render_milliseconds(time: int) -> str:
    """``2022-03-30T23:26:33.499Z``; digits beyond are cut off."""
    return f"{render_time(time)[:23]}Z"
