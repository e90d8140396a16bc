"""Descriptions: what CloudFormation says of a stack beside its events."""

import msgspec

from deploylog.api.aws.stacks.arn import Kind
from deploylog.api.aws.stacks.stack_events import status_of
from deploylog.api.aws.stacks.stack_view import DELETED, StackView, StackViews
from deploylog.events.access import Principal
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: AWS ParallelCluster's tags: by these its command line knows its stacks.
VERSION_TAG = "parallelcluster:version"
NAME_TAGS: dict[Kind, str] = {
    "image": "parallelcluster:image_id",
    "cluster": "parallelcluster:cluster-name",
}

#: The status of a stack that nothing was done to yet.
_NOTHING_DONE = "REVIEW_IN_PROGRESS"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A stack. Times in ns since 1970 (UTC)."""

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
    """Describe a stack; ``version`` is ParallelCluster's, where the stack does not say its own."""
    own = await _own(views, principal, view)
    status, reason = await _status(views, principal, view, own)
    return Description(
        arn=view.arn,
        name=view.name,
        status=status,
        reason=reason,
        created=await views.created_at(principal, view),
        deleted=view.stack.deleted if view.stack is not None else None,
        tags=_tags(view, await views.tags(principal, view) or {}, version),
    )


async def _own(views: StackViews, principal: Principal, view: StackView) -> StackEvent | None:
    """The newest event of the stack itself, where no catalogue tells what was done to it."""
    if view.stack is not None and view.collected is None:
        return None
    return await views.newest_of(
        principal, view, lambda event: event.is_stack_itself and event.stack_id == view.arn
    )


async def _status(
    views: StackViews, principal: Principal, view: StackView, own: StackEvent | None
) -> tuple[str, str | None]:
    if view.stack is not None and view.stack.deleted is not None:
        return DELETED, None
    if own is not None:
        return own.resource_status, own.resource_status_reason
    deployed = await views.deployed(principal, view)
    if deployed is not None:
        deployment, action = deployed
        return status_of(deployment, action), deployment.message
    return (_NOTHING_DONE if view.stack is not None else "CREATE_IN_PROGRESS"), None


def _tags(view: StackView, own: dict[str, str], version: str) -> dict[str, str]:
    """Its ``own``, and what they lack of those by which it is known for an image, or a cluster."""
    kind: Kind = "image" if "image" in view.kinds else "cluster"
    named = any(tag in own for tag in NAME_TAGS.values())
    return {VERSION_TAG: version, **({} if named else {NAME_TAGS[kind]: view.name}), **own}
