"""Operations on a stack: what was begun, and how it ended, known again from recorded events."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from deploylog.catalogue import place_of
from deploylog.events import NewEvent

#: The types by which operations are known again.
LIFECYCLE = ("deployment.started", "deployment.completed", "deployment.failed")


class Operation(msgspec.Struct, kw_only=True):
    """A create, update or delete of a stack, as far as it is known."""

    #: UUID: the deployment's.
    id: str
    #: ``create``, ``update``, …; ``None`` while its beginning was not told.
    verb: str | None
    #: ns since 1970 (UTC).
    started: int
    ended: int | None = None
    status: Literal["running", "completed", "failed"] = "running"
    message: str | None = None


def operations_of(lifecycle: Iterable[NewEvent]) -> list[Operation]:
    """The operations that recorded events tell of, oldest first; others than those of the types
    in ``LIFECYCLE`` tell of none.
    """
    found: dict[str, Operation] = {}
    # Beginnings first: EventBridge cuts times to the second, and an end may seem to come before.
    for event in sorted(lifecycle, key=lambda event: (event.type != LIFECYCLE[0], event.time)):
        place = place_of(event.scopes)
        if place is None or place.deployment_id is None or event.type not in LIFECYCLE:
            continue
        id = place.deployment_id
        if event.type == "deployment.started":
            found.setdefault(id, Operation(id=id, verb=_verb_in(event), started=event.time))
            found[id].verb = found[id].verb or _verb_in(event)
        elif id in found:
            end_operation(found[id], event)
    return sorted(found.values(), key=lambda operation: operation.started)


class _Said(msgspec.Struct):
    operation: str | None = None


def _verb_in(event: NewEvent) -> str | None:
    try:
        return msgspec.json.decode(event.data or b"{}", type=_Said).operation
    except (msgspec.DecodeError, RecursionError):
        # Anybody who may write the stack may write such an event.
        return None


def end_operation(operation: Operation, event: NewEvent) -> None:
    """Take note of what ends it, if nothing has yet."""
    if operation.ended is None:
        operation.ended = event.time
        operation.status = "completed" if event.type == "deployment.completed" else "failed"
        operation.message = event.message
