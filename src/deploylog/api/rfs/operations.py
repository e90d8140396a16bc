"""The operation of the RFS API."""

from typing import Required, TypedDict

from deploylog.api.api import Resource
from deploylog.api.operation import Body, Operation, Parameter, path_parameter, whole_number
from deploylog.api.rfs.endpoints import StackEvents


class RfsStackEvent(TypedDict, total=False):
    """A stack event: its attributes, or those selected by ``field``."""

    resource_type: str
    resource_name: str
    resource_key: str
    resource_id_key: str
    resource_id_value: str
    time: str
    event_type: str
    event_message: str
    elapsed_seconds: int


class RfsPageInfo(TypedDict, total=False):
    """The markers of the adjacent pages."""

    current_count: Required[int]
    next_marker: str
    previous_marker: str


class RfsPage(TypedDict):
    """A page of stack events."""

    stack_events: list[RfsStackEvent]
    page_info: RfsPageInfo


class RfsError(TypedDict, total=False):
    """An error."""

    error_code: Required[str]
    error_msg: Required[str]
    request_id: str
    encoded_authorization_message: str


ERROR = Body(help="error_code and error_msg.", type=RfsError)

STACK_EVENTS = Resource(
    endpoints=StackEvents,
    operations=(
        Operation(
            id="ListStackEvents",
            method="GET",
            path="/v1/{project_id}/stacks/{stack_name}/events",
            endpoint=StackEvents.list,
            summary="List the events of a stack, newest first",
            tag="rfs",
            parameters=(
                path_parameter("project_id", "The project."),
                path_parameter("stack_name", "The stack's name."),
                Parameter(
                    name="Client-Request-Id",
                    help="Id of the request; a UUID is recommended.",
                    place="header",
                    required=True,
                ),
                Parameter(
                    name="stack_id", help="Must be the id of the current stack with this name."
                ),
                Parameter(name="deployment_id", help="Only events of this deployment."),
                Parameter(
                    name="filter",
                    help="Conditions name==value. A comma is AND; a bar is OR and binds tighter.",
                ),
                Parameter(name="field", help="Attributes to return, separated by commas."),
                Parameter(name="marker", help="The marker of the page, from page_info."),
                Parameter(
                    name="limit",
                    help="Maximum number of events.",
                    schema=whole_number(1, 1000, 100),
                ),
            ),
            answers=(Body(help="stack_events and page_info.", type=RfsPage),),
        ),
    ),
)
