"""What is sent of CloudFormation's events: EventBridge's envelopes, and SNS notifications' texts.

Sources: the CloudFormation User Guide, "Stack Status Change event detail" and "Resource Status
Change event detail"; the EventBridge event reference; the form of a stack's notifications is
that of ``NotificationARNs``.
"""

import re

import msgspec

from deploylog.errors import InvalidEvent
from deploylog.ingest.cloudformation.parsing import (
    EVENTBRIDGE_PREFIX,
    name_in,
    parse_stack_event,
    time_of,
)
from deploylog.ingest.cloudformation.stack_event import STACK_TYPE, StackEvent

_STACK = "CloudFormation Stack Status Change"

_RESOURCE = "CloudFormation Resource Status Change"


class StatusDetails(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What became of it."""

    status: str
    status_reason: str | None = None
    detailed_status: str | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What happened to a stack, or to a resource in it."""

    stack_id: str
    status_details: StatusDetails
    logical_resource_id: str | None = None
    physical_resource_id: str | None = None
    resource_type: str | None = None
    detailed_status: str | None = None
    client_request_token: str | None = None


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The fields of EventBridge's envelope that are used."""

    id: str
    detail_type: str
    source: str
    time: str
    detail: Detail


def parse_envelope(body: bytes | str) -> StackEvent:
    """The stack event that EventBridge tells of; raises InvalidEvent, which names the field."""
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidEvent(
            f"not an event of EventBridge: {error}", field=field_of(error)
        ) from error
    if envelope.source != "aws.cloudformation":
        raise InvalidEvent("source is not aws.cloudformation", field="source")
    if not envelope.id:
        raise InvalidEvent("an id is not empty", field="id")
    event = _stack_event(envelope)
    time_of(event)
    return event


def _stack_event(envelope: Envelope) -> StackEvent:
    detail = envelope.detail
    name = name_in(detail.stack_id)
    if envelope.detail_type == _STACK:
        logical, physical, type = name, detail.stack_id, STACK_TYPE
    elif envelope.detail_type == _RESOURCE:
        logical = _required("logical-resource-id", detail.logical_resource_id)
        physical = detail.physical_resource_id or ""
        type = _required("resource-type", detail.resource_type)
    else:
        raise InvalidEvent(
            f"detail-type is neither {_STACK!r} nor {_RESOURCE!r}", field="detail-type"
        )
    return StackEvent(
        stack_id=detail.stack_id,
        event_id=f"{EVENTBRIDGE_PREFIX}{envelope.id}",
        stack_name=name,
        logical_resource_id=logical,
        physical_resource_id=physical,
        resource_type=type,
        timestamp=envelope.time,
        resource_status=detail.status_details.status,
        resource_status_reason=detail.status_details.status_reason or None,
        detailed_status=detail.status_details.detailed_status or detail.detailed_status or None,
        client_request_token=detail.client_request_token or None,
    )


def _required(name: str, value: str | None) -> str:
    if not value:
        raise InvalidEvent(f"{name} is missing", field=f"detail.{name}")
    return value


def field_of(error: Exception) -> str | None:
    """What msgspec says is wrong: the path to it, and the name of what is missing there."""
    missing = re.search(r"required field `([^`]+)`", str(error))
    path = re.search(r"at `\$\.?([^`]*)`", str(error))
    names = [match[1] for match in (path, missing) if match and match[1]]
    return ".".join(names) or None


def parse_message(message: str) -> StackEvent:
    """The stack event in an SNS notification: CloudFormation's text, or what EventBridge sent to
    the topic. Raises InvalidEvent, which names the field.
    """
    if message.lstrip().startswith("{"):
        return parse_envelope(message)
    fields = parse_pairs(message)
    for name in _OPTIONAL:
        # Absent text is sent as empty text or as null.
        if fields.get(name, "").strip() in ("", "null"):
            fields.pop(name, None)
    if not fields.keys() & {"StackId", "EventId"}:
        raise InvalidEvent("the message is no notification of CloudFormation's", field="Message")
    event = parse_stack_event(fields)
    name_in(event.stack_id)
    return event


#: What may be absent.
_OPTIONAL = (
    "ResourceStatusReason", "ResourceProperties", "ClientRequestToken", "DetailedStatus",
    "HookType", "HookInvocationPoint", "HookStatus", "HookStatusReason", "HookFailureMode",
)  # fmt: skip

#: Where a value ends, and the next name follows.
_BETWEEN = re.compile(r"'\n(?=[A-Z][A-Za-z]{0,63}=')")


def parse_pairs(message: str) -> dict[str, str]:
    """The values in a text of lines ``Name='value'``; a value may have several lines."""
    values: dict[str, str] = {}
    for part in _BETWEEN.split(message.replace("\r\n", "\n").removesuffix("\n").removesuffix("'")):
        name, quote, value = part.partition("='")
        if quote:
            values.setdefault(name, value)
    return values
