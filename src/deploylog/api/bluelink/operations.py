"""The operations of Bluelink's Deploy Engine that are there, described."""

from typing import Any, Required, TypedDict

from deploylog.api.operation import Body, Operation, Parameter, path_parameter


class BluelinkError(TypedDict, total=False):
    """What went wrong."""

    message: Required[str]
    errors: list[dict[str, Any]]
    validationDiagnostics: list[dict[str, Any]]


class BluelinkHealth(TypedDict):
    """That the service is up."""

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
    """A change set that is about to be staged."""

    data: BluelinkChangeset


class BluelinkPlan(TypedDict, total=False):
    """Where the plan is, and what for; other fields of the engine are accepted."""

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
    """A cleanup operation that begins."""

    data: BluelinkCleanup


_ERROR = Body(help="message, and what else the engine says.", type=BluelinkError)

_CHANGESET = path_parameter("id", "The change set's id.")

_INSTANCE = path_parameter("id", "The instance's id, or its name.")

_LAST_EVENT_ID = Parameter(
    name="Last-Event-ID", help="Begin after the event with this id.", place="header"
)

_STREAM = (Body(help="A stream that ends with its last event.", media="text/event-stream"),)


def _cleanups(name: str, base: str) -> tuple[Operation[Any], Operation[Any]]:
    return (
        Operation(
            id=f"bluelinkCleanUp{name}",
            method="POST",
            path=f"{base}/cleanup",
            summary="Begin to forget what is old",
            tag="bluelink",
            answers=(
                Body(help="data: the cleanup operation.", status=202, type=BluelinkCleanupStarted),
            ),
            error=_ERROR,
        ),
        Operation(
            id=f"bluelinkGetCleanup{name}",
            method="GET",
            path=f"{base}/cleanup/{{id}}",
            summary="How far a cleanup is",
            tag="bluelink",
            parameters=(path_parameter("id", "The cleanup operation's id."),),
            answers=(Body(help="The cleanup operation.", type=BluelinkCleanup),),
            error=_ERROR,
        ),
    )


OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(
        id="bluelinkGetHealth",
        method="GET",
        path="/v1/health",
        summary="Whether the service is up; without credentials",
        tag="bluelink",
        answers=(Body(help="timestamp.", type=BluelinkHealth),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkCreateChangeset",
        method="POST",
        path="/v1/deployments/changes",
        summary="Stage the changes of a plan file",
        tag="bluelink",
        request=(Body(help="Where the plan is, and what for.", type=BluelinkPlan),),
        answers=(Body(help="data: the change set.", status=202, type=BluelinkAccepted),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetChangeset",
        method="GET",
        path="/v1/deployments/changes/{id}",
        summary="Get a change set with all its changes",
        tag="bluelink",
        parameters=(_CHANGESET,),
        answers=(Body(help="The change set.", type=BluelinkChangeset),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetChangesetCleanup",
        method="GET",
        path="/v1/deployments/changes/cleanup",
        summary="Get the change set whose id is cleanup: there is none",
        tag="bluelink",
        error=_ERROR,
    ),
    Operation(
        id="bluelinkStreamChangeset",
        method="GET",
        path="/v1/deployments/changes/{id}/stream",
        summary="Follow a change set until it is staged, as Server-Sent Events",
        tag="bluelink",
        parameters=(_CHANGESET, _LAST_EVENT_ID),
        answers=_STREAM,
        error=_ERROR,
    ),
    Operation(
        id="bluelinkListInstances",
        method="GET",
        path="/v1/deployments/instances",
        summary="List instances: the stacks",
        tag="bluelink",
        parameters=(
            Parameter(name="search", help="Only those whose name holds this."),
            Parameter(name="offset", help="So many are left out first."),
            Parameter(name="limit", help="Most to answer; 0 is all."),
        ),
        answers=(Body(help="instances and totalCount.", type=BluelinkInstances),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetInstance",
        method="GET",
        path="/v1/deployments/instances/{id}",
        summary="Get an instance with its resources and exports",
        tag="bluelink",
        parameters=(_INSTANCE,),
        answers=(Body(help="The instance's state.", type=BluelinkInstance),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetExports",
        method="GET",
        path="/v1/deployments/instances/{id}/exports",
        summary="Get an instance's exports",
        tag="bluelink",
        parameters=(_INSTANCE,),
        answers=(Body(help="Exports by name.", type=dict[str, dict[str, Any]]),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkStreamInstance",
        method="GET",
        path="/v1/deployments/instances/{id}/stream",
        summary="Follow an instance's deployment to its end, as Server-Sent Events",
        tag="bluelink",
        parameters=(_INSTANCE, _LAST_EVENT_ID),
        answers=_STREAM,
        error=_ERROR,
    ),
    *_cleanups("Changesets", "/v1/deployments/changes"),
    *_cleanups("ReconciliationResults", "/v1/deployments/reconciliation-results"),
    *_cleanups("Events", "/v1/events"),
    *_cleanups("Validations", "/v1/validations"),
)
