"""The operations of the native API."""

from deploylog.api.api import Resource
from deploylog.api.native.endpoints import Catalog, Changesets, Deployments, Events
from deploylog.api.native.errors import Problem
from deploylog.api.native.ingest.operations import INGEST
from deploylog.api.native.keys.operations import KEYS
from deploylog.api.native.metrics.operations import METRICS
from deploylog.api.native.paths import CHANGESETS, DEPLOYMENTS, EVENTS, STACKS
from deploylog.api.native.plain_event import PlainEvent
from deploylog.api.native.query_string import (
    DEFAULT_BUCKETS,
    DEFAULT_LIMIT,
    DEFAULT_TOP,
    FILTERS,
    MAX_BUCKETS,
    MAX_LIMIT,
    MAX_WAIT_SECONDS,
)
from deploylog.api.native.subscriptions.operations import SUBSCRIPTIONS
from deploylog.api.native.wire import (
    REQUEST_ORIGIN,
    REQUEST_RATE,
    ChangesetBody,
    ChangesetPage,
    DeploymentBody,
    DeploymentPage,
    EventCount,
    EventHistogram,
    EventPage,
    FacetList,
    NewCloudEvent,
    ProjectList,
    Receipts,
    RecordedEvent,
    StackList,
)
from deploylog.api.operation import (
    Body,
    Operation,
    Parameter,
    flag,
    one_of,
    path_parameter,
    repeated,
    whole_number,
)
from deploylog.deployments.changeset import Changes
from deploylog.deployments.service import NewDeployment

ERROR = Body(help="Problem details (RFC 9457).", media="application/problem+json", type=Problem)

_FILTERS = (
    Parameter(name="scope", help="Only events below one of these scopes.", schema=repeated()),
    Parameter(
        name="q", help="Words, and phrases in quotation marks, all of which the event's texts have."
    ),
    *(
        Parameter(name=name, help=f"The event's {field} is one of these.", schema=repeated())
        for name, field in FILTERS.items()
    ),
    Parameter(
        name="not",
        help="No event whose field has this value: FIELD=VALUE, such as type=deployment.log.",
        schema=repeated(),
    ),
    Parameter(
        name="resource",
        help="The address or the id of the event's resource is one of these.",
        schema=repeated(),
    ),
    Parameter(
        name="since",
        help="Only events at or after this time: RFC 3339, or relative such as -15m.",
        example="2h",
    ),
    Parameter(
        name="until", help="Only events before this time: RFC 3339, or relative such as -15m."
    ),
)

_PLAIN_EVENT = {"type": "build.completed", "message": "built 1.4.2", "project": "acme"}

_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "17",
    "source": "/ci",
    "type": "build.completed",
    "time": "2026-11-28T08:12:26Z",
    "scopes": "project/acme",
}

_LINES = '{"type": "build.started", "source": "/ci", "scopes": "project/acme"}\n'

_DEPLOYMENT = {
    "project": "acme",
    "stack": "web",
    "environment": "prod",
    "version": "1.4.2",
    "commits": [{"sha": "9f2c1e7a", "committed": "2026-11-28T08:12:26Z"}],
}

#: Names select events and deployments alike.
_NAMES = (
    Parameter(name="project", help="Only what is of this project."),
    Parameter(
        name="stack", help="Only what is of the stack that has this name now.", schema=repeated()
    ),
    Parameter(name="environment", help="Only what is of this environment.", schema=repeated()),
    Parameter(
        name="deployment",
        help="Only the deployment with this id, or whose id starts so.",
        schema=repeated(),
    ),
    Parameter(
        name="status",
        help="Only deployments with this status: running, completed or failed.",
        schema=repeated(),
    ),
    Parameter(name="version", help="Only deployments of this version.", schema=repeated()),
    Parameter(
        name="commit",
        help="Only deployments of a commit that starts with these digits.",
        schema=repeated(),
    ),
    Parameter(
        name="label", help="Only deployments with this label: NAME=VALUE.", schema=repeated()
    ),
)

_LIMIT = Parameter(
    name="limit", help="Maximum number of items.", schema=whole_number(1, MAX_LIMIT, DEFAULT_LIMIT)
)

_DEPLOYMENT_ID = path_parameter("id", "The deployment's id.")

_CHANGESET_ID = path_parameter("id", "The change set's id.")

_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    help="Identifies the request: a retry with the same key gets the same response.",
    place="header",
)

RESOURCES = (
    Resource(
        endpoints=Events,
        operations=(
            Operation(
                id="appendEvents",
                method="POST",
                path=EVENTS,
                endpoint=Events.append,
                summary="Record events, all or none; responds once they are on disk",
                description="One event as application/json in plain words, or as a CloudEvent; many"
                " CloudEvents as application/x-ndjson, one a line, or as an array with the media"
                " type application/cloudevents-batch+json.",
                tag="events",
                parameters=(
                    Parameter(
                        name="scope", help="Scope of events without scopes.", schema=repeated()
                    ),
                    Parameter(name="deployment", help="Deployment of events without scopes."),
                    Parameter(name="source", help="Source of events without source."),
                    _IDEMPOTENCY_KEY,
                ),
                request=(
                    Body(type=PlainEvent, example=_PLAIN_EVENT),
                    Body(
                        media="application/cloudevents+json",
                        type=NewCloudEvent,
                        example=_CLOUD_EVENT,
                    ),
                    Body(media="application/x-ndjson", example=_LINES),
                ),
                answers=(
                    Body(help="The ids and positions of the events.", status=201, type=Receipts),
                ),
            ),
            Operation(
                id="agreeToEvents",
                method="OPTIONS",
                path=EVENTS,
                endpoint=Events.agree,
                summary="Accept deliveries: the validation handshake of CloudEvents webhooks",
                tag="events",
                parameters=(
                    Parameter(
                        name=REQUEST_ORIGIN,
                        help="Origin of the sender.",
                        place="header",
                        required=True,
                    ),
                    Parameter(
                        name=REQUEST_RATE,
                        help="Requested rate, in requests per minute.",
                        place="header",
                    ),
                    Parameter(
                        name="scope", help="Scope of events without scopes.", schema=repeated()
                    ),
                    Parameter(name="deployment", help="Deployment of events without scopes."),
                    Parameter(name="source", help="Source of events without source."),
                ),
                answers=(
                    Body(help="Accepted: the headers state the origin and the rate.", media=""),
                ),
            ),
            Operation(
                id="listEvents",
                method="GET",
                path=EVENTS,
                endpoint=Events.list,
                summary="List events",
                tag="events",
                parameters=(
                    *_NAMES,
                    *_FILTERS,
                    Parameter(name="order", help="Sort order.", schema=one_of("newest", "oldest")),
                    Parameter(name="before", help="Only events before the one with this id."),
                    Parameter(name="after", help="Only events after the one with this id."),
                    _LIMIT,
                    Parameter(
                        name="wait",
                        help="Seconds to wait for an event if there is none; needs order=oldest.",
                        schema=whole_number(0, MAX_WAIT_SECONDS, 0),
                    ),
                    Parameter(
                        name="explain",
                        help="Whether to say how they were found; for who may read the whole log.",
                        schema=flag(),
                    ),
                ),
                answers=(Body(help="A page of events.", type=EventPage),),
            ),
            Operation(
                id="countEvents",
                method="GET",
                path=f"{EVENTS}/count",
                endpoint=Events.count,
                summary="Count events",
                tag="events",
                parameters=(*_NAMES, *_FILTERS),
                answers=(Body(help="How many.", type=EventCount),),
            ),
            Operation(
                id="countEventsByField",
                method="GET",
                path=f"{EVENTS}/facets",
                endpoint=Events.facets,
                summary="Count events by the values of a field",
                tag="events",
                parameters=(
                    *_NAMES,
                    *_FILTERS,
                    Parameter(name="field", help="The field.", schema=one_of(*FILTERS)),
                    Parameter(
                        name="top",
                        help="Most values to answer.",
                        schema=whole_number(1, MAX_LIMIT, DEFAULT_TOP),
                    ),
                ),
                answers=(Body(help="The most frequent values.", type=FacetList),),
            ),
            Operation(
                id="countEventsOverTime",
                method="GET",
                path=f"{EVENTS}/histogram",
                endpoint=Events.histogram,
                summary="Count events over time, by default over the last seven days",
                tag="events",
                parameters=(
                    *_NAMES,
                    *_FILTERS,
                    Parameter(
                        name="buckets",
                        help="Parts of equal length.",
                        schema=whole_number(1, MAX_BUCKETS, DEFAULT_BUCKETS),
                    ),
                ),
                answers=(Body(help="How many in each part.", type=EventHistogram),),
            ),
            Operation(
                id="streamEvents",
                method="GET",
                path=f"{EVENTS}/stream",
                endpoint=Events.stream,
                summary="Follow events, history first, then live, as Server-Sent Events",
                tag="events",
                parameters=(
                    *_NAMES,
                    *_FILTERS,
                    Parameter(name="after", help="Start after the event with this id."),
                    Parameter(name="from", help="Start at start, now, or a time of recording."),
                    Parameter(
                        name="Last-Event-ID",
                        help="Start after the event with this id; overrides after.",
                        place="header",
                    ),
                ),
                answers=(Body(help="An endless stream.", media="text/event-stream"),),
            ),
            Operation(
                id="getEvent",
                method="GET",
                path=f"{EVENTS}/{{id}}",
                endpoint=Events.get,
                summary="Get one event",
                tag="events",
                parameters=(path_parameter("id", "The event's id."),),
                answers=(Body(help="The event.", type=RecordedEvent),),
            ),
        ),
    ),
    Resource(
        endpoints=Catalog,
        operations=(
            Operation(
                id="listProjects",
                method="GET",
                path="/log/v1/projects",
                endpoint=Catalog.projects,
                summary="List projects",
                tag="catalogue",
                answers=(Body(help="The names of the projects.", type=ProjectList),),
            ),
            Operation(
                id="listStacks",
                method="GET",
                path=STACKS,
                endpoint=Catalog.stacks,
                summary="List stacks",
                tag="catalogue",
                parameters=(
                    Parameter(name="project", help="Only stacks of this project."),
                    Parameter(
                        name="deleted",
                        help="Whether to include deleted stacks.",
                        schema=flag(),
                    ),
                ),
                answers=(Body(help="The stacks, newest first.", type=StackList),),
            ),
            Operation(
                id="deleteStack",
                method="DELETE",
                path=STACKS,
                endpoint=Catalog.delete_stack,
                summary="Delete a stack and free its name; its events remain",
                tag="catalogue",
                parameters=(
                    Parameter(name="project", help="The project.", required=True),
                    Parameter(name="name", help="The stack's name.", required=True),
                ),
                answers=(Body(help="Done.", status=204, media=""),),
            ),
        ),
    ),
    Resource(
        endpoints=Deployments,
        operations=(
            Operation(
                id="openDeployment",
                method="POST",
                path=DEPLOYMENTS,
                endpoint=Deployments.open,
                summary="Open a deployment; creates the stack if none has its name",
                tag="deployments",
                request=(Body(type=NewDeployment, example=_DEPLOYMENT),),
                answers=(Body(help="The deployment.", status=201, type=DeploymentBody),),
            ),
            Operation(
                id="listDeployments",
                method="GET",
                path=DEPLOYMENTS,
                endpoint=Deployments.list,
                summary="List deployments, most recently started first",
                tag="deployments",
                parameters=(
                    *_NAMES,
                    Parameter(
                        name="since", help="Only deployments that started since: RFC 3339, or 2h."
                    ),
                    Parameter(
                        name="current",
                        help="Only what is deployed now in each stack and environment.",
                        schema=flag(),
                    ),
                    Parameter(name="before", help="Only deployments before the one with this id."),
                    _LIMIT,
                ),
                answers=(Body(help="A page of deployments.", type=DeploymentPage),),
            ),
            Operation(
                id="getDeployment",
                method="GET",
                path=f"{DEPLOYMENTS}/{{id}}",
                endpoint=Deployments.get,
                summary="Get one deployment",
                tag="deployments",
                parameters=(_DEPLOYMENT_ID,),
                answers=(Body(help="The deployment.", type=DeploymentBody),),
            ),
            Operation(
                id="waitForDeployment",
                method="GET",
                path=f"{DEPLOYMENTS}/{{id}}/wait",
                endpoint=Deployments.wait,
                summary="Wait for a deployment to end",
                tag="deployments",
                parameters=(
                    _DEPLOYMENT_ID,
                    Parameter(
                        name="timeout",
                        help="Maximum wait in seconds.",
                        schema=whole_number(0, MAX_WAIT_SECONDS, 60),
                    ),
                ),
                answers=(
                    Body(help="The deployment; it may still be running.", type=DeploymentBody),
                ),
            ),
        ),
    ),
    Resource(
        endpoints=Changesets,
        operations=(
            Operation(
                id="stagePlan",
                method="POST",
                path=CHANGESETS,
                endpoint=Changesets.stage,
                summary="Stage a plan as a change set; its changes are recorded as events",
                tag="changesets",
                parameters=(
                    Parameter(name="project", help="The project.", required=True),
                    Parameter(name="stack", help="Name of the stack; it need not exist yet."),
                    Parameter(name="id", help="The change set's id, a UUID; generated by default."),
                    Parameter(name="location", help="Location of the plan."),
                    Parameter(
                        name="destroy",
                        help="Whether the plan destroys the stack.",
                        schema=flag(),
                    ),
                    Parameter(name="actor", help="Who stages the plan."),
                    Parameter(name="group", help="Group that may read it.", schema=repeated()),
                    _IDEMPOTENCY_KEY,
                ),
                request=(
                    Body(help="The output of terraform show -json PLAN.", type=dict[str, object]),
                ),
                answers=(Body(help="The change set, stored.", status=202, type=ChangesetBody),),
            ),
            Operation(
                id="listChangesets",
                method="GET",
                path=CHANGESETS,
                endpoint=Changesets.list,
                summary="List change sets, most recently staged first",
                tag="changesets",
                parameters=(
                    Parameter(name="project", help="Only change sets of this project."),
                    Parameter(
                        name="stack", help="Only change sets of the current stack with this name."
                    ),
                    Parameter(name="before", help="Only change sets before the one with this id."),
                    _LIMIT,
                ),
                answers=(Body(help="A page of change sets.", type=ChangesetPage),),
            ),
            Operation(
                id="getChangeset",
                method="GET",
                path=f"{CHANGESETS}/{{id}}",
                endpoint=Changesets.get,
                summary="Get one change set",
                tag="changesets",
                parameters=(_CHANGESET_ID,),
                answers=(Body(help="The change set.", type=ChangesetBody),),
            ),
            Operation(
                id="getChanges",
                method="GET",
                path=f"{CHANGESETS}/{{id}}/changes",
                endpoint=Changesets.changes,
                summary="Get the changes of a change set",
                tag="changesets",
                parameters=(_CHANGESET_ID,),
                answers=(Body(help="The changes.", type=Changes),),
            ),
        ),
    ),
    INGEST,
    KEYS,
    METRICS,
    SUBSCRIPTIONS,
)
