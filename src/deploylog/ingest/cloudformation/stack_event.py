"""CloudFormation's words for what happens to a resource, and ours: one table, read both ways.

Sources: the CloudFormation User Guide, "Stack status codes", and the API Reference, StackEvent.
"""

from uuid import NAMESPACE_URL, uuid5

import msgspec

from deploylog.events.event import NewEvent

#: What an event that was collected from CloudFormation says it comes from.
SOURCE = "cloudformation"

#: The type of the events that a stack has of itself, in CloudFormation.
STACK_TYPE = "AWS::CloudFormation::Stack"

#: CloudFormation's status of a resource, and the type of our event.
TYPE_BY_STATUS: dict[str, str] = {
    "CREATE_IN_PROGRESS": "resource.create.started",
    "CREATE_COMPLETE": "resource.create.completed",
    "CREATE_FAILED": "resource.create.failed",
    "UPDATE_IN_PROGRESS": "resource.update.started",
    "UPDATE_COMPLETE": "resource.update.completed",
    "UPDATE_FAILED": "resource.update.failed",
    "DELETE_IN_PROGRESS": "resource.delete.started",
    "DELETE_COMPLETE": "resource.delete.completed",
    "DELETE_FAILED": "resource.delete.failed",
    "DELETE_SKIPPED": "resource.delete.skipped",
    "IMPORT_IN_PROGRESS": "resource.import.started",
    "IMPORT_COMPLETE": "resource.import.completed",
    "IMPORT_FAILED": "resource.import.failed",
    "IMPORT_ROLLBACK_IN_PROGRESS": "resource.rollback.started",
    "IMPORT_ROLLBACK_COMPLETE": "resource.rollback.completed",
    "IMPORT_ROLLBACK_FAILED": "resource.rollback.failed",
    "ROLLBACK_IN_PROGRESS": "resource.rollback.started",
    "ROLLBACK_COMPLETE": "resource.rollback.completed",
    "ROLLBACK_FAILED": "resource.rollback.failed",
    "UPDATE_ROLLBACK_IN_PROGRESS": "resource.rollback.started",
    "UPDATE_ROLLBACK_COMPLETE": "resource.rollback.completed",
    "UPDATE_ROLLBACK_FAILED": "resource.rollback.failed",
}

#: The status to report for each of our types where the event itself has none. A rollback is
#: reported as the deletion that it performs.
STATUS_BY_TYPE: dict[str, str] = {
    "resource.create.started": "CREATE_IN_PROGRESS",
    "resource.create.progress": "CREATE_IN_PROGRESS",
    "resource.create.completed": "CREATE_COMPLETE",
    "resource.create.failed": "CREATE_FAILED",
    "resource.update.started": "UPDATE_IN_PROGRESS",
    "resource.update.progress": "UPDATE_IN_PROGRESS",
    "resource.update.completed": "UPDATE_COMPLETE",
    "resource.update.failed": "UPDATE_FAILED",
    "resource.delete.started": "DELETE_IN_PROGRESS",
    "resource.delete.progress": "DELETE_IN_PROGRESS",
    "resource.delete.completed": "DELETE_COMPLETE",
    "resource.delete.failed": "DELETE_FAILED",
    "resource.delete.skipped": "DELETE_SKIPPED",
    "resource.import.started": "IMPORT_IN_PROGRESS",
    "resource.import.progress": "IMPORT_IN_PROGRESS",
    "resource.import.completed": "IMPORT_COMPLETE",
    "resource.import.failed": "IMPORT_FAILED",
    "resource.rollback.started": "DELETE_IN_PROGRESS",
    "resource.rollback.progress": "DELETE_IN_PROGRESS",
    "resource.rollback.completed": "DELETE_COMPLETE",
    "resource.rollback.failed": "DELETE_FAILED",
}


class StackEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """A stack event as CloudFormation tells it: the ``data`` of an event that was collected."""

    stack_id: str
    event_id: str
    stack_name: str
    logical_resource_id: str
    physical_resource_id: str = ""
    resource_type: str
    #: ISO 8601, as it was given.
    timestamp: str
    resource_status: str
    resource_status_reason: str | None = None
    #: How far it is within its status, such as ``CONFIGURATION_COMPLETE``.
    detailed_status: str | None = None
    #: A text that holds JSON.
    resource_properties: str | None = None
    client_request_token: str | None = None
    #: Of a hook that looks at the stack or resource: which, when, how far it is, and whether its
    #: failure is one (``FAIL``) or a warning (``WARN``). The status is that of what it looks at.
    hook_type: str | None = None
    hook_invocation_point: str | None = None
    hook_status: str | None = None
    hook_status_reason: str | None = None
    hook_failure_mode: str | None = None
    #: The stack's tags, if its collector knows them; only on the stack's own events.
    tags: dict[str, str] | None = None

    @property
    def is_failed_hook(self) -> bool:
        """Whether a hook failed, and with it the operation that it checked."""
        has_failed = self.hook_status in ("HOOK_COMPLETE_FAILED", "HOOK_FAILED")
        return has_failed and self.hook_failure_mode != "WARN"

    @property
    def is_stack_itself(self) -> bool:
        """Whether it is about the stack itself, not about a resource in it."""
        # By its id alone: a stack that is nested in it may have its name for a logical id.
        return (self.resource_type, self.physical_resource_id) == (STACK_TYPE, self.stack_id)


def catalogue_id(project: str, arn: str) -> str:
    """The catalogue's id of the stack that a collector records in the project for this ARN."""
    # With the project, or who writes another could use the ids up.
    return str(uuid5(NAMESPACE_URL, f"{project}/{arn}"))


def stack_event_of(event: NewEvent) -> StackEvent | None:
    """Return CloudFormation's own event, if ``event`` was collected from it."""
    if event.source != SOURCE or event.data is None:
        return None
    try:
        return msgspec.json.decode(event.data, type=StackEvent)
    except (msgspec.DecodeError, RecursionError):
        # Anybody may write events under this source.
        return None
