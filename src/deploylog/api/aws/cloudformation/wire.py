"""CloudFormation's Query API: its calls, and its views of stacks."""

import re
from urllib.parse import parse_qsl

import msgspec

from deploylog.api.aws.cloudformation.errors import QueryError
from deploylog.api.aws.cloudformation.xml import VERSION, Value
from deploylog.api.aws.stacks.description import Description
from deploylog.api.aws.stacks.page_tokens import MAX_LENGTH
from deploylog.api.aws.stacks.stack_events import render_milliseconds
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: The most parameters that one call may have.
MAX_PARAMETERS = 1000

#: CloudFormation API Reference, StackSummary, StackStatus.
STACK_STATUSES = (
    "CREATE_IN_PROGRESS",
    "CREATE_FAILED",
    "CREATE_COMPLETE",
    "ROLLBACK_IN_PROGRESS",
    "ROLLBACK_FAILED",
    "ROLLBACK_COMPLETE",
    "DELETE_IN_PROGRESS",
    "DELETE_FAILED",
    "DELETE_COMPLETE",
    "UPDATE_IN_PROGRESS",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_COMPLETE",
    "UPDATE_FAILED",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE",
    "REVIEW_IN_PROGRESS",
    "IMPORT_IN_PROGRESS",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_IN_PROGRESS",
    "IMPORT_ROLLBACK_FAILED",
    "IMPORT_ROLLBACK_COMPLETE",
)

_FILTER = re.compile(r"StackStatusFilter\.member\.[0-9]{1,4}")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of an action, with its parameters by name; of repeated ones the last counts."""

    action: str
    parameters: dict[str, str]

    def require(self, name: str) -> str:
        """The parameter; raises QueryError when it is missing or empty."""
        value = self.parameters.get(name)
        if value is None:
            raise QueryError("MissingParameter", f"The request must contain the parameter {name}")
        if not value:
            raise _too_short(name)
        return value

    @property
    def stack_name(self) -> str | None:
        """The optional name or ARN of a stack; raises QueryError when it is empty."""
        return self.require("StackName") if "StackName" in self.parameters else None

    @property
    def next_token(self) -> str | None:
        """The token of the page; raises QueryError when its length is invalid."""
        token = self.parameters.get("NextToken")
        if token == "":
            raise _too_short("NextToken")
        if token is not None and len(token) > MAX_LENGTH:
            raise _invalid(
                token, "NextToken", f"Member must have length less than or equal to {MAX_LENGTH}"
            )
        return token

    @property
    def only_failed(self) -> bool:
        """Whether to list failures only; raises QueryError."""
        text = self.parameters.get("Filters.FailedEvents", "false")
        if text not in ("true", "false"):
            raise _invalid(text, "Filters.FailedEvents", "Member must be a boolean")
        return text == "true"

    @property
    def statuses(self) -> frozenset[str]:
        """The statuses to filter a list by; empty means all. Raises QueryError."""
        values = [value for name, value in self.parameters.items() if _FILTER.fullmatch(name)]
        if not set(values) <= set(STACK_STATUSES):
            known = ", ".join(STACK_STATUSES)
            rule = (
                f"Member must satisfy constraint: [Member must satisfy enum value set: [{known}]]"
            )
            raise _invalid(f"[{', '.join(values)}]", "StackStatusFilter", rule)
        return frozenset(values)


def parse_call(form: bytes) -> Call:
    """Parse a form or a query string; raises QueryError."""
    parameters = _parse(form)
    action = parameters.get("Action")
    if not action:
        message = "The request is missing an action or a required parameter"
        raise QueryError("MissingAction", message)
    version = parameters.get("Version") or "NO_VERSION_SPECIFIED"
    if version != VERSION:
        raise unknown_action(action, version)
    return Call(action=action, parameters=parameters)


def has_action(query_string: bytes) -> bool:
    """Whether a query string calls an action."""
    return "Action" in _parse(query_string)


def _parse(form: bytes) -> dict[str, str]:
    if form.count(b"&") >= MAX_PARAMETERS:
        message = f"A request must have at most {MAX_PARAMETERS} parameters"
        raise QueryError("ValidationError", message)
    # Given bytes, parse_qsl raises for percent-encoded bytes outside ASCII.
    return dict(parse_qsl(form.decode("latin-1"), keep_blank_values=True, errors="replace"))


def unknown_action(action: str, version: str = VERSION) -> QueryError:
    """The error for an action that does not exist."""
    message = f"Could not find operation {action[:128]} for version {version[:64]}"
    return QueryError("InvalidAction", message)


def _too_short(name: str) -> QueryError:
    return _invalid("", name, "Member must have length greater than or equal to 1")


def _invalid(value: str, name: str, rule: str) -> QueryError:
    member = name[0].lower() + name[1:]
    return QueryError(
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy"
        f" constraint: {rule}",
    )


def render_stack(stack: Description) -> Value:
    """CloudFormation's Stack."""
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "CreationTime": render_milliseconds(stack.created),
        "DeletionTime": _time(stack.deleted),
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": "false",
        "EnableTerminationProtection": "false",
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
        "NotificationARNs": [],
        "Parameters": [],
        "Outputs": [],
        "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
    }


def render_summary(stack: Description) -> Value:
    """CloudFormation's StackSummary."""
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "CreationTime": render_milliseconds(stack.created),
        "DeletionTime": _time(stack.deleted),
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


def render_event(event: StackEvent) -> Value:
    """CloudFormation's StackEvent."""
    return {
        "StackId": event.stack_id,
        "EventId": event.event_id,
        "StackName": event.stack_name,
        "LogicalResourceId": event.logical_resource_id,
        "PhysicalResourceId": event.physical_resource_id,
        "ResourceType": event.resource_type,
        "Timestamp": event.timestamp,
        "ResourceStatus": event.resource_status,
        "ResourceStatusReason": event.resource_status_reason,
        "ResourceProperties": event.resource_properties,
        "ClientRequestToken": event.client_request_token,
        "DetailedStatus": event.detailed_status,
        "HookType": event.hook_type,
        "HookInvocationPoint": event.hook_invocation_point,
        "HookStatus": event.hook_status,
        "HookStatusReason": event.hook_status_reason,
        "HookFailureMode": event.hook_failure_mode,
    }


def no_change_set(name: str) -> QueryError:
    """The error for any change set: the log's are not CloudFormation's."""
    return QueryError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", status=404)


#: The operation on a stack, by the first word of its status.
_OPERATIONS = {"CREATE": "CREATE_STACK", "UPDATE": "UPDATE_STACK", "DELETE": "DELETE_STACK"}


def render_operation_event(event: StackEvent) -> Value:
    """CloudFormation's OperationEvent for a stack event."""
    operation = (
        _OPERATIONS.get(event.resource_status.partition("_")[0]) if event.is_stack_itself else None
    )
    return {
        "EventId": event.event_id,
        "StackId": event.stack_id,
        "OperationId": event.client_request_token,
        "OperationType": operation,
        "EventType": "STACK_EVENT",
        "LogicalResourceId": event.logical_resource_id,
        "PhysicalResourceId": event.physical_resource_id,
        "ResourceType": event.resource_type,
        "Timestamp": event.timestamp,
        "ResourceStatus": event.resource_status,
        "ResourceStatusReason": event.resource_status_reason,
        "ResourceProperties": event.resource_properties,
        "ClientRequestToken": event.client_request_token,
        "DetailedStatus": event.detailed_status,
    }


def render_resource(event: StackEvent) -> Value:
    """CloudFormation's StackResourceDetail, from the resource's newest event."""
    return {
        "StackId": event.stack_id,
        "StackName": event.stack_name,
        "LastUpdatedTimestamp": event.timestamp,
        **_resource(event),
    }


def render_stack_resource(event: StackEvent) -> Value:
    """CloudFormation's StackResource."""
    return {
        "StackId": event.stack_id,
        "StackName": event.stack_name,
        "Timestamp": event.timestamp,
        **_resource(event),
    }


def render_resource_summary(event: StackEvent) -> Value:
    """CloudFormation's StackResourceSummary."""
    return {"LastUpdatedTimestamp": event.timestamp, **_resource(event)}


def _resource(event: StackEvent) -> dict[str, Value]:
    return {
        "LogicalResourceId": event.logical_resource_id,
        "PhysicalResourceId": event.physical_resource_id,
        "ResourceType": event.resource_type,
        "ResourceStatus": event.resource_status,
        "ResourceStatusReason": event.resource_status_reason,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _time(time: int | None) -> str | None:
    return None if time is None else render_milliseconds(time)
