"""Operations on a stack, with their starts and ends, reconstructed from recorded events."""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from deploylog.deployments.catalog import deployment_ref
from deploylog.deployments.lifecycle import (
    DEPLOYMENT_ENDS,
    DEPLOYMENT_LIFECYCLE,
    DEPLOYMENT_STARTED,
)
from deploylog.events.event import NewEvent
from deploylog.ingest.cloudformation.stack_event import StackEvent, stack_event_of


class Operation(msgspec.Struct, kw_only=True):
    """A create, update or delete of a stack, with what is known of it."""

    #: UUID: the deployment's.
    id: str
    #: ``create``, ``update``, …; ``None`` if its start was not seen.
    verb: str | None
    #: ns since 1970 (UTC).
    started: int
    ended: int | None = None
    status: Literal["running", "completed", "failed"] = "running"
    message: str | None = None
    #: The token of its request, if CloudFormation provides one.
    token: str | None = None
    #: The reason of its first failure.
    failure: str | None = None
    #: Whether the stack is being deleted because it could not be created.
    cleans_up: bool = False


#: The types of events that give the reason of a failure.
FAILURE_TYPES = (
    "resource.create.failed",
    "resource.update.failed",
    "resource.delete.failed",
    "resource.import.failed",
    "resource.rollback.failed",
    "deployment.error",
    "deployment.log",
)

#: The consequence of another failure, or of a cancellation by a user.
_CANCELLED = re.compile(r"Resource (?:creation|update|deletion|import) cancelled\.?")


def note(operation: Operation, event: StackEvent) -> None:
    """Update the operation from ``event``."""
    if operation.failure is None:
        operation.failure = _failure(event)
    if event.is_stack_itself and follows_failure(event):
        operation.cleans_up = operation.verb == "create"


def follows_failure(event: StackEvent) -> bool:
    """Whether the stack is being deleted because something failed: the reason names a failure, not
    a user's request.
    """
    reason = event.resource_status_reason or ""
    is_deletion = event.resource_status == "DELETE_IN_PROGRESS"
    return is_deletion and reason != "User Initiated" and "failed" in reason


def _failure(event: StackEvent) -> str | None:
    """The reason of a failure, if the event gives one."""
    if event.hook_status is not None:
        return event.hook_status_reason if event.is_failed_hook else None
    status, reason = event.resource_status, event.resource_status_reason
    # The stack's own events usually name the failed resources only, but sometimes they alone give
    # the reason.
    has_failed = status.endswith("_FAILED") or (
        event.is_stack_itself
        and (follows_failure(event) or status.endswith("ROLLBACK_IN_PROGRESS"))
    )
    return reason if has_failed and reason and not _CANCELLED.fullmatch(reason) else None


def apply_recorded(operations: Iterable[Operation], recorded: Iterable[NewEvent]) -> None:
    """Update the operations from recorded events."""
    by_id = {operation.id: operation for operation in operations}
    for event in sorted(recorded, key=lambda event: event.time):
        place, parsed = deployment_ref(event.scopes), stack_event_of(event)
        operation = by_id.get(place.deployment_id or "") if place is not None else None
        if operation is not None and parsed is not None:
            note(operation, parsed)


def operations_of(lifecycle: Iterable[NewEvent]) -> list[Operation]:
    """Return the operations that recorded events describe, oldest first. Only events of the types
    in ``DEPLOYMENT_LIFECYCLE`` describe one.
    """
    found: dict[str, Operation] = {}
    # Starts first: EventBridge truncates times to the second, so an end may seem to come earlier.
    for event in sorted(
        lifecycle, key=lambda event: (event.type != DEPLOYMENT_STARTED, event.time)
    ):
        place = deployment_ref(event.scopes)
        if place is None or place.deployment_id is None or event.type not in DEPLOYMENT_LIFECYCLE:
            continue
        id = place.deployment_id
        if event.type == DEPLOYMENT_STARTED:
            found.setdefault(id, Operation(id=id, verb=_verb_in(event), started=event.time))
            found[id].verb = found[id].verb or _verb_in(event)
            found[id].token = found[id].token or _details_in(event).token
        elif id in found:
            end_operation(found[id], event)
    return sorted(found.values(), key=lambda operation: operation.started)


class _Details(msgspec.Struct):
    operation: str | None = None
    token: str | None = msgspec.field(default=None, name="ClientRequestToken")


def _details_in(event: NewEvent) -> _Details:
    try:
        return msgspec.json.decode(event.data or b"{}", type=_Details)
    except (msgspec.DecodeError, RecursionError):
        # Anybody who may write the stack may write such an event.
        return _Details()


def _verb_in(event: NewEvent) -> str | None:
    return _details_in(event).operation


def end_operation(operation: Operation, event: NewEvent) -> None:
    """Take note of what ends it, if nothing has yet."""
    if operation.ended is None:
        operation.ended = event.time
        operation.status = DEPLOYMENT_ENDS[event.type]
        operation.message = event.message
