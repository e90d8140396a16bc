"""The operations of the Bluelink API: those of the Deploy Engine that the log serves."""

from functools import partial
from typing import Any, Required, TypedDict

from deploylog.api.api import Resource
from deploylog.api.bluelink.endpoints import Changesets, Cleanups, Health, Instances, has_no_query
from deploylog.api.bluelink.paths import (
    CHANGES,
    CHANGES_STREAM,
    EVENTS,
    HEALTH,
    INSTANCES,
    RECONCILIATION_RESULTS,
    VALIDATIONS,
)
from deploylog.api.bluelink.settings import BluelinkSettings
from deploylog.api.operation import Body, Operation, Parameter, path_parameter


class BluelinkError(TypedDict, total=False):
    """An error."""

    message: Required[str]
    errors: list[dict[str, Any]]
    validationDiagnostics: list[dict[str, Any]]


class BluelinkHealth(TypedDict):
    """The service is healthy."""

    timestamp: int


class BluelinkChangeset(TypedDict, total=False):
    """A change set; times in seconds."""

    id: Required[str]
    instanceId: str
    destroy: Required[bool]
    status: Required[str]
    blueprintLocation: Required[str]
    changes: Required[dict[str, Any]]
    created: Required[int]


class BluelinkAccepted(TypedDict):
    """A change set that will be staged."""

    data: BluelinkChangeset


class BluelinkPlan(TypedDict, total=False):
    """The plan file and its target. The engine's other fields are accepted."""

    fileSourceScheme: str
    directory: str
    blueprintFile: str
    instanceId: str
    instanceName: str
    destroy: bool
    skipDriftCheck: bool


class BluelinkSummary(TypedDict, total=False):
    """An instance in a list."""

    id: Required[str]
    name: Required[str]
    status: Required[int]
    lastDeployedTimestamp: int


class BluelinkInstances(TypedDict):
    """A page of instances."""

    instances: list[BluelinkSummary]
    totalCount: int


class BluelinkInstance(TypedDict, total=False):
    """An instance's state; times in seconds."""

    id: Required[str]
    name: Required[str]
    status: Required[int]
    lastStatusUpdateTimestamp: int
    lastDeployedTimestamp: int
    lastDeployAttemptTimestamp: int
    resourceIds: dict[str, str]
    resources: dict[str, dict[str, Any]]
    links: dict[str, Any]
    metadata: dict[str, Any]
    exports: dict[str, dict[str, Any]]
    childBlueprints: dict[str, Any]
    durations: dict[str, Any]
    version: int


class BluelinkCleanup(TypedDict, total=False):
    """A cleanup operation; times in seconds."""

    id: Required[str]
    cleanupType: Required[str]
    status: Required[str]
    startedAt: Required[int]
    endedAt: int
    itemsDeleted: Required[int]
    errorMessage: str
    thresholdDate: Required[int]


class BluelinkCleanupStarted(TypedDict):
    """A cleanup operation that has started."""

    data: BluelinkCleanup


ERROR = Body(help="The message, and the engine's details.", type=BluelinkError)

_CHANGESET = path_parameter("id", "The change set's id.")

_INSTANCE = path_parameter("id", "The instance's id, or its name.")

_LAST_EVENT_ID = Parameter(
    name="Last-Event-ID", help="Start after the event with this id.", place="header"
)

_STREAM = (Body(help="A stream that ends with its last event.", media="text/event-stream"),)


def _cleanups(name: str, path: str, kind: str) -> Resource[BluelinkSettings, Cleanups]:
    """Cleanups of a ``kind`` of ``events.retention``."""
    return Resource(
        endpoints=partial(Cleanups, kind=kind),
        operations=(
            Operation(
                id=f"bluelinkCleanUp{name}",
                method="POST",
                path=f"{path}/cleanup",
                endpoint=Cleanups.start,
                summary="Start a cleanup: delete what is older than its retention period",
                tag="bluelink",
                answers=(
                    Body(
                        help="data: the cleanup operation.", status=202, type=BluelinkCleanupStarted
                    ),
                ),
            ),
            Operation(
                id=f"bluelinkGetCleanup{name}",
                method="GET",
                path=f"{path}/cleanup/{{id}}",
                endpoint=Cleanups.get,
                summary="Get a cleanup operation",
                tag="bluelink",
                parameters=(path_parameter("id", "The cleanup operation's id."),),
                answers=(Body(help="The cleanup operation.", type=BluelinkCleanup),),
            ),
        ),
    )


RESOURCES = (
    Resource(
        endpoints=Health,
        operations=(
            Operation(
                id="bluelinkGetHealth",
                method="GET",
                path=HEALTH,
                endpoint=Health.get,
                is_open=has_no_query,
                summary="Check the health of the service; requires no credentials",
                tag="bluelink",
                answers=(Body(help="The time of the check.", type=BluelinkHealth),),
            ),
        ),
    ),
    Resource(
        endpoints=Changesets,
        operations=(
            Operation(
                id="bluelinkCreateChangeset",
                method="POST",
                path=CHANGES,
                endpoint=Changesets.stage,
                summary="Stage the changes of a plan file",
                tag="bluelink",
                request=(Body(help="The plan file and its target.", type=BluelinkPlan),),
                answers=(Body(help="data: the change set.", status=202, type=BluelinkAccepted),),
            ),
            Operation(
                id="bluelinkGetChangeset",
                method="GET",
                path=f"{CHANGES}/{{id}}",
                endpoint=Changesets.get,
                summary="Get a change set with all its changes",
                tag="bluelink",
                parameters=(_CHANGESET,),
                answers=(Body(help="The change set.", type=BluelinkChangeset),),
            ),
            Operation(
                id="bluelinkGetChangesetCleanup",
                method="GET",
                path=f"{CHANGES}/cleanup",
                endpoint=Changesets.get,
                summary="Get the change set with the id cleanup: always 404",
                tag="bluelink",
            ),
            Operation(
                id="bluelinkStreamChangeset",
                method="GET",
                path=CHANGES_STREAM,
                endpoint=Changesets.stream,
                summary="Follow a change set until it is staged, as Server-Sent Events",
                tag="bluelink",
                parameters=(_CHANGESET, _LAST_EVENT_ID),
                answers=_STREAM,
            ),
        ),
    ),
    Resource(
        endpoints=Instances,
        operations=(
            Operation(
                id="bluelinkListInstances",
                method="GET",
                path=INSTANCES,
                endpoint=Instances.list,
                summary="List instances (stacks)",
                tag="bluelink",
                parameters=(
                    Parameter(name="search", help="Only instances whose name contains this text."),
                    Parameter(name="offset", help="Instances to skip."),
                    Parameter(name="limit", help="Maximum number of instances; 0 returns all."),
                ),
                answers=(Body(help="instances and totalCount.", type=BluelinkInstances),),
            ),
            Operation(
                id="bluelinkGetInstance",
                method="GET",
                path=f"{INSTANCES}/{{id}}",
                endpoint=Instances.get,
                summary="Get an instance with its resources and exports",
                tag="bluelink",
                parameters=(_INSTANCE,),
                answers=(Body(help="The instance's state.", type=BluelinkInstance),),
            ),
            Operation(
                id="bluelinkGetExports",
                method="GET",
                path=f"{INSTANCES}/{{id}}/exports",
                endpoint=Instances.exports,
                summary="Get an instance's exports",
                tag="bluelink",
                parameters=(_INSTANCE,),
                answers=(Body(help="Exports by name.", type=dict[str, dict[str, Any]]),),
            ),
            Operation(
                id="bluelinkStreamInstance",
                method="GET",
                path=f"{INSTANCES}/{{id}}/stream",
                endpoint=Instances.stream,
                summary="Follow an instance's deployment to its end, as Server-Sent Events",
                tag="bluelink",
                parameters=(_INSTANCE, _LAST_EVENT_ID),
                answers=_STREAM,
            ),
        ),
    ),
    _cleanups("Changesets", CHANGES, "changesets"),
    _cleanups("ReconciliationResults", RECONCILIATION_RESULTS, "reconciliation_results"),
    _cleanups("Events", EVENTS, "events"),
    _cleanups("Validations", VALIDATIONS, "validations"),
)
