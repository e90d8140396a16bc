"""The operations of the catalog."""

from deploylog.api.api import Resource
from deploylog.api.native.catalog.endpoints import Catalog, Changesets, Deployments
from deploylog.api.native.catalog.wire import (
    ChangesetBody,
    ChangesetPage,
    DeploymentBody,
    DeploymentPage,
    ProjectList,
    StackList,
)
from deploylog.api.native.parameters import IDEMPOTENCY_KEY, LIMIT, NAMES
from deploylog.api.native.paths import CHANGESETS, DEPLOYMENTS, STACKS
from deploylog.api.native.query_string import MAX_WAIT_SECONDS
from deploylog.api.operation import (
    Body,
    Operation,
    Parameter,
    flag,
    path_parameter,
    repeated,
    whole_number,
)
from deploylog.deployments.changeset import Changes
from deploylog.deployments.service import NewDeployment

_DEPLOYMENT = {
    "project": "acme",
    "stack": "web",
    "environment": "prod",
    "version": "1.4.2",
    "commits": [{"sha": "9f2c1e7a", "committed": "2026-11-28T08:12:26Z"}],
}

#: Names select events and deployments alike.
_DEPLOYMENT_ID = path_parameter("id", "The deployment's id.")

_CHANGESET_ID = path_parameter("id", "The change set's id.")

CATALOG = (
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
                    *NAMES,
                    Parameter(
                        name="plan",
                        help="Only deployments that apply the change set with this id.",
                        schema=repeated(),
                    ),
                    Parameter(
                        name="since", help="Only deployments that started since: RFC 3339, or 2h."
                    ),
                    Parameter(
                        name="current",
                        help="Only what is deployed now in each stack and environment.",
                        schema=flag(),
                    ),
                    Parameter(name="before", help="Only deployments before the one with this id."),
                    LIMIT,
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
                    IDEMPOTENCY_KEY,
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
                    LIMIT,
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
)
