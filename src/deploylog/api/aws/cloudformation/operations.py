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
    help="Action, Version and the action's parameters.",
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
            summary="Call an action by query string, or redirect to the documentation",
            tag="cloudformation",
            parameters=(
                Parameter(name="Action", help="The action to call.", schema=one_of(*_ACTIONS)),
                Parameter(name="Version", help="The API version: 2010-05-15."),
                Parameter(name="StackName", help="Name or ARN of a stack."),
                Parameter(
                    name="LogicalResourceId",
                    help="The logical id of a resource (DescribeStackResource(s)).",
                ),
                Parameter(
                    name="PhysicalResourceId",
                    help="The physical id of a resource (DescribeStackResources).",
                ),
                Parameter(name="OperationId", help="The deployment (DescribeEvents)."),
                Parameter(name="Filters.FailedEvents", help="true to return failures only."),
                Parameter(name="ChangeSetName", help="A change set; none exists."),
                Parameter(name="ExportName", help="An export; none exists."),
                Parameter(
                    name="StackStatusFilter.member.1",
                    help="A stack status (ListStacks); add more as member.2 and so on.",
                ),
                Parameter(name="NextToken", help="The token of the page, from the previous page."),
            ),
            answers=(_ANSWER,),
        ),
    ),
)
