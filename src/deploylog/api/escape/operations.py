"""The operations of the Escape API."""

from deploylog.api.api import Resource
from deploylog.api.escape.endpoints import EventIntake, EventQueries, ProjectSubscriptions
from deploylog.api.escape.subscriptions import EscapeSubscription
from deploylog.api.escape.wire import MAX_PAGE, EscapeEvent
from deploylog.api.operation import Body, Endpoint, Operation, Parameter, path_parameter

ERROR = Body(help="A message, or an empty body.", media="text/plain")

_QUERY = "/api/v1/events/query/"

_SUBSCRIPTIONS = "/api/v1/events/subscriptions/project/{project}/"

#: Where services create events; the only path that accepts their secret.
CREATE_EVENT = "/internal/create-event"

_PAGING = (
    Parameter(
        name="page_size",
        help=f"Maximum number of events; values above {MAX_PAGE} count as {MAX_PAGE}.",
        schema={"type": "integer", "minimum": 1},
    ),
    Parameter(name="page_from", help="Only events whose id is less than this."),
)

_FILTERS = (
    Parameter(name="inventory_project", help="Only events of this Inventory project."),
    Parameter(name="inventory_application", help="Likewise; needs inventory_project."),
    Parameter(name="inventory_version", help="Likewise; needs inventory_application."),
    Parameter(name="state_project", help="Likewise; ignored with inventory_project."),
    Parameter(name="state_environment", help="Likewise; needs state_project."),
    Parameter(name="state_deployment", help="Likewise; needs state_environment."),
)

_PATH = {
    "project": "The project.",
    "application": "The application.",
    "version": "The version of the release.",
    "environment": "The environment.",
}


def _query(
    id: str,
    path: str,
    endpoint: Endpoint[EventQueries],
    summary: str,
    *parameters: Parameter,
) -> Operation[EventQueries]:
    named = [name for name in _PATH if f"{{{name}}}" in path]
    return Operation(
        id=f"escape{id}",
        method="GET",
        path=_QUERY + path,
        endpoint=endpoint,
        summary=summary,
        tag="escape",
        parameters=(
            *(path_parameter(name, _PATH[name]) for name in named),
            *parameters,
            *_PAGING,
        ),
        answers=(Body(help="A page of events, newest first.", type=list[EscapeEvent]),),
    )


def _create(method: str) -> Operation[EventIntake]:
    return Operation(
        id=f"escapeCreateEvent{method.capitalize()}",
        method=method,
        path=CREATE_EVENT,
        endpoint=EventIntake.create,
        summary="Record an event, or an upload that an Inventory reports",
        tag="escape",
        request=(Body(type=EscapeEvent),),
        answers=(Body(help="The event is on disk.", media=""),),
    )


QUERIES = Resource(
    endpoints=EventQueries,
    operations=(
        _query("Events", "", EventQueries.everything, "List events", *_FILTERS),
        _query("Inventory", "inventory/", EventQueries.inventory, "List events of the Inventory"),
        _query(
            "InventoryProject",
            "inventory/{project}/",
            EventQueries.inventory,
            "List events of a project",
        ),
        _query(
            "Application",
            "inventory/{project}/{application}/",
            EventQueries.inventory,
            "List events of an application",
        ),
        _query(
            "Release",
            "inventory/{project}/{application}/{version}/",
            EventQueries.inventory,
            "List events of a release",
        ),
        _query("State", "project/", EventQueries.state, "List events of the State service"),
        _query(
            "StateProject",
            "project/{project}/",
            EventQueries.state,
            "List events of a project",
        ),
        _query(
            "Environment",
            "project/{project}/{environment}/",
            EventQueries.state,
            "List events of an environment",
        ),
        _query(
            "Deployment",
            "project/{project}/{environment}/deployment",
            EventQueries.deployment,
            "List events of a deployment",
            Parameter(name="deployment", help="The deployment's name.", required=True),
        ),
    ),
)

SUBSCRIPTIONS = Resource(
    endpoints=ProjectSubscriptions,
    operations=(
        Operation(
            id="escapeSubscriptions",
            endpoint=ProjectSubscriptions.list,
            method="GET",
            path=_SUBSCRIPTIONS,
            summary="List the subscriptions of a project by id",
            tag="escape",
            parameters=(path_parameter("project", _PATH["project"]),),
            answers=(Body(help="The subscriptions.", type=dict[str, EscapeSubscription]),),
        ),
        Operation(
            id="escapePutSubscriptions",
            endpoint=ProjectSubscriptions.replace,
            method="PUT",
            path=_SUBSCRIPTIONS,
            summary="Replace the subscriptions of a project",
            tag="escape",
            parameters=(path_parameter("project", _PATH["project"]),),
            request=(Body(type=dict[str, EscapeSubscription]),),
            answers=(Body(help="An empty object.", type=dict[str, EscapeSubscription]),),
        ),
    ),
)

INTAKE = Resource(endpoints=EventIntake, operations=(_create("POST"), _create("PUT")))
