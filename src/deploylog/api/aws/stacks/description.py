"""Descriptions of stacks, as in CloudFormation's ``DescribeStacks``."""

import msgspec

from deploylog.api.aws.stacks.arn import Kind
from deploylog.api.aws.stacks.stack_events import status_of
from deploylog.api.aws.stacks.stack_view import DELETED, StackView, StackViews
from deploylog.events.access import Principal
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: AWS ParallelCluster's tags, by which its command line recognizes its stacks.
VERSION_TAG = "parallelcluster:version"
NAME_TAGS: dict[Kind, str] = {
    "image": "parallelcluster:image_id",
    "cluster": "parallelcluster:cluster-name",
}

#: The status of a stack that has no deployment yet.
_NEW = "REVIEW_IN_PROGRESS"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A stack's description. Times in ns since 1970 (UTC)."""

    arn: str
    name: str
    status: str
    reason: str | None
    created: int
    deleted: int | None
    tags: dict[str, str]


async def describe(
    views: StackViews, principal: Principal, view: StackView, *, version: str
) -> Description:
    """Describe a stack; ``version`` is ParallelCluster's version if the stack has no such tag."""
    newest = await _newest_stack_event(views, principal, view)
    status, reason = await _status(views, principal, view, newest)
    return Description(
        arn=view.arn,
        name=view.name,
        status=status,
        reason=reason,
        created=await views.created_at(principal, view),
        deleted=view.stack.deleted if view.stack is not None else None,
        tags=_tags(view, await views.tags(principal, view) or {}, version),
    )


async def _newest_stack_event(
    views: StackViews, principal: Principal, view: StackView
) -> StackEvent | None:
    """The newest event of the stack itself; ``None`` where the catalog has its deployments."""
    if view.stack is not None and view.recorded is None:
        return None
    return await views.newest_of(
        principal, view, lambda event: event.is_stack_itself and event.stack_id == view.arn
    )


async def _status(
    views: StackViews, principal: Principal, view: StackView, newest: StackEvent | None
) -> tuple[str, str | None]:
    if view.stack is not None and view.stack.deleted is not None:
        return DELETED, None
    if newest is not None:
        return newest.resource_status, newest.resource_status_reason
    last = await views.last_action(principal, view)
    if last is not None:
        deployment, action = last
        return status_of(deployment, action), deployment.message
    return (_NEW if view.stack is not None else "CREATE_IN_PROGRESS"), None


def _tags(view: StackView, recorded: dict[str, str], version: str) -> dict[str, str]:
    """The recorded tags, with the missing ones of ParallelCluster."""
    kind: Kind = "image" if "image" in view.kinds else "cluster"
    has_name = any(tag in recorded for tag in NAME_TAGS.values())
    name = {} if has_name else {NAME_TAGS[kind]: view.name}
    return {VERSION_TAG: version, **name, **recorded}
