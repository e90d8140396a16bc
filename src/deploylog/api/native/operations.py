"""The operations of the native API."""

from deploylog.api.api import Resource
from deploylog.api.native.endpoints import Catalog, Changesets, Deployments, Events
from deploylog.api.native.errors import Problem
from deploylog.api.native.ingest.endpoints import Ingest
from deploylog.api.native.paths import CHANGESETS, DEPLOYMENTS, EVENTS, STACKS
from deploylog.api.native.query_string import DEFAULT_LIMIT, FILTERS, MAX_LIMIT, MAX_WAIT_SECONDS
from deploylog.api.native.subscriptions.operations import SUBSCRIPTIONS
from deploylog.api.native.wire import (
    REQUEST_ORIGIN,
    REQUEST_RATE,
    ChangesetBody,
    ChangesetPage,
    DeploymentBody,
    DeploymentPage,
    EventPage,
    ProjectList,
    Receipts,
    StackList,
)
from deploylog.api.operation import (
    Body,
    Operation,
    Parameter,
    always,
    one_of,
    path_parameter,
    repeated,
    whole_number,
)
from deploylog.deployments.changeset import Changes
from deploylog.deployments.service import NewDeployment
from deploylog.events.cloudevents import CloudEvent
from deploylog.ingest.cloudformation.notifications import Envelope
from deploylog.ingest.cloudformation.sns import SnsMessage

ERROR = Body(help="Problem details (RFC 9457).", media="application/problem+json", type=Problem)

_SCOPE = Parameter(name="scope", help="Only events below one of these scopes.", schema=repeated())

_FILTERS = (
    *(
        Parameter(name=name, help=f"The event's {field} is one of these.", schema=repeated())
        for name, field in FILTERS.items()
    ),
    Parameter(name="since", help="The event's time is not before this: RFC 3339, or -15m."),
    Parameter(name="until", help="The event's time is before this: RFC 3339, or -15m."),
)

_LIMIT = Parameter(
    name="limit", help="Most to answer.", schema=whole_number(1, MAX_LIMIT, DEFAULT_LIMIT)
)

_DEPLOYMENT_ID = path_parameter("id", "The deployment's id.")

_CHANGESET_ID = path_parameter("id", "The change set's id.")

_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    help="Names the request: its retry is answered as it was.",
    place="header",
)

_STACK = (
    Parameter(name="cluster", help="The cluster that the stack makes."),
    Parameter(name="image", help="The image that the stack builds."),
    Parameter(name="group", help="Group that may see it.", schema=repeated()),
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
                summary="Record events, all or none; answered once they are on disk",
                tag="events",
                parameters=(
                    Parameter(name="scope", help="For events without scopes.", schema=repeated()),
                    Parameter(
                        name="deployment", help="The deployment that events without scopes are of."
                    ),
                    Parameter(name="source", help="For events without source."),
                    _IDEMPOTENCY_KEY,
                ),
                request=(
                    Body(media="application/cloudevents+json", type=CloudEvent),
                    Body(media="application/cloudevents-batch+json", type=list[CloudEvent]),
                    Body(media="application/x-ndjson"),
                ),
                answers=(Body(help="Where they are recorded.", status=201, type=Receipts),),
            ),
            Operation(
                id="agreeToEvents",
                method="OPTIONS",
                path=EVENTS,
                endpoint=Events.agree,
                summary="Agree to deliveries: the handshake of CloudEvents' web hooks",
                tag="events",
                parameters=(
                    Parameter(
                        name=REQUEST_ORIGIN,
                        help="Who wants to deliver.",
                        place="header",
                        required=True,
                    ),
                    Parameter(name=REQUEST_RATE, help="How often, a minute.", place="header"),
                    Parameter(name="scope", help="For events without scopes.", schema=repeated()),
                    Parameter(
                        name="deployment", help="The deployment that events without scopes are of."
                    ),
                    Parameter(name="source", help="For events without source."),
                ),
                answers=(Body(help="Agreed: the headers say to whom, and how often.", media=""),),
            ),
            Operation(
                id="listEvents",
                method="GET",
                path=EVENTS,
                endpoint=Events.list,
                summary="List events",
                tag="events",
                parameters=(
                    _SCOPE,
                    *_FILTERS,
                    Parameter(
                        name="order", help="Which come first.", schema=one_of("newest", "oldest")
                    ),
                    Parameter(name="before", help="Only events before the one with this id."),
                    Parameter(name="after", help="Only events after the one with this id."),
                    _LIMIT,
                ),
                answers=(Body(help="A page of events.", type=EventPage),),
            ),
            Operation(
                id="streamEvents",
                method="GET",
                path=f"{EVENTS}/stream",
                endpoint=Events.stream,
                summary="Follow events, history first, then live, as Server-Sent Events",
                tag="events",
                parameters=(
                    _SCOPE,
                    *_FILTERS,
                    Parameter(name="after", help="Begin after the event with this id."),
                    Parameter(
                        name="from", help="Begin at start, now, or what was recorded at a time."
                    ),
                    Parameter(
                        name="Last-Event-ID",
                        help="Begin after the event with this id; wins over after.",
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
                answers=(Body(help="The event.", type=CloudEvent),),
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
                answers=(Body(help="Their names.", type=ProjectList),),
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
                        help="Whether to list those that exist no more, too.",
                        schema=one_of("false", "true"),
                    ),
                ),
                answers=(Body(help="The stacks, newest first.", type=StackList),),
            ),
            Operation(
                id="deleteStack",
                method="DELETE",
                path=STACKS,
                endpoint=Catalog.delete_stack,
                summary="Free a stack's name; its events stay",
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
                summary="Open a deployment, and its stack if there is none of that name",
                tag="deployments",
                request=(Body(type=NewDeployment),),
                answers=(Body(help="The deployment.", status=201, type=DeploymentBody),),
            ),
            Operation(
                id="listDeployments",
                method="GET",
                path=DEPLOYMENTS,
                endpoint=Deployments.list,
                summary="List deployments, last started first",
                tag="deployments",
                parameters=(
                    Parameter(name="project", help="Only deployments of this project."),
                    Parameter(
                        name="stack", help="Only deployments of the stack that has this name now."
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
                summary="Wait until a deployment has ended",
                tag="deployments",
                parameters=(
                    _DEPLOYMENT_ID,
                    Parameter(
                        name="timeout",
                        help="Seconds to wait at most.",
                        schema=whole_number(0, MAX_WAIT_SECONDS, 60),
                    ),
                ),
                answers=(
                    Body(help="The deployment, ended or not yet ended.", type=DeploymentBody),
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
                summary="Stage a plan as a change set, which is then told event by event",
                tag="changesets",
                parameters=(
                    Parameter(name="project", help="The project.", required=True),
                    Parameter(name="stack", help="Name of the stack; there need not be one yet."),
                    Parameter(
                        name="id", help="The change set's id, a UUID; drawn if it is left out."
                    ),
                    Parameter(name="location", help="Where the plan comes from."),
                    Parameter(
                        name="destroy",
                        help="Whether it is to destroy what is there.",
                        schema=one_of("false", "true"),
                    ),
                    Parameter(name="actor", help="Who stages it."),
                    Parameter(name="group", help="Group that may see it.", schema=repeated()),
                    _IDEMPOTENCY_KEY,
                ),
                request=(
                    Body(help="What terraform show -json PLAN prints.", type=dict[str, object]),
                ),
                answers=(Body(help="The change set, stored.", status=202, type=ChangesetBody),),
            ),
            Operation(
                id="listChangesets",
                method="GET",
                path=CHANGESETS,
                endpoint=Changesets.list,
                summary="List change sets, last staged first",
                tag="changesets",
                parameters=(
                    Parameter(name="project", help="Only change sets of this project."),
                    Parameter(
                        name="stack", help="Only change sets of the stack that has this name now."
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
                summary="Get what a change set would change",
                tag="changesets",
                parameters=(_CHANGESET_ID,),
                answers=(Body(help="The changes.", type=Changes),),
            ),
        ),
    ),
    Resource(
        endpoints=Ingest,
        operations=(
            Operation(
                id="ingestEventBridge",
                method="POST",
                path="/log/v1/ingest/eventbridge",
                endpoint=Ingest.eventbridge,
                summary="Record what EventBridge tells of a CloudFormation stack",
                tag="ingest",
                parameters=(Parameter(name="project", help="The project.", required=True), *_STACK),
                request=(Body(help="An event of EventBridge's.", type=Envelope),),
                answers=(Body(help="Where it is recorded.", status=201, type=Receipts),),
            ),
            Operation(
                id="ingestSns",
                method="POST",
                path="/log/v1/ingest/sns",
                endpoint=Ingest.sns,
                # SNS sends no credentials in headers, but signs what it sends.
                is_open=always,
                summary="Record what a topic of SNS delivers of a CloudFormation stack",
                tag="ingest",
                parameters=(
                    Parameter(
                        name="project", help="The project, for a topic that is set without one."
                    ),
                    *_STACK,
                ),
                request=(Body(help="A message of SNS's.", type=SnsMessage),),
                answers=(
                    Body(help="Where it is recorded.", status=201, type=Receipts),
                    Body(help="Taken note of, as a subscription.", status=204, media=""),
                ),
            ),
        ),
    ),
    SUBSCRIPTIONS,
)
