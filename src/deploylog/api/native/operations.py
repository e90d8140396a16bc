"""The native API's operations, described."""

from typing import Any

from deploylog.api.native.errors import Problem
from deploylog.api.native.subscriptions.operations import OPERATIONS as SUBSCRIPTION_OPERATIONS
from deploylog.api.native.wire import (
    DEFAULT_LIMIT,
    FILTERS,
    MAX_LIMIT,
    MAX_WAIT_SECONDS,
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

_PROBLEM = Body(help="Problem details (RFC 9457).", media="application/problem+json", type=Problem)

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

OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(
        id="appendEvents",
        method="POST",
        path="/log/v1/events",
        summary="Record events, all or none; answered once they are on disk",
        tag="events",
        parameters=(
            Parameter(name="scope", help="For events without scopes.", schema=repeated()),
            Parameter(name="deployment", help="The deployment that events without scopes are of."),
            Parameter(name="source", help="For events without source."),
            _IDEMPOTENCY_KEY,
        ),
        request=(
            Body(media="application/cloudevents+json", type=CloudEvent),
            Body(media="application/cloudevents-batch+json", type=list[CloudEvent]),
            Body(media="application/x-ndjson"),
        ),
        answers=(Body(help="Where they are recorded.", status=201, type=Receipts),),
        error=_PROBLEM,
    ),
    Operation(
        id="agreeToEvents",
        method="OPTIONS",
        path="/log/v1/events",
        summary="Agree to deliveries: the handshake of CloudEvents' web hooks",
        tag="events",
        parameters=(
            Parameter(
                name=REQUEST_ORIGIN, help="Who wants to deliver.", place="header", required=True
            ),
            Parameter(name=REQUEST_RATE, help="How often, a minute.", place="header"),
            Parameter(name="scope", help="For events without scopes.", schema=repeated()),
            Parameter(name="deployment", help="The deployment that events without scopes are of."),
            Parameter(name="source", help="For events without source."),
        ),
        answers=(Body(help="Agreed: the headers say to whom, and how often.", media=""),),
        error=_PROBLEM,
    ),
    Operation(
        id="listEvents",
        method="GET",
        path="/log/v1/events",
        summary="List events",
        tag="events",
        parameters=(
            _SCOPE,
            *_FILTERS,
            Parameter(name="order", help="Which come first.", schema=one_of("newest", "oldest")),
            Parameter(name="before", help="Only events before the one with this id."),
            Parameter(name="after", help="Only events after the one with this id."),
            _LIMIT,
        ),
        answers=(Body(help="A page of events.", type=EventPage),),
        error=_PROBLEM,
    ),
    Operation(
        id="streamEvents",
        method="GET",
        path="/log/v1/events/stream",
        summary="Follow events, history first, then live, as Server-Sent Events",
        tag="events",
        parameters=(
            _SCOPE,
            *_FILTERS,
            Parameter(name="after", help="Begin after the event with this id."),
            Parameter(name="from", help="Begin at start, now, or what was recorded at a time."),
            Parameter(
                name="Last-Event-ID",
                help="Begin after the event with this id; wins over after.",
                place="header",
            ),
        ),
        answers=(Body(help="An endless stream.", media="text/event-stream"),),
        error=_PROBLEM,
    ),
    Operation(
        id="getEvent",
        method="GET",
        path="/log/v1/events/{id}",
        summary="Get one event",
        tag="events",
        parameters=(path_parameter("id", "The event's id."),),
        answers=(Body(help="The event.", type=CloudEvent),),
        error=_PROBLEM,
    ),
    Operation(
        id="listProjects",
        method="GET",
        path="/log/v1/projects",
        summary="List projects",
        tag="catalogue",
        answers=(Body(help="Their names.", type=ProjectList),),
        error=_PROBLEM,
    ),
    Operation(
        id="listStacks",
        method="GET",
        path="/log/v1/stacks",
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
        error=_PROBLEM,
    ),
    Operation(
        id="deleteStack",
        method="DELETE",
        path="/log/v1/stacks",
        summary="Free a stack's name; its events stay",
        tag="catalogue",
        parameters=(
            Parameter(name="project", help="The project.", required=True),
            Parameter(name="name", help="The stack's name.", required=True),
        ),
        answers=(Body(help="Done.", status=204, media=""),),
        error=_PROBLEM,
    ),
    Operation(
        id="openDeployment",
        method="POST",
        path="/log/v1/deployments",
        summary="Open a deployment, and its stack if there is none of that name",
        tag="deployments",
        request=(Body(type=NewDeployment),),
        answers=(Body(help="The deployment.", status=201, type=DeploymentBody),),
        error=_PROBLEM,
    ),
    Operation(
        id="listDeployments",
        method="GET",
        path="/log/v1/deployments",
        summary="List deployments, last started first",
        tag="deployments",
        parameters=(
            Parameter(name="project", help="Only deployments of this project."),
            Parameter(name="stack", help="Only deployments of the stack that has this name now."),
            Parameter(name="before", help="Only deployments before the one with this id."),
            _LIMIT,
        ),
        answers=(Body(help="A page of deployments.", type=DeploymentPage),),
        error=_PROBLEM,
    ),
    Operation(
        id="getDeployment",
        method="GET",
        path="/log/v1/deployments/{id}",
        summary="Get one deployment",
        tag="deployments",
        parameters=(_DEPLOYMENT_ID,),
        answers=(Body(help="The deployment.", type=DeploymentBody),),
        error=_PROBLEM,
    ),
    Operation(
        id="waitForDeployment",
        method="GET",
        path="/log/v1/deployments/{id}/wait",
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
        answers=(Body(help="The deployment, ended or not yet ended.", type=DeploymentBody),),
        error=_PROBLEM,
    ),
    Operation(
        id="stagePlan",
        method="POST",
        path="/log/v1/changesets",
        summary="Stage a plan as a change set, which is then told event by event",
        tag="changesets",
        parameters=(
            Parameter(name="project", help="The project.", required=True),
            Parameter(name="stack", help="Name of the stack; there need not be one yet."),
            Parameter(name="id", help="The change set's id, a UUID; drawn if it is left out."),
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
        request=(Body(help="What terraform show -json PLAN prints.", type=dict[str, object]),),
        answers=(Body(help="The change set, stored.", status=202, type=ChangesetBody),),
        error=_PROBLEM,
    ),
    Operation(
        id="listChangesets",
        method="GET",
        path="/log/v1/changesets",
        summary="List change sets, last staged first",
        tag="changesets",
        parameters=(
            Parameter(name="project", help="Only change sets of this project."),
            Parameter(name="stack", help="Only change sets of the stack that has this name now."),
            Parameter(name="before", help="Only change sets before the one with this id."),
            _LIMIT,
        ),
        answers=(Body(help="A page of change sets.", type=ChangesetPage),),
        error=_PROBLEM,
    ),
    Operation(
        id="getChangeset",
        method="GET",
        path="/log/v1/changesets/{id}",
        summary="Get one change set",
        tag="changesets",
        parameters=(_CHANGESET_ID,),
        answers=(Body(help="The change set.", type=ChangesetBody),),
        error=_PROBLEM,
    ),
    Operation(
        id="getChanges",
        method="GET",
        path="/log/v1/changesets/{id}/changes",
        summary="Get what a change set would change",
        tag="changesets",
        parameters=(_CHANGESET_ID,),
        answers=(Body(help="The changes.", type=Changes),),
        error=_PROBLEM,
    ),
    Operation(
        id="ingestEventBridge",
        method="POST",
        path="/log/v1/ingest/eventbridge",
        summary="Record what EventBridge tells of a CloudFormation stack",
        tag="ingest",
        parameters=(Parameter(name="project", help="The project.", required=True), *_STACK),
        request=(Body(help="An event of EventBridge's.", type=Envelope),),
        answers=(Body(help="Where it is recorded.", status=201, type=Receipts),),
        error=_PROBLEM,
    ),
    Operation(
        id="ingestSns",
        method="POST",
        path="/log/v1/ingest/sns",
        summary="Record what a topic of SNS delivers of a CloudFormation stack",
        tag="ingest",
        parameters=(
            Parameter(name="project", help="The project, for a topic that is set without one."),
            *_STACK,
        ),
        request=(Body(help="A message of SNS's.", type=SnsMessage),),
        answers=(
            Body(help="Where it is recorded.", status=201, type=Receipts),
            Body(help="Taken note of, as a subscription.", status=204, media=""),
        ),
        error=_PROBLEM,
    ),
    *SUBSCRIPTION_OPERATIONS,
)
