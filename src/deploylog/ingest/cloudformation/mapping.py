"""CloudFormation's stack events, to our events: each create, update or delete is a deployment.

A stack of CloudFormation is one of the catalogue's, and what happens between its own
``…_IN_PROGRESS`` and the end of that is one deployment. All ids follow from CloudFormation's:
the same events always give the same result. Source: the API Reference, StackEvent, and
the User Guide, "Stack status codes".
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from deploylog.events.event import (
    NewEvent,
    check_event,
)
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.operations import (
    Operation,
    end_operation,
    follows_failure,
    note,
)
from deploylog.ingest.cloudformation.parsing import EVENTBRIDGE_PREFIX, MATCH_WINDOW, time_of
from deploylog.ingest.cloudformation.rendering import TOOL, EventRenderer, StackContext
from deploylog.ingest.cloudformation.stack_event import (
    TYPE_BY_STATUS,
    StackEvent,
)

#: Tolerance in ns: an operation whose start is missing started within this time of its first known
#: event, and events this long after its end may still belong to it.
PROXIMITY = 60 * SECOND

#: A stack's own statuses that start an operation.
_VERB_BY_START = {
    "CREATE_IN_PROGRESS": "create",
    "UPDATE_IN_PROGRESS": "update",
    "DELETE_IN_PROGRESS": "delete",
    "IMPORT_IN_PROGRESS": "import",
}

#: Statuses that continue one, unless it ended long ago: then an operator rolls back manually.
_ROLLBACKS = ("ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS")

#: Statuses that end one, and its verb.
_VERB_BY_END = {
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

#: Statuses that end the cleanup of a stack whose creation failed.
_CLEANED = ("DELETE_COMPLETE", "DELETE_FAILED")

#: Status of a stack that has only a change set so far.
_REVIEW = "REVIEW_IN_PROGRESS"


class StackMapper:
    """Maps the events of a stack, in order, and assigns each to an operation."""

    def __init__(self, context: StackContext, operations: Sequence[Operation] = ()) -> None:
        """Continue after the recorded ``operations``, oldest first."""
        self.operations = list(operations)
        self._context = context
        self._render = EventRenderer(context)

    def stack_created(self, time: int, *, long: bool = False) -> NewEvent:
        """The creation of the stack; ``long`` if its short name is taken."""
        return self._render.stack_created(time, long=long)

    @property
    def last(self) -> Operation | None:
        """The operation that started last."""
        return self.operations[-1] if self.operations else None

    def map_events(self, events: Sequence[StackEvent]) -> list[NewEvent]:
        """Map events, oldest first; raises InvalidEvent."""
        mapped: list[NewEvent] = []
        for place, event in enumerate(events):
            mapped += self._map(event, islice(events, place + 1, None))
        for new in mapped:
            check_event(new)
        return mapped

    def _map(self, event: StackEvent, later: Iterable[StackEvent]) -> list[NewEvent]:
        time = time_of(event)
        if event.hook_status is not None and event.resource_status != _REVIEW:
            return self._map_hook(event, time)
        if event.is_stack_itself and event.stack_id == self._context.arn:
            return self._map_own(event, time, later)
        before, operation = self._operation_at(event, time)
        note(operation, event)
        return [*before, self._map_resource(event, time, operation)]

    def _map_hook(self, event: StackEvent, time: int) -> list[NewEvent]:
        """A hook's event has the status of its target, which starts nothing."""
        before, operation = self._operation_at(event, time)
        note(operation, event)
        type = "deployment.error" if event.is_failed_hook else "deployment.log"
        return [*before, self._render.stack_event(type, event, time, operation)]

    def _map_own(self, event: StackEvent, time: int, later: Iterable[StackEvent]) -> list[NewEvent]:
        status = event.resource_status
        if status == _REVIEW:
            return [self._render.stack_event("deployment.log", event, time, None)]
        if cleaned := self._cleaned_up(event, time):
            return self._clean_up(event, time, cleaned)
        verb = self._verb(status, time)
        if verb is not None and not self._repeats_start(event, time, verb):
            return self._start(event, time, verb, later)
        before, operation = self._operation_at(event, time, verb=_VERB_BY_END.get(status))
        end = self._end_type(status, operation)
        note(operation, event)
        if end is None or (status in OPEN_FAILURES and self._continues(later, time)):
            return [*before, self._render.stack_event("deployment.log", event, time, operation)]
        verb = operation.verb or _VERB_BY_END.get(status)
        reason = operation.failure if end == "deployment.failed" else None
        ended = self._render.stack_event(end, event, time, operation, reason=reason, operation=verb)
        end_operation(operation, ended)
        superseded = self._supersede(self._before(operation.started - 1), time)
        deleted = [self._render.stack_deleted(event, time)] if status == "DELETE_COMPLETE" else []
        return [*before, ended, *superseded, *deleted]

    def _cleaned_up(self, event: StackEvent, time: int) -> Operation | None:
        """The failed creation that this event cleans up after, if any."""
        last = self._before(time)
        if last is None or last.verb != "create" or last.ended is not None:
            return None
        if event.resource_status in _CLEANED:
            return last if last.cleans_up else None
        return last if follows_failure(event) else None

    def _clean_up(self, event: StackEvent, time: int, created: Operation) -> list[NewEvent]:
        note(created, event)
        if event.resource_status not in _CLEANED:
            return [self._render.stack_event("deployment.log", event, time, created)]
        ended = self._render.stack_event(
            "deployment.failed", event, time, created, reason=created.failure, operation="create"
        )
        end_operation(created, ended)
        is_gone = event.resource_status == "DELETE_COMPLETE"
        return [ended, *([self._render.stack_deleted(event, time)] if is_gone else [])]

    def _verb(self, status: str, time: int) -> str | None:
        """The verb of the operation that this status of the stack starts, if any."""
        if status not in _ROLLBACKS:
            return _VERB_BY_START.get(status)
        last = self._before(time)
        continues = last is not None and (last.ended is None or time - last.ended <= PROXIMITY)
        return None if continues else "rollback"

    def _repeats_start(self, event: StackEvent, time: int, verb: str) -> bool:
        """Whether this repeats the start of the running operation, such as when its resources are
        configured or a hook checks them.
        """
        if event.detailed_status is not None:
            return True
        last = self._before(time - MATCH_WINDOW - 1)
        if last is None or last.ended is not None or last.verb != verb:
            return False
        # An event sent on its own may arrive before the end of the previous operation; but a stack
        # is created once.
        if self._context.via is not None and verb != "create":
            return last.token is not None and last.token == event.client_request_token
        return True

    def _end_type(self, status: str, operation: Operation) -> str | None:
        if status in _COMPLETIONS or (status in _ROLLED_BACK and operation.verb == "rollback"):
            return "deployment.completed"
        is_failure = status in _FAILURES or status in _ROLLED_BACK
        return "deployment.failed" if is_failure else None

    def _continues(self, later: Iterable[StackEvent], time: int) -> bool:
        """Whether the stack then rolls back, or is deleted, because of a failure."""
        own = (e for e in later if e.is_stack_itself and e.stack_id == self._context.arn)
        following = next(own, None)
        if following is None:
            return False
        if following.resource_status not in _ROLLBACKS and not follows_failure(following):
            return False
        return time_of(following) - time <= PROXIMITY

    def _start(
        self, event: StackEvent, time: int, verb: str, later: Iterable[StackEvent]
    ) -> list[NewEvent]:
        id = self._context.deployment_id(event)
        operation = self._find(id, time, verb, self._next_start(later))
        before: list[NewEvent] = []
        if operation is None:
            # An event sent on its own may arrive before the end of the previous operation.
            before = self._supersede(self._before(time), time) if self._context.via is None else []
            operation = Operation(id=id, verb=verb, started=time)
            self._add(operation)
        operation.verb = verb
        operation.token = operation.token or event.client_request_token
        operation.started = min(operation.started, time)
        details = {"stack": self._context.name, "tool": TOOL, "operation": verb}
        return [
            *before,
            self._render.stack_event("deployment.started", event, time, operation, **details),
        ]

    def _next_start(self, later: Iterable[StackEvent]) -> int | None:
        own = (e for e in later if e.is_stack_itself and e.stack_id == self._context.arn)
        return next((time_of(e) for e in own if e.resource_status in _VERB_BY_START), None)

    def _find(self, id: str, time: int, verb: str, next_: int | None) -> Operation | None:
        """Find the operation by its id, or by its start. ``next_`` is the start of the next one."""
        for operation in self.operations:
            if operation.id == id:
                return operation
        for operation in self.operations:
            is_over = operation.ended is not None and operation.ended <= time
            if not is_over and self._matches(operation, time, verb, next_):
                return operation
        return None

    def _matches(self, operation: Operation, time: int, verb: str, next_: int | None) -> bool:
        if operation.verb is not None:
            is_near = abs(operation.started - time) <= MATCH_WINDOW or verb == "create"
            return operation.verb == verb and is_near
        # Its start is missing: it is the last one before its first known event.
        return operation.started >= time - PROXIMITY and (
            next_ is None or operation.started < next_
        )

    def _supersede(self, earlier: Operation | None, time: int) -> list[NewEvent]:
        """End the running operation: CloudFormation reports no end when a stack is deleted during
        its creation.
        """
        if earlier is None or earlier.ended is not None:
            return []
        ended = self._render.event(
            "deployment.failed",
            f"{earlier.id}/superseded",
            time,
            earlier,
            subject=self._context.name,
            message=earlier.failure
            or "CloudFormation began another operation before this one ended",
            data={"operation": earlier.verb},
        )
        end_operation(earlier, ended)
        return [ended]

    def _operation_at(
        self, event: StackEvent, time: int, *, verb: str | None = None
    ) -> tuple[list[NewEvent], Operation]:
        """Return the operation of the event, and events that must precede it; ``verb`` if known."""
        # EventBridge truncates to seconds: the event may have happened at the end of this one.
        latest = time + SECOND - 1 if event.event_id.startswith(EVENTBRIDGE_PREFIX) else time
        operation = self._before(latest) or self._upcoming(time)
        if operation is not None and self._fits(operation, time, verb):
            return [], operation
        # Its start is missing, or arrives later and then becomes this one's.
        id = self._context.deployment_id(event)
        opened = Operation(id=id, verb=None, started=time)
        self._add(opened)
        started = self._render.event(
            "deployment.started",
            f"{event.event_id}/started",
            time,
            opened,
            subject=self._context.name,
            message=f"Deployment of {self._context.name} seen",
            data={"stack": self._context.name, "tool": TOOL},
        )
        return [started], opened

    def _fits(self, operation: Operation, time: int, verb: str | None) -> bool:
        is_there = operation.ended is None or time - operation.ended <= PROXIMITY
        return is_there and (verb is None or operation.verb in (verb, None))

    def _before(self, time: int) -> Operation | None:
        return next((o for o in reversed(self.operations) if o.started <= time), None)

    def _upcoming(self, time: int) -> Operation | None:
        """The first operation, if it starts shortly after ``time``."""
        first = self.operations[0] if self.operations else None
        return first if first is not None and first.started - time <= PROXIMITY else None

    def _add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self.operations.sort(key=lambda each: each.started)

    def _map_resource(self, event: StackEvent, time: int, operation: Operation) -> NewEvent:
        is_own = event.is_stack_itself
        # A nested stack's own events are in its parent's list, too, where they count.
        type = (
            "deployment.log"
            if is_own
            else TYPE_BY_STATUS.get(event.resource_status, "deployment.log")
        )
        return self._render.stack_event(type, event, time, operation)
