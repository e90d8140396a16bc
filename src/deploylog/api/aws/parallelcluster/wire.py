"""ParallelCluster's get{Image,Cluster}StackEvents: its requests and pages."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from deploylog.errors import InvalidInput
from deploylog.ingest.cloudformation.stack_event import StackEvent

#: AWS ParallelCluster API, StackEvent, resourceStatus: clients reject a page with any other.
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

#: Replacements for CloudFormation's other statuses.
REPLACEMENTS = {
    "REVIEW_IN_PROGRESS": "CREATE_IN_PROGRESS",
    "ROLLBACK_IN_PROGRESS": "DELETE_IN_PROGRESS",
    "ROLLBACK_FAILED": "DELETE_FAILED",
    "ROLLBACK_COMPLETE": "DELETE_COMPLETE",
}

#: Replacements for statuses outside both tables, by suffix.
_SUFFIXES = {"_IN_PROGRESS": "UPDATE_IN_PROGRESS", "_FAILED": "UPDATE_FAILED"}

#: The smithy model's ImageId and ClusterName.
_ID_PATTERN = "^[a-zA-Z][a-zA-Z0-9-]+$"
_ID = re.compile("[a-zA-Z][a-zA-Z0-9-]+")


class StackEventsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the events of an image's or a cluster's stack."""

    id: str
    region: str
    next_token: str | None


class ParallelClusterEvent(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """ParallelCluster's StackEvent. Clients reject null for a missing value."""

    stack_id: str
    event_id: str
    stack_name: str
    logical_resource_id: str
    physical_resource_id: str
    resource_type: str
    timestamp: str
    resource_status: str
    resource_status_reason: str | None = None
    #: JSON in a string.
    resource_properties: str | None = None
    client_request_token: str | None = None


class StackEventsPage(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """The response: events newest first, and the token of the next page, if any."""

    events: list[ParallelClusterEvent]
    next_token: str | None = None


def parse_request(
    *, id: str, query_string: bytes, regions: Sequence[str], default_region: str
) -> StackEventsRequest:
    """Parse a request, checking it in ParallelCluster's order; raises InvalidInput.

    Of repeated parameters the last counts; an empty one is missing.
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
    return StackEventsRequest(id=id, region=region, next_token=given.get("nextToken") or None)


def render_page(events: Sequence[StackEvent], next_token: str | None, *, raw: bool) -> bytes:
    """The response, indented and with sorted keys, as from ParallelCluster's server."""
    rendered = [render_event(event, raw=raw) for event in events]
    page = StackEventsPage(events=rendered, next_token=next_token)
    return msgspec.json.format(msgspec.json.encode(page, order="sorted"), indent=2) + b"\n"


def render_event(event: StackEvent, *, raw: bool = False) -> ParallelClusterEvent:
    """The event; with ``raw``, statuses outside the published enum are not replaced."""
    fields: dict[str, Any] = {
        name: getattr(event, name) for name in ParallelClusterEvent.__struct_fields__
    }
    status = event.resource_status
    if raw or status in STATUSES:
        return ParallelClusterEvent(**fields)
    reason = event.resource_status_reason
    return ParallelClusterEvent(
        **fields
        | {
            "resource_status": published_status(status),
            "resource_status_reason": f"{status}: {reason}" if reason else status,
        }
    )


def published_status(status: str) -> str:
    """The published status that comes closest to ``status``."""
    if status in STATUSES:
        return status
    if status in REPLACEMENTS:
        return REPLACEMENTS[status]
    matches = (each for suffix, each in _SUFFIXES.items() if status.endswith(suffix))
    return next(matches, "UPDATE_COMPLETE")
