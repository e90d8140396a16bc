"""An instance's resources: their latest state, folded from the events of a stack."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from deploylog.api.bluelink.truncation import Json
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.times import MILLISECOND, SECOND

_ACTIONS = ("create", "update", "delete")

_PHASES = ("started", "completed", "failed")

RESOURCE_TYPES = tuple(f"resource.{action}.{phase}" for action in _ACTIONS for phase in _PHASES)

RESOURCES = Filter(all_of=(any_of("type", RESOURCE_TYPES),))

#: Status and precise status of a resource, by their numbers on the wire.
_STATUSES: dict[tuple[str, str], tuple[int, int]] = {
    ("create", "started"): (1, 1),
    ("create", "completed"): (2, 3),
    ("create", "failed"): (3, 4),
    ("update", "started"): (7, 15),
    ("update", "completed"): (8, 17),
    ("update", "failed"): (9, 18),
    ("delete", "started"): (4, 8),
    ("delete", "completed"): (5, 9),
    ("delete", "failed"): (6, 10),
}


#: An action, and when it started, in ns since 1970.
StartedAction = tuple[str, int]


class ResourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The latest state of a resource that the events record. Times in s since 1970."""

    name: str
    id: str | None
    type: str
    status: tuple[int, int]
    updated: int
    attempted: int
    #: ``None`` if it was never deployed.
    deployed: int | None
    reasons: tuple[str, ...]
    #: ns.
    elapsed: int | None
    #: The action in progress.
    in_progress: StartedAction | None = None


#: Resources by name.
Records = Mapping[str, ResourceRecord]

NO_RECORDS: Records = MappingProxyType({})


def fold(records: Records, events: Iterable[Event]) -> dict[str, ResourceRecord]:
    """Apply ``events``, oldest first, to ``records``; deleted resources are removed."""
    folded = dict(records)
    for event in events:
        name = resource_name(event)
        previous = folded.get(name)
        if is_deposed(event, previous.id if previous else None):
            continue
        if event.type == "resource.delete.completed":
            folded.pop(name, None)
        else:
            folded[name] = _record(event, name, previous)
    return folded


def _record(event: Event, name: str, previous: ResourceRecord | None) -> ResourceRecord:
    now = event.time // SECOND
    in_progress = previous.in_progress if previous else None
    deployed = previous.deployed if previous else None
    attempted = previous.attempted if previous else now
    return ResourceRecord(
        name=name,
        id=newest_id(event, previous.id if previous else None),
        type=event.resource.type if event.resource else "",
        status=resource_status(event),
        updated=now,
        attempted=now if event.phase == "started" else attempted,
        deployed=now if event.phase == "completed" else deployed,
        reasons=failure_reasons(event),
        elapsed=elapsed_time(event, in_progress),
        in_progress=action_in_progress(event, in_progress),
    )


def is_deposed(event: Event, known_id: str | None) -> bool:
    """Whether the event deletes an object that a newer one has already replaced."""
    id = id_value(event)
    return event.action == "delete" and None not in (id, known_id) and id != known_id


def newest_id(event: Event, known_id: str | None) -> str | None:
    """The id, after the event, of the newest object that has the event's resource name."""
    return id_value(event) or (None if event.action == "create" else known_id)


def resource_status(event: NewEvent) -> tuple[int, int]:
    """The status and precise status that the event gives its resource."""
    return _STATUSES[event.action or "", event.phase]


def resource_name(event: NewEvent) -> str:
    """The address of the event's resource, or what comes closest."""
    resource = event.resource
    if resource is None:
        return event.subject or ""
    return resource.address or resource.name


def id_value(event: NewEvent) -> str | None:
    """The provider's id of the event's resource, once it has one."""
    return event.resource.id_value if event.resource else None


def failure_reasons(event: NewEvent) -> tuple[str, ...]:
    """The message of a failure; empty for any other event."""
    return (event.message,) if event.phase == "failed" and event.message else ()


def action_in_progress(event: NewEvent, previous: StartedAction | None) -> StartedAction | None:
    """The action in progress after the event; a repeated start keeps the first start's time."""
    if event.phase != "started":
        return None
    is_repeated = previous is not None and previous[0] == event.action
    return previous if is_repeated else (event.action or "", event.time)


def elapsed_time(event: NewEvent, in_progress: StartedAction | None) -> int | None:
    """The duration of the event's action (ns): the event's own, or measured from its start."""
    if event.elapsed is not None or event.phase == "started" or in_progress is None:
        return event.elapsed
    action, start = in_progress
    return event.time - start if action == event.action and event.time >= start else None


# On the wire


def render_state(record: ResourceRecord, attributes: object = None) -> Json:
    """A resource's recorded state, with its attributes as ``specData``."""
    status, precise = record.status
    return {
        "status": status,
        "preciseStatus": precise,
        "lastStatusUpdateTimestamp": record.updated,
        **without_nulls(lastDeployedTimestamp=record.deployed),
        "lastDeployAttemptTimestamp": record.attempted,
        "specData": attributes,
        "failureReasons": list(record.reasons),
        **render_resource_durations(record.elapsed),
    }


def render_resource_durations(elapsed: int | None) -> Json:
    """The durations of a resource (ns in, floating ms out); there is always one attempt."""
    if elapsed is None:
        return {}
    total = elapsed / MILLISECOND
    return {"durations": {"totalDuration": total, "attemptDurations": [total]}}


def without_nulls(**times: int | None) -> Json:
    """The known times: a client would read a missing one, sent as 0, as 1970."""
    return {name: time for name, time in times.items() if time is not None}
