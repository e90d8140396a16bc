"""The operations of Bluelink's Deploy Engine that are there, described."""

from deploylog.dialects.operations import Body, Operation, Parameter, path_parameter

_ERROR = Body(help="message, and what else the engine says.")

_CHANGESET = path_parameter("id", "The change set's id.")

_INSTANCE = path_parameter("id", "The instance's id, or its name.")

_LAST_EVENT_ID = Parameter(
    name="Last-Event-ID", help="Begin after the event with this id.", place="header"
)

_STREAM = (Body(help="A stream that ends with its last event.", media="text/event-stream"),)


def _cleanups(name: str, base: str) -> tuple[Operation, Operation]:
    return (
        Operation(
            id=f"bluelinkCleanUp{name}",
            method="POST",
            path=f"{base}/cleanup",
            summary="Begin to forget what is old",
            tag="bluelink",
            answers=(Body(help="data: the cleanup operation.", status=202),),
            error=_ERROR,
        ),
        Operation(
            id=f"bluelinkGetCleanup{name}",
            method="GET",
            path=f"{base}/cleanup/{{id}}",
            summary="How far a cleanup is",
            tag="bluelink",
            parameters=(path_parameter("id", "The cleanup operation's id."),),
            answers=(Body(help="The cleanup operation."),),
            error=_ERROR,
        ),
    )


OPERATIONS = (
    Operation(
        id="bluelinkGetHealth",
        method="GET",
        path="/v1/health",
        summary="Whether the service is up; without credentials",
        tag="bluelink",
        answers=(Body(help="timestamp."),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkCreateChangeset",
        method="POST",
        path="/v1/deployments/changes",
        summary="Stage the changes of a plan file",
        tag="bluelink",
        request=(Body(help="Where the plan is, and what for."),),
        answers=(Body(help="data: the change set.", status=202),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetChangeset",
        method="GET",
        path="/v1/deployments/changes/{id}",
        summary="Get a change set with all its changes",
        tag="bluelink",
        parameters=(_CHANGESET,),
        answers=(Body(help="The change set."),),
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
        answers=(Body(help="instances and totalCount."),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetInstance",
        method="GET",
        path="/v1/deployments/instances/{id}",
        summary="Get an instance with its resources and exports",
        tag="bluelink",
        parameters=(_INSTANCE,),
        answers=(Body(help="The instance's state."),),
        error=_ERROR,
    ),
    Operation(
        id="bluelinkGetExports",
        method="GET",
        path="/v1/deployments/instances/{id}/exports",
        summary="Get an instance's exports",
        tag="bluelink",
        parameters=(_INSTANCE,),
        answers=(Body(help="Exports by name."),),
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
