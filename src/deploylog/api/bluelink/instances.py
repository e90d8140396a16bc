"""Instances: a stack's deployments, resources and outputs as Bluelink shows them at rest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from deploylog.api.bluelink.resources import ResourceRecord, render_state, without_nulls
from deploylog.api.bluelink.truncation import Json
from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment, Stack, deployment_ref
from deploylog.deployments.catalog import Status as DeploymentStatus
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS, ends_deployment
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.times import MILLISECOND, SECOND

Kind = Literal["deploy", "update", "destroy"]

FINISHES = Filter(all_of=(any_of("type", tuple(DEPLOYMENT_ENDS)),))

OUTPUTS = Filter(all_of=(any_of("type", ("deployment.outputs",)),))

# Statuses, by their numbers on the wire.

NOT_DEPLOYED = 19

STATUSES: dict[Kind, dict[DeploymentStatus, int]] = {
    "deploy": {"running": 1, "completed": 2, "failed": 3},
    "update": {"running": 13, "completed": 14, "failed": 15},
    "destroy": {"running": 7, "completed": 8, "failed": 9},
}


# Deployments


class Run(msgspec.Struct, frozen=True):
    """A mutating deployment, and what it does to the instance."""

    kind: Kind
    deployment: Deployment

    @property
    def status(self) -> int:
        """The instance's status during or after this deployment."""
        return STATUSES[self.kind][self.deployment.status]


class History:
    """The mutating deployments of a stack, oldest first."""

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        """``deployments`` are all of the stack's, last started first."""
        self.runs: list[Run] = []
        #: Whether the next deployment would update something that is already deployed.
        self.deployed = False
        for deployment in reversed(deployments):
            if is_mutating(deployment):
                self._add(deployment)
        #: The operation of every deployment, by id; ``None`` while no event has named it.
        self.operations = {each.id: each.operation for each in deployments}

    def _add(self, deployment: Deployment) -> None:
        kind = self.kind_of(deployment.operation)
        self.runs.append(Run(kind, deployment))
        if deployment.status == "completed":
            self.deployed = kind != "destroy"

    def kind_of(self, operation: str | None) -> Kind:
        """The kind of the next deployment, given its operation."""
        if operation == "destroy":
            return "destroy"
        return "update" if self.deployed else "deploy"

    @property
    def last(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def status(self) -> int:
        return self.last.status if self.last else NOT_DEPLOYED

    @property
    def deployed_at(self) -> int | None:
        """When the last deployment completed, in s since 1970; ``None`` if none did."""
        ends = [run.deployment.ended for run in self.runs if run.deployment.status == "completed"]
        return ends[-1] // SECOND if ends and ends[-1] is not None else None


def is_mutating(deployment: Deployment) -> bool:
    """Whether the deployment may change anything."""
    return deployment.operation not in NON_MUTATING_OPERATIONS


def is_mutating_event(event: Event, operations: Mapping[str, str | None]) -> bool:
    """Whether the event belongs to a mutating deployment, given operations by deployment id."""
    operation = operations.get(deployment_id(event))
    # As in the catalog: the end event names the operation if no earlier event did.
    if operation is None and ends_deployment(event.type):
        operation = operation_of(event)
    return operation not in NON_MUTATING_OPERATIONS


def deployment_id(event: Event) -> str:
    """The id of the deployment that the event belongs to; empty if it belongs to none."""
    ref = deployment_ref(event.scopes)
    return ref.deployment_id or "" if ref else ""


class _OperationData(msgspec.Struct, frozen=True):
    operation: str | None = None


def operation_of(event: Event) -> str | None:
    """The operation that the event's data names."""
    try:
        data = event.data if event.data is not None else b"{}"
        return msgspec.json.decode(data, type=_OperationData).operation
    except (msgspec.DecodeError, RecursionError):
        return None


# Instances


def render_summary(stack: Stack, history: History) -> Json:
    """``InstanceSummary``."""
    return {
        "id": stack.id,
        "name": stack.name,
        "status": history.status,
        **without_nulls(lastDeployedTimestamp=history.deployed_at),
    }


def render_instance(
    stack: Stack, history: History, resources: Iterable[ResourceRecord], exports: Json
) -> Json:
    """``InstanceState``."""
    by_id = _by_id(resources)
    last = history.last.deployment if history.last else None
    started = last.started if last else stack.created
    ended = last.ended if last else None
    return {
        "id": stack.id,
        "name": stack.name,
        "status": history.status,
        "lastStatusUpdateTimestamp": (started if ended is None else ended) // SECOND,
        **without_nulls(
            lastDeployedTimestamp=history.deployed_at,
            lastDeployAttemptTimestamp=last.started // SECOND if last else None,
        ),
        "resourceIds": {each.name: id for id, each in by_id.items()},
        "resources": {id: _render_resource(id, each, stack.id) for id, each in by_id.items()},
        "links": {},
        "metadata": {},
        "exports": exports,
        "childBlueprints": {},
        **render_durations(max(ended - started, 0) if ended is not None else None),
        "version": len(history.runs),
    }


def render_durations(elapsed: int | None) -> Json:
    """The durations of a deployment (ns in, floating ms out, as in the engine)."""
    return {"durations": {"totalDuration": elapsed / MILLISECOND}} if elapsed is not None else {}


def _by_id(resources: Iterable[ResourceRecord]) -> dict[str, ResourceRecord]:
    """Resources by a unique id: a bucket and its policy, for example, share one."""
    by_id: dict[str, ResourceRecord] = {}
    for each in resources:
        id = each.id or each.name
        by_id[each.name if id in by_id else id] = each
    return by_id


def _render_resource(id: str, record: ResourceRecord, instance_id: str) -> Json:
    return {
        "id": id,
        "name": record.name,
        "type": record.type,
        "instanceId": instance_id,
        **render_state(record),
    }


# Exports


class _Output(msgspec.Struct, frozen=True):
    value: object = None
    type: object = None
    sensitive: bool = False


class _Outputs(msgspec.Struct, frozen=True):
    outputs: dict[str, _Output] = {}


#: The blueprint's types, by Terraform's.
_TYPES = {"bool": "boolean", "number": "float", "string": "string"}
_CONTAINERS = {"list": "array", "set": "array", "tuple": "array", "map": "object"}


def render_exports(event: Event | None) -> Json:
    """``ExportState`` by name, from the event that records a deployment's outputs."""
    try:
        data = msgspec.json.decode(event.data if event and event.data else b"{}", type=_Outputs)
    except (msgspec.DecodeError, RecursionError):
        data = _Outputs()
    return {
        name: {
            "value": None if output.sensitive else output.value,
            "type": _type(output),
            "field": f"outputs.{name}",
        }
        for name, output in data.outputs.items()
    }


def _type(output: _Output) -> str:
    if output.type == "number" and isinstance(output.value, int):
        return "integer"
    if isinstance(output.type, list) and output.type:
        return _CONTAINERS.get(str(output.type[0]), "object")
    return _TYPES.get(str(output.type), "string")
