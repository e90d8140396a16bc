"""The operations of the CloudFormation API."""

from deploylog.api.api import Resource
from deploylog.api.aws.cloudformation.endpoints import Actions, is_bare
from deploylog.api.operation import Body, Operation, Parameter, one_of

_ACTIONS = (
    "DescribeStacks",
    "DescribeStackEvents",
    "DescribeEvents",
    "DescribeStackResource",
    "DescribeStackResources",
    "ListStackResources",
    "ListStacks",
    "ListChangeSets",
    "DescribeChangeSet",
    "GetTemplate",
    "GetTemplateSummary",
    "GetStackPolicy",
    "ListExports",
    "ListImports",
)

_FORM = Body(
    help="Action, Version, and the action's parameters.",
    media="application/x-www-form-urlencoded",
)
_ANSWER = Body(help="The action's result.", media="text/xml")
ERROR = Body(help="Type, Code and Message.", media="text/xml")

_ROOT = "/"

ACTIONS = Resource(
    endpoints=Actions,
    operations=(
        Operation(
            id="cloudformationPost",
            endpoint=Actions.post,
            method="POST",
            path=_ROOT,
            summary="Call an action of CloudFormation's Query API",
            tag="cloudformation",
            request=(_FORM,),
            answers=(_ANSWER,),
        ),
        Operation(
            id="cloudformationGet",
            endpoint=Actions.get,
            is_open=is_bare,
            method="GET",
            path=_ROOT,
            summary="The same in a query string; without an action, on to the documentation",
            tag="cloudformation",
            parameters=(
                Parameter(name="Action", help="What to do.", schema=one_of(*_ACTIONS)),
                Parameter(name="Version", help="2010-05-15."),
                Parameter(name="StackName", help="Name or ARN of a stack."),
                Parameter(
                    name="LogicalResourceId", help="The resource, of DescribeStackResource(s)."
                ),
                Parameter(
                    name="PhysicalResourceId", help="The resource, of DescribeStackResources."
                ),
                Parameter(name="OperationId", help="The deployment, of DescribeEvents."),
                Parameter(name="Filters.FailedEvents", help="true for failures only."),
                Parameter(name="ChangeSetName", help="A change set; there is none."),
                Parameter(name="ExportName", help="An export; there is none."),
                Parameter(
                    name="StackStatusFilter.member.1",
                    help="A status, of ListStacks; more are member.2 and so on.",
                ),
                Parameter(name="NextToken", help="Where the page begins, from the page before."),
            ),
            answers=(_ANSWER,),
        ),
    ),
)
