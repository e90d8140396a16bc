"""Instances: a stack's deployments as Bluelink tells of them, at rest and live."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from deploylog.api.bluelink.truncation import Json, no_forms, render_fitting_frame, render_json
from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment, Stack, deployment_ref
from deploylog.deployments.catalog import Status as DeploymentStatus
from deploylog.deployments.lifecycle import (
    DEPLOYMENT_ENDS,
    DEPLOYMENT_LIFECYCLE,
    DEPLOYMENT_STARTED,
    ends_deployment,
)
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.times import MILLISECOND, SECOND

Kind = Literal["deploy", "update", "destroy"]

_ACTIONS = ("create", "update", "delete")

_PHASES = ("started", "completed", "failed")

FINISHES = Filter(all_of=(any_of("type", tuple(DEPLOYMENT_ENDS)),))

_RESOURCE_TYPES = tuple(f"resource.{action}.{phase}" for action in _ACTIONS for phase in _PHASES)

RESOURCES = Filter(all_of=(any_of("type", _RESOURCE_TYPES),))

OUTPUTS = Filter(all_of=(any_of("type", ("deployment.outputs",)),))

CHANNEL = Filter(all_of=(any_of("type", (*DEPLOYMENT_LIFECYCLE, *_RESOURCE_TYPES)),))

# Statuses, by their numbers on the wire.

NOT_DEPLOYED = 19

_STATUSES: dict[Kind, dict[DeploymentStatus, int]] = {
    "deploy": {"running": 1, "completed": 2, "failed": 3},
    "update": {"running": 13, "completed": 14, "failed": 15},
    "destroy": {"running": 7, "completed": 8, "failed": 9},
}

#: How a deployment begins: PREPARING when it is the first.
_BEGINNINGS: dict[Kind, int] = {"deploy": 0, "update": 13, "destroy": 7}

#: Status and precise status of a resource.
_RESOURCE_STATUSES: dict[tuple[str, str], tuple[int, int]] = {
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


# Deployments


class Run(msgspec.Struct, frozen=True):
    """A deployment that counts, and what it does to the instance."""

    kind: Kind
    deployment: Deployment

    @property
    def status(self) -> int:
        """The instance's status, as far as this deployment went."""
        return _STATUSES[self.kind][self.deployment.status]


class History:
    """The deployments of a stack that count, oldest first."""

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        """``deployments`` are those of the stack, last started first."""
        self.runs: list[Run] = []
        #: Whether there is something that the next deployment would update.
        self.deployed = False
        for deployment in reversed(deployments):
            if not is_idle(deployment):
                self._add(deployment)
        #: What each deployment is, as far as anybody said.
        self.operations = {each.id: each.operation for each in deployments}

    def _add(self, deployment: Deployment) -> None:
        kind = self.kind_of(deployment.operation)
        self.runs.append(Run(kind, deployment))
        if deployment.status == "completed":
            self.deployed = kind != "destroy"

    def kind_of(self, operation: str | None) -> Kind:
        """What the next deployment is if this is its operation."""
        if operation == "destroy":
            return "destroy"
        return "update" if self.deployed else "deploy"

    @property
    def last(self) -> Run | None:
        """The newest."""
        return self.runs[-1] if self.runs else None

    @property
    def status(self) -> int:
        """The instance's status."""
        return self.last.status if self.last else NOT_DEPLOYED

    @property
    def deployed_at(self) -> int | None:
        """When the last deployment completed, in s since 1970; ``None`` for never."""
        ends = [run.deployment.ended for run in self.runs if run.deployment.status == "completed"]
        return ends[-1] // SECOND if ends and ends[-1] is not None else None


def is_idle(deployment: Deployment) -> bool:
    """Whether it deploys nothing."""
    return deployment.operation in NON_MUTATING_OPERATIONS


# Resources


class ResourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the events tell of a resource. Times in s since 1970."""

    name: str
    id: str | None
    type: str
    status: tuple[int, int]
    updated: int
    attempted: int
    #: ``None`` if it never was.
    deployed: int | None
    reasons: tuple[str, ...]
    #: ns.
    elapsed: int | None
    #: The action that is under way, and when it started, in ns since 1970.
    began: "Began | None" = None


#: An action, and when it started, in ns since 1970.
Began = tuple[str, int]


#: Resources by name, as far as the events tell of them.
Records = Mapping[str, ResourceRecord]

NO_RECORDS: Records = MappingProxyType({})


def fold(
    records: Mapping[str, ResourceRecord], events: Iterable[Event]
) -> dict[str, ResourceRecord]:
    """The resources by name after ``events``, oldest first; those deleted are left out."""
    folded = dict(records)
    for event in events:
        name = _resource_name(event)
        before = folded.get(name)
        if _is_deposed(event, before.id if before else None):
            continue
        if event.type == "resource.delete.completed":
            folded.pop(name, None)
        else:
            folded[name] = _record(event, name, before)
    return folded


def _is_deposed(event: Event, known_id: str | None) -> bool:
    """Whether the event deletes an object that another has taken the place of."""
    id = _id_value(event)
    return event.action == "delete" and None not in (id, known_id) and id != known_id


def _newest_id(event: Event, known_id: str | None) -> str | None:
    """The id of the newest object of the event's name."""
    return _id_value(event) or (None if event.action == "create" else known_id)


def _record(event: Event, name: str, before: ResourceRecord | None) -> ResourceRecord:
    now = event.time // SECOND
    began = before.began if before else None
    deployed = before.deployed if before else None
    attempted = before.attempted if before else now
    return ResourceRecord(
        name=name,
        id=_newest_id(event, before.id if before else None),
        type=event.resource.type if event.resource else "",
        status=_resource_status(event),
        updated=now,
        attempted=now if event.phase == "started" else attempted,
        deployed=now if event.phase == "completed" else deployed,
        reasons=_reasons(event),
        elapsed=_elapsed(event, began),
        began=_began(event, began),
    )


def _resource_status(event: NewEvent) -> tuple[int, int]:
    return _RESOURCE_STATUSES[event.action or "", event.phase]


def _resource_name(event: NewEvent) -> str:
    resource = event.resource
    if resource is None:
        return event.subject or ""
    return resource.address or resource.name


def _id_value(event: NewEvent) -> str | None:
    return event.resource.id_value if event.resource else None


def _reasons(event: NewEvent) -> tuple[str, ...]:
    return (event.message,) if event.phase == "failed" and event.message else ()


def _began(event: NewEvent, before: Began | None) -> Began | None:
    """What is under way after the event; a repeated start starts nothing."""
    if event.phase != "started":
        return None
    is_repeated = before is not None and before[0] == event.action
    return before if is_repeated else (event.action or "", event.time)


def _elapsed(event: NewEvent, began: Began | None) -> int | None:
    """How long the event's action took (ns): as it says, or from when the action started."""
    if event.elapsed is not None or event.phase == "started" or began is None:
        return event.elapsed
    action, start = began
    return event.time - start if action == event.action and event.time >= start else None


def _durations(elapsed: int | None) -> Json:
    """So long in all; in floating ms, as the engine has it."""
    return {"durations": {"totalDuration": elapsed / MILLISECOND}} if elapsed is not None else {}


def _resource_durations(elapsed: int | None) -> Json:
    """Likewise of a resource, whose one attempt it was."""
    if elapsed is None:
        return {}
    total = elapsed / MILLISECOND
    return {"durations": {"totalDuration": total, "attemptDurations": [total]}}


def _known(**moments: int | None) -> Json:
    """Those that are known: a client would take 0 for 1970."""
    return {name: moment for name, moment in moments.items() if moment is not None}


# At rest


def render_summary(stack: Stack, history: History) -> Json:
    """``InstanceSummary``."""
    return {
        "id": stack.id,
        "name": stack.name,
        "status": history.status,
        **_known(lastDeployedTimestamp=history.deployed_at),
    }


def render_instance(
    stack: Stack, history: History, resources: Iterable[ResourceRecord], exports: Json
) -> Json:
    """``InstanceState``."""
    by_id = _by_id(resources)
    last = history.last.deployment if history.last else None
    moment = last.started if last else stack.created
    ended = last.ended if last else None
    return {
        "id": stack.id,
        "name": stack.name,
        "status": history.status,
        "lastStatusUpdateTimestamp": (moment if ended is None else ended) // SECOND,
        **_known(
            lastDeployedTimestamp=history.deployed_at,
            lastDeployAttemptTimestamp=last.started // SECOND if last else None,
        ),
        "resourceIds": {each.name: id for id, each in by_id.items()},
        "resources": {id: _render_record(id, each, stack.id) for id, each in by_id.items()},
        "links": {},
        "metadata": {},
        "exports": exports,
        "childBlueprints": {},
        **_durations(max(ended - moment, 0) if ended is not None else None),
        "version": len(history.runs),
    }


def _by_id(resources: Iterable[ResourceRecord]) -> dict[str, ResourceRecord]:
    """By a unique id: a bucket and its policy, say, have the same."""
    by_id: dict[str, ResourceRecord] = {}
    for each in resources:
        id = each.id or each.name
        by_id[each.name if id in by_id else id] = each
    return by_id


def _render_record(id: str, record: ResourceRecord, instance_id: str) -> Json:
    return {
        "id": id,
        "name": record.name,
        "type": record.type,
        "instanceId": instance_id,
        **render_state(record),
    }


def render_state(record: ResourceRecord, attributes: object = None) -> Json:
    """What the events tell of a resource's state, with its attributes."""
    status, precise = record.status
    return {
        "status": status,
        "preciseStatus": precise,
        "lastStatusUpdateTimestamp": record.updated,
        **_known(lastDeployedTimestamp=record.deployed),
        "lastDeployAttemptTimestamp": record.attempted,
        "specData": attributes,
        "failureReasons": list(record.reasons),
        **_resource_durations(record.elapsed),
    }


class _Output(msgspec.Struct, frozen=True):
    value: object = None
    type: object = None
    sensitive: bool = False


class _Outputs(msgspec.Struct, frozen=True):
    outputs: dict[str, _Output] = {}


#: Terraform's kinds of types, and the blueprint's.
_TYPES = {"bool": "boolean", "number": "float", "string": "string"}
_CONTAINERS = {"list": "array", "set": "array", "tuple": "array", "map": "object"}


def render_exports(event: Event | None) -> Json:
    """``ExportState`` by name, of the event that tells a deployment's outputs."""
    try:
        told = msgspec.json.decode(event.data if event and event.data else b"{}", type=_Outputs)
    except (msgspec.DecodeError, RecursionError):
        told = _Outputs()
    return {
        name: {
            "value": None if output.sensitive else output.value,
            "type": _type(output),
            "field": f"outputs.{name}",
        }
        for name, output in told.outputs.items()
    }


def _type(output: _Output) -> str:
    if output.type == "number" and isinstance(output.value, int):
        return "integer"
    if isinstance(output.type, list) and output.type:
        return _CONTAINERS.get(str(output.type[0]), "object")
    return _TYPES.get(str(output.type), "string")


# Live


class Channel:
    """An instance's events as frames; it learns of deployments as they begin."""

    def __init__(
        self, instance_id: str, history: History, resources: Mapping[str, ResourceRecord]
    ) -> None:
        """``history`` is what is known when the stream begins, and ``resources`` what was there
        before its first event: without them the delete of an object that another has taken the
        place of would look like the end of the resource.
        """
        self._instance_id = instance_id
        self._history = history
        self._operations = dict(history.operations)
        self._kinds: dict[str, Kind] = {r.deployment.id: r.kind for r in history.runs}
        self._started = {r.deployment.id: r.deployment.started for r in history.runs}
        runs = (run.deployment for run in history.runs)
        self._running = [each.id for each in runs if each.status == "running"]
        self._ids = {name: each.id for name, each in resources.items()}
        self._began = {name: each.began for name, each in resources.items()}

    @property
    def awaited(self) -> str | None:
        """The deployment that is to finish the stream: the last that began."""
        return self._running[-1] if self._running else None

    def frame(self, event: Event) -> bytes:
        """The event's frame; nothing for what does not count."""
        id = _deployment_id(event)
        if event.type == DEPLOYMENT_STARTED:
            self._learn(id, event)
        if _is_of_idle(event, self._operations):
            self.drop(id)
            return b""
        if event.action is not None and not self._follow(event):
            return b""
        type, data = self._told(event, id)
        return render_fitting_frame(type, event.id, data, no_forms)

    def is_end(self, event: Event) -> bool:
        """Whether the event finishes a deployment that counts."""
        return ends_deployment(event.type) and not _is_of_idle(event, self._operations)

    def drop(self, id: str) -> None:
        """The deployment turned out to deploy nothing."""
        if id in self._running:
            self._running.remove(id)

    def finish(self, deployment: Deployment) -> bytes:
        """The frame that its end would have, of what the catalogue says.

        It has no id: the client comes back for what follows the newest event that it saw.
        """
        known = self._kinds.get(deployment.id) or self._history.kind_of(deployment.operation)
        kind: Kind = "destroy" if deployment.operation == "destroy" else known
        ended = deployment.ended or deployment.started
        data = self._finished(_STATUSES[kind][deployment.status], deployment.started, ended)
        return b"event: finish\ndata: %b\n\n" % render_json(data)

    def _learn(self, id: str, event: Event) -> None:
        if id in self._operations:
            return
        operation = self._operations[id] = _operation(event)
        if operation not in NON_MUTATING_OPERATIONS:
            self._kinds[id] = self._history.kind_of(operation)
            self._started[id] = event.time
            self._running.append(id)

    def _follow(self, event: Event) -> bool:
        """Whether the event is of the newest object of its name, which is known from then on."""
        name = _resource_name(event)
        known_id = self._ids.get(name)
        if _is_deposed(event, known_id):
            return False
        is_gone = event.type == "resource.delete.completed"
        self._ids[name] = None if is_gone else _newest_id(event, known_id)
        return True

    def _told(self, event: Event, id: str) -> tuple[str, Json]:
        """The event's type, and its data."""
        kind = self._kinds.get(id) or self._history.kind_of(None)
        if event.type == DEPLOYMENT_STARTED:
            return "instanceUpdate", self._update(event, kind)
        if event.action is not None:
            return "resource", self._resource(event)
        return "finish", self._finish(event, kind, id)

    def _update(self, event: Event, kind: Kind) -> Json:
        return {
            "instanceId": self._instance_id,
            "status": _BEGINNINGS[kind],
            "updateTimestamp": event.time // SECOND,
        }

    def _resource(self, event: Event) -> Json:
        status, precise = _resource_status(event)
        name = _resource_name(event)
        began = self._began.get(name)
        self._began[name] = _began(event, began)
        return {
            "instanceId": self._instance_id,
            "resourceId": _id_value(event) or name,
            "resourceName": name,
            "group": 0,
            "status": status,
            "preciseStatus": precise,
            **_failure(event),
            "attempt": 1,
            "canRetry": False,
            "updateTimestamp": event.time // SECOND,
            **_resource_durations(_elapsed(event, began)),
        }

    def _finish(self, event: Event, kind: Kind, id: str) -> Json:
        if self._operations.get(id) is None and _operation(event) == "destroy":
            # Nobody had said before what it would be.
            kind = "destroy"
        status = _STATUSES[kind][DEPLOYMENT_ENDS[event.type]]
        told = self._finished(status, self._started.get(id), event.time)
        return {**told, **_failure(event)}

    def _finished(self, status: int, started: int | None, ended: int) -> Json:
        return {
            "instanceId": self._instance_id,
            "status": status,
            "finishTimestamp": ended // SECOND,
            "updateTimestamp": ended // SECOND,
            **_durations(max(ended - started, 0) if started is not None else None),
            "endOfStream": True,
        }


def counts(event: Event, history: History) -> bool:
    """Whether the event is of a deployment that counts."""
    return not _is_of_idle(event, history.operations)


def _is_of_idle(event: Event, operations: Mapping[str, str | None]) -> bool:
    """Whether the event is of a deployment that deploys nothing."""
    operation = operations.get(_deployment_id(event))
    # As the catalogue has it: its end says what it was if nobody did before.
    if operation is None and ends_deployment(event.type):
        operation = _operation(event)
    return operation in NON_MUTATING_OPERATIONS


def _failure(event: Event) -> Json:
    reasons = _reasons(event)
    return {"failureReasons": list(reasons)} if reasons else {}


def _deployment_id(event: Event) -> str:
    place = deployment_ref(event.scopes)
    return place.deployment_id or "" if place else ""


class _Started(msgspec.Struct, frozen=True):
    operation: str | None = None


def _operation(event: Event) -> str | None:
    try:
        data = event.data if event.data is not None else b"{}"
        return msgspec.json.decode(data, type=_Started).operation
    except (msgspec.DecodeError, RecursionError):
        return None
