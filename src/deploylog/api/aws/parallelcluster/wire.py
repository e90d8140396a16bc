"""ParallelCluster's get{Image,Cluster}StackEvents in our words: its requests and its pages."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from deploylog.errors import InvalidInput
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: AWS ParallelCluster API, StackEvent, resourceStatus: a client refuses the page for any other.
STATUSES = (
    "CREATE_IN_PROGRESS",
    "CREATE_FAILED",
    "CREATE_COMPLETE",
    "DELETE_IN_PROGRESS",
    "DELETE_FAILED",
    "DELETE_COMPLETE",
    "DELETE_SKIPPED",
    "UPDATE_IN_PROGRESS",
    "UPDATE_FAILED",
    "UPDATE_COMPLETE",
    "IMPORT_FAILED",
    "IMPORT_COMPLETE",
    "IMPORT_IN_PROGRESS",
    "IMPORT_ROLLBACK_IN_PROGRESS",
    "IMPORT_ROLLBACK_FAILED",
    "IMPORT_ROLLBACK_COMPLETE",
)

#: What CloudFormation says beside these, and what stands for it.
OTHERS = {
    "REVIEW_IN_PROGRESS": "CREATE_IN_PROGRESS",
    "ROLLBACK_IN_PROGRESS": "DELETE_IN_PROGRESS",
    "ROLLBACK_FAILED": "DELETE_FAILED",
    "ROLLBACK_COMPLETE": "DELETE_COMPLETE",
}

#: Where the table knows nothing, how the status ends.
_ENDS = {"_IN_PROGRESS": "UPDATE_IN_PROGRESS", "_FAILED": "UPDATE_FAILED"}

#: The smithy model's ImageId and ClusterName.
_ID_PATTERN = "^[a-zA-Z][a-zA-Z0-9-]+$"
_ID = re.compile("[a-zA-Z][a-zA-Z0-9-]+")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the events of an image's or a cluster's stack."""

    id: str
    region: str
    next_token: str | None


class ParallelClusterEvent(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """ParallelCluster's StackEvent. A client takes no null for what is not there."""

    stack_id: str
    event_id: str
    stack_name: str
    logical_resource_id: str
    physical_resource_id: str
    resource_type: str
    timestamp: str
    resource_status: str
    resource_status_reason: str | None = None
    #: A text that holds JSON.
    resource_properties: str | None = None
    client_request_token: str | None = None


class StackEventsPage(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """The answer: events newest first, and where the next page begins if there is one."""

    events: list[ParallelClusterEvent]
    next_token: str | None = None


def parse_request(
    *, id: str, query_string: bytes, regions: Sequence[str], default_region: str
) -> Asked:
    """Read a request, checking it in the order that ParallelCluster does; raises InvalidInput.

    Of a parameter that is repeated the last counts; an empty one is not there.
    """
    if not _ID.fullmatch(id):
        raise InvalidInput(f"{id!r} does not match {_ID_PATTERN!r}", field="id")
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, errors="replace")
    given = dict(pairs)
    region = given.get("region") or default_region
    if not region:
        raise InvalidInput("region needs to be set", field="region")
    if region not in regions:
        raise InvalidInput(f"invalid or unsupported region '{region}'", field="region")
    return Asked(id=id, region=region, next_token=given.get("nextToken") or None)


def render_page(events: Sequence[StackEvent], next_token: str | None, *, raw: bool) -> bytes:
    """The answer, indented and in the order of the alphabet, as the published server has it."""
    page = StackEventsPage(events=[show(event, raw=raw) for event in events], next_token=next_token)
    return msgspec.json.format(msgspec.json.encode(page, order="sorted"), indent=2) + b"\n"


def show(event: StackEvent, *, raw: bool = False) -> ParallelClusterEvent:
    """The event; ``raw`` leaves statuses that the published enum does not have."""
    fields: dict[str, Any] = {
        name: getattr(event, name) for name in ParallelClusterEvent.__struct_fields__
    }
    status = event.resource_status
    if raw or status in STATUSES:
        return ParallelClusterEvent(**fields)
    said = event.resource_status_reason
    return ParallelClusterEvent(
        **fields
        | {
            "resource_status": published(status),
            "resource_status_reason": f"{status}: {said}" if said else status,
        }
    )


def published(status: str) -> str:
    """The one of the published statuses that stands for ``status``."""
    if status in STATUSES:
        return status
    if status in OTHERS:
        return OTHERS[status]
    return next((told for end, told in _ENDS.items() if status.endswith(end)), "UPDATE_COMPLETE")
