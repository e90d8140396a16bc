"""Stacks as CloudFormation tells of them, and as a collector records what it tells."""

from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

import msgspec

from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, scope
from deploylog.events.times import parse_time
from deploylog.ingest.cloudformation.mapping import StackMapper
from deploylog.ingest.cloudformation.parsing import time_of
from deploylog.ingest.cloudformation.rendering import StackContext
from deploylog.ingest.cloudformation.stack_event import SOURCE, TYPE_BY_STATUS, StackEvent

NAME = "alinux2-image"
_STACKS = "arn:aws:cloudformation:us-east-1:123456789012:stack"
ARN = f"{_STACKS}/{NAME}/6accc570-b080-11ec-845e-0e2dc6386985"
NESTED = f"{_STACKS}/nested-Net/7bccc570-b080-11ec-845e-0e2dc6386985"

#: What begins and ends a deployment of the stack itself.
_OWN = {
    "CREATE_IN_PROGRESS": "deployment.started",
    "CREATE_COMPLETE": "deployment.completed",
    "UPDATE_IN_PROGRESS": "deployment.started",
    "UPDATE_COMPLETE": "deployment.completed",
    "DELETE_IN_PROGRESS": "deployment.started",
    "DELETE_COMPLETE": "deployment.completed",
    "ROLLBACK_COMPLETE": "deployment.failed",
}

_STACK = "AWS::CloudFormation::Stack"
_ROLE = "AWS::IAM::Role"
_IMAGE = "AWS::ImageBuilder::Image"
_IMAGE_ARN = "arn:aws:imagebuilder:us-east-1:123456789012:image/parallelclusterimage/3.2.1/1"
_BEGUN = "Resource creation Initiated"


def stack_event(
    status: str,
    logical_id: str,
    type: str,
    time: str,
    *,
    physical_id: str = "",
    arn: str = ARN,
    **fields: str,
) -> StackEvent:
    """What CloudFormation says of a resource."""
    return StackEvent(
        stack_id=arn,
        event_id=fields.pop("event_id", f"{logical_id}-{status}-{time}"),
        stack_name=arn.split("/")[1],
        logical_resource_id=logical_id,
        physical_resource_id=physical_id,
        resource_type=type,
        timestamp=time,
        resource_status=status,
        **fields,  # type: ignore[arg-type]
    )


def own_event(status: str, time: str, *, arn: str = ARN, **fields: str) -> StackEvent:
    """What it says of the stack itself."""
    name = arn.split("/")[1]
    id = str(uuid5(NAMESPACE_URL, f"{arn} {status} {time}"))
    return stack_event(
        status, name, _STACK, time, physical_id=arn, arn=arn, **({"event_id": id} | fields)
    )


def image_build() -> list[StackEvent]:
    """A build of an image that fails, oldest first."""
    role = f"{NAME}-InstanceRole-1A2B"
    properties = '{"ImageRecipeArn":"arn:aws:imagebuilder:us-east-1:123456789012:image-recipe/r"}'
    return [
        own_event(
            "CREATE_IN_PROGRESS",
            "2022-03-30T23:26:01.120Z",
            resource_status_reason="User Initiated",
            client_request_token="build-1",
        ),
        stack_event("CREATE_IN_PROGRESS", "InstanceRole", _ROLE, "2022-03-30T23:26:05.001Z"),
        stack_event("CREATE_IN_PROGRESS", "InstanceRole", _ROLE, "2022-03-30T23:26:06.250Z",
                    physical_id=role, resource_status_reason=_BEGUN),
        stack_event("CREATE_COMPLETE", "InstanceRole", _ROLE, "2022-03-30T23:26:20.777Z",
                    physical_id=role),
        stack_event("CREATE_IN_PROGRESS", "Net", _STACK, "2022-03-30T23:26:21.000Z",
                    physical_id=NESTED, resource_status_reason=_BEGUN),
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:21.100Z", arn=NESTED),
        stack_event("CREATE_IN_PROGRESS", "ParallelClusterImage", _IMAGE,
                    "2022-03-30T23:26:33.499Z", physical_id=_IMAGE_ARN,
                    resource_status_reason=_BEGUN, resource_properties=properties),
        stack_event("CREATE_FAILED", "ParallelClusterImage", _IMAGE, "2022-03-30T23:58:12.003Z",
                    physical_id=_IMAGE_ARN, resource_properties=properties,
                    resource_status_reason='Phase "build" <failed> & stopped\x1b[0m'),
        own_event("ROLLBACK_IN_PROGRESS", "2022-03-30T23:58:13.500Z",
                  resource_status_reason="The following resource(s) failed to create:"
                  " [ParallelClusterImage]. Rollback requested by user."),
        stack_event("DELETE_SKIPPED", "ParallelClusterImage", _IMAGE, "2022-03-30T23:58:20.000Z",
                    physical_id=_IMAGE_ARN),
        stack_event("DELETE_COMPLETE", "InstanceRole", _ROLE, "2022-03-30T23:58:40.900Z",
                    physical_id=role),
        own_event("ROLLBACK_COMPLETE", "2022-03-30T23:58:41.000Z"),
    ]  # fmt: skip


def collected(
    events: Sequence[StackEvent],
    *,
    project: str = "acme",
    arn: str = ARN,
    long: bool = False,
    beside: tuple[Scope, ...] = (),
    tags: dict[str, str] | None = None,
) -> list[NewEvent]:
    """What a collector records of a stack, its beginning in the catalogue first.

    ``long`` is the name where the short one is taken; ``beside`` are scopes that its events are
    in, too.
    """
    record = StackMapper(StackContext(project=project, arn=arn, scopes=beside, tags=tags))
    return [record.stack_created(time_of(events[0]), long=long), *record.map_events(events)]


def recorded(event: StackEvent, scopes: tuple[Scope, ...], arn: str = ARN) -> NewEvent:
    """What somebody records of one event, outside of the catalogue."""
    type = TYPE_BY_STATUS[event.resource_status]
    if event.is_stack_itself:
        is_nested = event.stack_id != arn
        type = "deployment.log" if is_nested else _OWN.get(event.resource_status, "deployment.log")
    return NewEvent(
        type=type,
        source=SOURCE,
        scopes=scopes,
        time=parse_time(event.timestamp),
        producer_id=event.event_id,
        subject=event.logical_resource_id,
        resource=Resource(
            type=event.resource_type,
            name=event.logical_resource_id,
            id_key="PhysicalResourceId" if event.physical_resource_id else None,
            id_value=event.physical_resource_id or None,
        ),
        message=event.resource_status_reason
        or (event.resource_status if event.is_stack_itself else None),
        data=msgspec.Raw(msgspec.json.encode(event)),
    )


def image_scope(id: str = NAME) -> Scope:
    """Where events of an image are recorded that no stack is known of."""
    return scope("image", id)
