"""CloudFormation's stack events, to our events: each create, update or delete is a deployment.

A stack of CloudFormation is one of the catalogue's, and what happens between its own
``…_IN_PROGRESS`` and the end of that is one deployment. All ids follow from CloudFormation's:
whoever reads the same events makes the same of them. Source: the API Reference, StackEvent, and
the User Guide, "Stack status codes".
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal

import msgspec

from deploylog.deployments.catalog import MAX_NAME_LENGTH as MAX_STACK_NAME
from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    NewEvent,
    Resource,
    check_event,
)
from deploylog.events.scope import Scope, deployment_scope, stack_scope
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.operations import (
    Operation,
    end_operation,
    follows_failure,
    note,
)
from deploylog.ingest.cloudformation.parsing import EVENTBRIDGE_PREFIX, SAME, name_in, time_of
from deploylog.ingest.cloudformation.stack_event import (
    SOURCE,
    TYPE_BY_STATUS,
    StackEvent,
    catalogue_id,
)

#: What the catalogue says that deployments were made with.
TOOL = "cloudformation"

#: How an event came, if not from CloudFormation itself: the value of the attribute ``via``.
Via = Literal["sns", "eventbridge"]

#: An operation whose beginning was not told began at most so long before or after what is known
#: of it, in ns; and so long after its end something may still belong to one.
NEAR = 60 * SECOND

#: A stack's own statuses that begin an operation.
_BEGINNINGS = {
    "CREATE_IN_PROGRESS": "create",
    "UPDATE_IN_PROGRESS": "update",
    "DELETE_IN_PROGRESS": "delete",
    "IMPORT_IN_PROGRESS": "import",
}

#: Those that go on with one, unless it has ended long ago: then somebody rolls back by hand.
_ROLLBACKS = ("ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS")

#: Those that end one, and which.
_ENDED = {
    f"{word.upper()}_{end}": word
    for word in ("create", "update", "delete", "import")
    for end in ("COMPLETE", "FAILED")
}

_COMPLETIONS = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE", "IMPORT_COMPLETE")

_ROLLED_BACK = ("ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")

#: Failures that a rollback, or a deletion, may follow at once.
OPEN_FAILURES = ("CREATE_FAILED", "UPDATE_FAILED", "IMPORT_FAILED")

_FAILURES = (
    *OPEN_FAILURES,
    "DELETE_FAILED",
    "ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_FAILED",
    "IMPORT_ROLLBACK_FAILED",
)

#: What ends a stack that is deleted because it could not be created.
_CLEANED = ("DELETE_COMPLETE", "DELETE_FAILED")

#: A stack that a change set is made for, before it is created.
_REVIEW = "REVIEW_IN_PROGRESS"

#: The longest part of a name that leaves room for a slash and a UUID.
_LONGEST_NAME = MAX_STACK_NAME - 37


class StackContext(msgspec.Struct, frozen=True, kw_only=True):
    """What all events of a stack have in common."""

    project: str
    #: The ARN of the stack that no other contains.
    arn: str
    #: Where they are found, too, such as ``cluster/<name>``.
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()
    #: The stack's own, as far as they are known.
    tags: dict[str, str] | None = None
    via: Via | None = None

    @property
    def stack_id(self) -> str:
        """The catalogue's id of the stack."""
        return catalogue_id(self.project, self.arn)

    def deployment_id(self, event: StackEvent) -> str:
        """The id of the deployment that begins with ``event``."""
        return catalogue_id(self.project, f"{event.stack_id}/{event.event_id}")

    @property
    def stack_scope(self) -> Scope:
        """The scope of all that happens to the stack."""
        return stack_scope(self.project, self.stack_id)

    @property
    def name(self) -> str:
        """The stack's name."""
        return name_in(self.arn)

    @property
    def long_name(self) -> str:
        """Its name in the catalogue when another stack there has the short one."""
        return f"{self.name[:_LONGEST_NAME]}/{self.arn.rpartition('/')[2][:36]}"


class StackMapper:
    """Makes our events of a stack's, in order, and knows in which operation each happened."""

    def __init__(self, frame: StackContext, operations: Sequence[Operation] = ()) -> None:
        """Go on after ``operations``, those that are recorded, oldest first."""
        self.operations = list(operations)
        self._frame = frame

    @property
    def last(self) -> Operation | None:
        """The operation that began last."""
        return self.operations[-1] if self.operations else None

    def stack_created(self, time: int, *, long: bool = False) -> NewEvent:
        """The stack's beginning in the catalogue; ``long`` for a name that is taken."""
        name = self._frame.long_name if long else self._frame.name
        return self._new(
            "stack.created",
            f"{self._frame.stack_id}/created",
            time,
            None,
            subject=name,
            message=f"Stack {name} created",
            data={"name": name},
        )

    def map_events(self, events: Sequence[StackEvent]) -> list[NewEvent]:
        """Our events of ``events``, which are oldest first; raises InvalidEvent."""
        told: list[NewEvent] = []
        for place, event in enumerate(events):
            told += self._record(event, islice(events, place + 1, None))
        for new in told:
            check_event(new)
        return told

    def _record(self, event: StackEvent, later: Iterable[StackEvent]) -> list[NewEvent]:
        time = time_of(event)
        if event.hook_status is not None and event.resource_status != _REVIEW:
            return self._hook(event, time)
        if event.is_stack_itself and event.stack_id == self._frame.arn:
            return self._own(event, time, later)
        before, operation = self._at(event, time)
        note(operation, event)
        return [*before, self._about_resource(event, time, operation)]

    def _hook(self, event: StackEvent, time: int) -> list[NewEvent]:
        """A hook's event has the status of what the hook looks at, which begins nothing."""
        before, operation = self._at(event, time)
        note(operation, event)
        type = "deployment.error" if event.is_failed_hook else "deployment.log"
        return [*before, self._told(type, event, time, operation)]

    def _own(self, event: StackEvent, time: int, later: Iterable[StackEvent]) -> list[NewEvent]:
        status = event.resource_status
        if status == _REVIEW:
            return [self._told("deployment.log", event, time, None)]
        if cleaned := self._cleaned_up(event, time):
            return self._clean_up(event, time, cleaned)
        verb = self._verb(status, time)
        if verb is not None and not self._is_under_way(event, time, verb):
            return self._begin(event, time, verb, later)
        before, operation = self._at(event, time, verb=_ENDED.get(status))
        end = self._end_type(status, operation)
        note(operation, event)
        if end is None or (status in OPEN_FAILURES and self._goes_on(later, time)):
            return [*before, self._told("deployment.log", event, time, operation)]
        verb = operation.verb or _ENDED.get(status)
        why = operation.failure if end == "deployment.failed" else None
        ended = self._told(end, event, time, operation, why=why, operation=verb)
        end_operation(operation, ended)
        left = self._supersede(self._before(operation.started - 1), time)
        gone = [self._deleted(event, time)] if status == "DELETE_COMPLETE" else []
        return [*before, ended, *left, *gone]

    def _cleaned_up(self, event: StackEvent, time: int) -> Operation | None:
        """The creation that failed, and after which this deletes the stack."""
        last = self._before(time)
        if last is None or last.verb != "create" or last.ended is not None:
            return None
        if event.resource_status in _CLEANED:
            return last if last.cleans_up else None
        return last if follows_failure(event) else None

    def _clean_up(self, event: StackEvent, time: int, created: Operation) -> list[NewEvent]:
        note(created, event)
        if event.resource_status not in _CLEANED:
            return [self._told("deployment.log", event, time, created)]
        ended = self._told(
            "deployment.failed", event, time, created, why=created.failure, operation="create"
        )
        end_operation(created, ended)
        is_gone = event.resource_status == "DELETE_COMPLETE"
        return [ended, *([self._deleted(event, time)] if is_gone else [])]

    def _verb(self, status: str, time: int) -> str | None:
        """What begins with this status of the stack, if anything does."""
        if status not in _ROLLBACKS:
            return _BEGINNINGS.get(status)
        last = self._before(time)
        goes_on = last is not None and (last.ended is None or time - last.ended <= NEAR)
        return None if goes_on else "rollback"

    def _is_under_way(self, event: StackEvent, time: int, verb: str) -> bool:
        """Whether this tells again what goes on: that its resources are configured, say, or that
        a hook looks at them.
        """
        if event.detailed_status is not None:
            return True
        last = self._before(time - SAME - 1)
        if last is None or last.ended is not None or last.verb != verb:
            return False
        # What is sent alone may come before the end of what was before; a stack is created once.
        if self._frame.via is not None and verb != "create":
            return last.token is not None and last.token == event.client_request_token
        return True

    def _end_type(self, status: str, operation: Operation) -> str | None:
        if status in _COMPLETIONS or (status in _ROLLED_BACK and operation.verb == "rollback"):
            return "deployment.completed"
        is_failure = status in _FAILURES or status in _ROLLED_BACK
        return "deployment.failed" if is_failure else None

    def _goes_on(self, later: Iterable[StackEvent], time: int) -> bool:
        """Whether the stack rolls back, or is deleted, because something failed."""
        own = (e for e in later if e.is_stack_itself and e.stack_id == self._frame.arn)
        following = next(own, None)
        if following is None:
            return False
        if following.resource_status not in _ROLLBACKS and not follows_failure(following):
            return False
        return time_of(following) - time <= NEAR

    def _begin(
        self, event: StackEvent, time: int, verb: str, later: Iterable[StackEvent]
    ) -> list[NewEvent]:
        id = self._frame.deployment_id(event)
        operation = self._known(id, time, verb, self._next_beginning(later))
        before: list[NewEvent] = []
        if operation is None:
            # What is sent alone may come before the end of what was before.
            before = self._supersede(self._before(time), time) if self._frame.via is None else []
            operation = Operation(id=id, verb=verb, started=time)
            self._add(operation)
        operation.verb = verb
        operation.token = operation.token or event.client_request_token
        operation.started = min(operation.started, time)
        details = {"stack": self._frame.name, "tool": TOOL, "operation": verb}
        return [*before, self._told("deployment.started", event, time, operation, **details)]

    def _next_beginning(self, later: Iterable[StackEvent]) -> int | None:
        own = (e for e in later if e.is_stack_itself and e.stack_id == self._frame.arn)
        return next((time_of(e) for e in own if e.resource_status in _BEGINNINGS), None)

    def _known(self, id: str, time: int, verb: str, next_: int | None) -> Operation | None:
        """The operation, if it is known: by its id, or by when it began. ``next_`` is when
        another begins.
        """
        for operation in self.operations:
            if operation.id == id:
                return operation
        for operation in self.operations:
            is_over = operation.ended is not None and operation.ended <= time
            if not is_over and self._is_it(operation, time, verb, next_):
                return operation
        return None

    def _is_it(self, operation: Operation, time: int, verb: str, next_: int | None) -> bool:
        if operation.verb is not None:
            is_near = abs(operation.started - time) <= SAME or verb == "create"
            return operation.verb == verb and is_near
        # Its beginning was not told: it is the last one before what is known of it.
        return operation.started >= time - NEAR and (next_ is None or operation.started < next_)

    def _supersede(self, earlier: Operation | None, time: int) -> list[NewEvent]:
        """The end of what was going on: CloudFormation tells none when a stack that is being
        created is deleted.
        """
        if earlier is None or earlier.ended is not None:
            return []
        ended = self._new(
            "deployment.failed",
            f"{earlier.id}/superseded",
            time,
            earlier,
            subject=self._frame.name,
            message=earlier.failure
            or "CloudFormation began another operation before this one ended",
            data={"operation": earlier.verb},
        )
        end_operation(earlier, ended)
        return [ended]

    def _at(
        self, event: StackEvent, time: int, *, verb: str | None = None
    ) -> tuple[list[NewEvent], Operation]:
        """The operation in which it happened, and what has to be told before; ``verb`` is what
        the operation does, if that is known.
        """
        # EventBridge tells whole seconds: it may have happened at the end of this one.
        latest = time + SECOND - 1 if event.event_id.startswith(EVENTBRIDGE_PREFIX) else time
        operation = self._before(latest) or self._soon(time)
        if operation is not None and self._fits(operation, time, verb):
            return [], operation
        # Its beginning was not told, or will be: then it becomes this one's.
        id = self._frame.deployment_id(event)
        opened = Operation(id=id, verb=None, started=time)
        self._add(opened)
        started = self._new(
            "deployment.started",
            f"{event.event_id}/started",
            time,
            opened,
            subject=self._frame.name,
            message=f"Deployment of {self._frame.name} seen",
            data={"stack": self._frame.name, "tool": TOOL},
        )
        return [started], opened

    def _fits(self, operation: Operation, time: int, verb: str | None) -> bool:
        is_there = operation.ended is None or time - operation.ended <= NEAR
        return is_there and (verb is None or operation.verb in (verb, None))

    def _before(self, time: int) -> Operation | None:
        return next((o for o in reversed(self.operations) if o.started <= time), None)

    def _soon(self, time: int) -> Operation | None:
        """The first one, if it begins a little later than what already happened in it."""
        first = self.operations[0] if self.operations else None
        return first if first is not None and first.started - time <= NEAR else None

    def _add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self.operations.sort(key=lambda each: each.started)

    def _about_resource(self, event: StackEvent, time: int, operation: Operation) -> NewEvent:
        is_own = event.is_stack_itself
        # A nested stack's own events are in its parent's list, too, where they count.
        type = (
            "deployment.log"
            if is_own
            else TYPE_BY_STATUS.get(event.resource_status, "deployment.log")
        )
        return self._told(type, event, time, operation)

    def _told(
        self,
        type: str,
        event: StackEvent,
        time: int,
        of: Operation | None,
        *,
        why: str | None = None,
        **details: str | None,
    ) -> NewEvent:
        message = why or _message(event)
        if event.is_stack_itself and event.stack_id == self._frame.arn:
            event = msgspec.structs.replace(event, tags=self._frame.tags)
        return self._new(
            type,
            event.event_id,
            time,
            of,
            subject=event.logical_resource_id,
            message=_capped(message),
            data=_data(event, details),
            resource=self._resource(event),
        )

    def _resource(self, event: StackEvent) -> Resource:
        id = event.physical_resource_id
        has_id = 0 < len(id) <= MAX_NAME_LENGTH
        is_nested = event.stack_id != self._frame.arn
        return Resource(
            type=event.resource_type,
            name=event.logical_resource_id,
            address=f"{event.stack_name}/{event.logical_resource_id}" if is_nested else None,
            id_key="PhysicalResourceId" if has_id else None,
            id_value=id if has_id else None,
        )

    def _deleted(self, event: StackEvent, time: int) -> NewEvent:
        name = self._frame.name
        return self._new(
            "stack.deleted",
            f"{event.event_id}/deleted",
            time,
            None,
            subject=name,
            message=f"Stack {name} deleted",
            data={"name": name},
        )

    def _new(
        self,
        type: str,
        id: str,
        time: int,
        of: Operation | None,
        *,
        subject: str,
        message: str | None,
        data: Mapping[str, object],
        resource: Resource | None = None,
    ) -> NewEvent:
        frame = self._frame
        own = frame.stack_scope
        if of is not None:
            own = deployment_scope(frame.project, frame.stack_id, of.id)
        is_about_stack = type.startswith("stack.")
        return NewEvent(
            type=type,
            source=SOURCE,
            scopes=(own,) if is_about_stack else (own, *frame.scopes),
            time=time,
            producer_id=id,
            subject=subject,
            groups=() if is_about_stack else frame.groups,
            resource=resource,
            message=message,
            data=msgspec.Raw(msgspec.json.encode(data)),
            extensions=_extensions(frame.via),
        )


def _message(event: StackEvent) -> str | None:
    if event.hook_status is not None:
        return event.hook_status_reason or f"{event.hook_type or 'Hook'}: {event.hook_status}"
    return event.resource_status_reason or (
        event.resource_status if event.is_stack_itself else None
    )


def _extensions(via: Via | None) -> msgspec.Raw | None:
    return msgspec.Raw(msgspec.json.encode({"via": via})) if via is not None else None


def _data(event: StackEvent, details: Mapping[str, str | None]) -> dict[str, object]:
    """The event as it was told; without the properties when these are more than fits."""
    data: dict[str, object] = msgspec.to_builtins(event)
    data |= {name: value for name, value in details.items() if value is not None}
    if len(msgspec.json.encode(data)) > MAX_DATA_BYTES:
        data.pop("ResourceProperties", None)
        data["ResourceStatusReason"] = _capped(event.resource_status_reason)
    return data


def _capped(message: str | None) -> str | None:
    """The message, as far as an event may hold it."""
    if message is None:
        return None
    clean = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(clean.encode()) <= MAX_MESSAGE_BYTES:
        return clean
    return clean.encode()[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
