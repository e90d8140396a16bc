"""RFS's ListStackEvents: its request, filter, markers and page."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from deploylog.api.rfs.errors import RfsError
from deploylog.errors import Forbidden
from deploylog.events.chronology import Moment, moment_of
from deploylog.events.event import Event
from deploylog.events.filters import AnyOf, Field, Filter
from deploylog.events.ids import POSITION_BITS
from deploylog.events.times import SECOND, render_time

#: RFS's event types by ours. The API leaves out events of any other type.
EVENT_TYPES: dict[str, str] = {
    "resource.create.started": "CREATION_IN_PROGRESS",
    "resource.create.progress": "CREATION_IN_PROGRESS",
    "resource.create.completed": "CREATION_COMPLETE",
    "resource.create.failed": "CREATION_FAILED",
    "resource.create.skipped": "LOG",
    "resource.update.started": "UPDATE_IN_PROGRESS",
    "resource.update.progress": "UPDATE_IN_PROGRESS",
    "resource.update.completed": "UPDATE_COMPLETE",
    "resource.update.failed": "UPDATE_FAILED",
    "resource.update.skipped": "LOG",
    "resource.delete.started": "DELETION_IN_PROGRESS",
    "resource.delete.progress": "DELETION_IN_PROGRESS",
    "resource.delete.completed": "DELETION_COMPLETE",
    "resource.delete.failed": "DELETION_FAILED",
    "resource.delete.skipped": "DELETION_SKIPPED",
    "resource.read.started": "LOG",
    "resource.read.progress": "LOG",
    "resource.read.completed": "LOG",
    "resource.read.failed": "ERROR",
    "resource.read.skipped": "LOG",
    "resource.import.started": "LOG",
    "resource.import.progress": "LOG",
    "resource.import.completed": "LOG",
    "resource.import.failed": "ERROR",
    "resource.import.skipped": "LOG",
    "resource.rollback.started": "LOG",
    "resource.rollback.progress": "LOG",
    "resource.rollback.completed": "LOG",
    "resource.rollback.failed": "ERROR",
    "resource.rollback.skipped": "LOG",
    "deployment.started": "LOG",
    "deployment.completed": "LOG",
    "deployment.failed": "ERROR",
    "deployment.log": "LOG",
    "deployment.error": "ERROR",
    "deployment.drift": "DRIFT",
    "deployment.summary": "SUMMARY",
}

_PARAMETERS = ("stack_id", "deployment_id", "filter", "field", "marker", "limit")

_FILTERED: dict[str, Field] = {
    "event_type": "type",
    "resource_type": "resource_type",
    "resource_name": "resource_name",
}

#: The key that each value of ``field`` selects.
_SELECTABLE = {
    "elapsed_seconds": "elapsed_seconds",
    "event_message": "event_message",
    "event_type": "event_type",
    "resource_id_key": "resource_id_key",
    "resource_id_value": "resource_id_value",
    "resource_key": "resource_key",
    "resource_type": "resource_type",
    "resource_name": "resource_name",
    "timestamp": "time",
    "time": "time",
}

_PROJECT_ID = re.compile(r"[A-Za-z0-9-]*")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]*")
_STACK_NAME = re.compile(r"[A-Za-z一-龥][A-Za-z0-9_\-一-龥]{0,127}")
_ID = re.compile(r"[A-Za-z0-9-]*")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]*")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_LIMIT = re.compile(r"[1-9][0-9]{0,2}|1000")

#: Events on a page when a marker comes without a limit.
_PAGE = 100


class StackEventsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the events of a stack."""

    project_id: str
    stack_name: str
    stack_id: str | None
    deployment_id: str | None
    filter: Filter
    #: As sent: a marker is valid only for the same text.
    filter_text: str
    #: The keys to render, or ``None`` for all.
    fields: frozenset[str] | None
    marker: str | None
    #: ``EventLog.epoch``: a marker is valid only for the same log.
    epoch: int = 0
    #: Events on a page, or ``None`` for all in one response.
    limit: int | None


class Bound(msgspec.Struct, frozen=True):
    """The edge of a page: all events on one side of a moment, in order of time."""

    side: Literal["older", "newer"]
    moment: Moment


def parse_request(
    *,
    project_id: str,
    stack_name: str,
    query_string: bytes,
    headers: Mapping[str, str],
    body: bytes,
    strict: bool = False,
) -> StackEventsRequest:
    """Parse a request, checking it in RFS's order; ``strict`` rejects unknown parameters.

    Path arguments are decoded, the query string is raw, and header names are in lower case.
    """
    _check_client_request_id(headers.get("client-request-id"))
    _check_path(project_id, stack_name)
    given = _parse_body(body) | _parse_query(query_string, strict=strict)
    filter_text = given.get("filter", "")
    request = StackEventsRequest(
        project_id=project_id,
        stack_name=stack_name,
        stack_id=_parse_id(given, "stack_id"),
        deployment_id=_parse_id(given, "deployment_id"),
        filter=parse_filter(filter_text),
        filter_text=filter_text,
        fields=parse_fields(given.get("field", "")),
        marker=given.get("marker") or None,
        limit=_parse_limit(given),
    )
    if headers.get("x-project-id", "") not in ("", project_id):
        raise Forbidden("X-Project-Id and the path name different projects")
    return request


def _check_client_request_id(id: str | None) -> None:
    if id is None:
        raise RfsError("RF.10011001", field="Client-Request-Id")
    # RFS recommends a UUID, but accepts any id.
    _check_length(id, "Client-Request-Id", 1, 128)
    if not _REQUEST_ID.fullmatch(id):
        raise RfsError("RF.10011031", field="Client-Request-Id")


def _check_path(project_id: str, stack_name: str) -> None:
    _check_length(project_id, "project_id", 1, 64)
    if not _PROJECT_ID.fullmatch(project_id):
        raise RfsError("RF.10011016", field="project_id")
    if not _STACK_NAME.fullmatch(stack_name):
        raise RfsError("RF.10011010", field="stack_name")


def _check_length(value: str, field: str, minimum: int, maximum: int) -> None:
    if len(value) < minimum:
        raise RfsError("RF.10011006", field=field)
    if len(value) > maximum:
        raise RfsError("RF.10011005", field=field)


def _parse_query(query_string: bytes, *, strict: bool) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in query_string.split(b"&"):
        # Not parse_qsl: clients encode a space as %20, so a "+" is a plus sign.
        name, _, value = (unquote(part) for part in pair.partition(b"="))
        if name in values:
            raise RfsError("RF.10011093", field=name)
        if name in _PARAMETERS:
            values[name] = value
        elif strict and pair:
            raise RfsError("RF.10011002", field=name)
    return values


def _parse_body(body: bytes) -> dict[str, Any]:
    """The ids in the body, where the Terraform provider sends them, although this is a GET."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    ids = {name: document.get(name) for name in ("stack_id", "deployment_id")}
    return {name: value for name, value in ids.items() if value is not None}


def _parse_id(given: Mapping[str, Any], name: str) -> str | None:
    id = given.get(name)
    if id is None:
        return None
    if not isinstance(id, str):
        raise RfsError("RF.10011038", field=name)
    _check_length(id, name, 36, 36)
    if not _ID.fullmatch(id):
        raise RfsError("RF.10011008", field=name)
    return id


def _parse_limit(given: Mapping[str, str]) -> int | None:
    if "limit" not in given:
        return _PAGE if given.get("marker") else None
    if not _LIMIT.fullmatch(given["limit"]):
        raise RfsError("RF.10011036", field="limit")
    return int(given["limit"])


def parse_filter(text: str) -> Filter:
    """``a==1|a==2,b==3``: comma is AND; bar is OR and binds tighter.

    A filter that contains a semicolon is ignored.
    """
    if len(text) > 512:
        raise RfsError("RF.10011005", field="filter")
    groups: dict[str, frozenset[str]] = {"event_type": frozenset(EVENT_TYPES.values())}
    if text and ";" not in text:
        groups |= _parse_groups(text)
    return Filter(all_of=tuple(_any_of(name, values) for name, values in groups.items()))


def _parse_groups(text: str) -> dict[str, frozenset[str]]:
    parsed = [[_parse_condition(each) for each in group.split("|")] for group in text.split(",")]
    groups = [_group(conditions) for conditions in parsed]
    if len(dict(groups)) < len(groups):
        raise RfsError("RF.10011093", field="filter")
    return dict(groups)


def _parse_condition(text: str) -> tuple[str, str]:
    name, operator, value = text.partition("==")
    if not operator:
        raise RfsError("RF.10011088", field="filter")
    if name not in _FILTERED:
        raise RfsError("RF.10011087", field="filter")
    if not _WORD.fullmatch(value):
        raise RfsError("RF.10011089", field="filter")
    return name, value


def _group(conditions: Sequence[tuple[str, str]]) -> tuple[str, frozenset[str]]:
    names = {name for name, _ in conditions}
    if len(names) > 1:
        raise RfsError("RF.10011028", field="filter")
    return names.pop(), frozenset(value for _, value in conditions)


def _any_of(name: str, values: frozenset[str]) -> AnyOf:
    if name == "event_type":
        types = tuple(type for type, rfs_type in EVENT_TYPES.items() if rfs_type in values)
        return AnyOf(field="type", values=types)
    return AnyOf(field=_FILTERED[name], values=tuple(sorted(values)))


def parse_fields(text: str) -> frozenset[str] | None:
    """The keys that ``field`` selects, always with ``event_type``; ``None`` selects all."""
    if not text:
        return None
    if len(text) > 128:
        raise RfsError("RF.10011005", field="field")
    # event_type is always selected, so repeating it is no error.
    keys = [key for name in text.split(",") if (key := _parse_field(name)) != "event_type"]
    if len(set(keys)) < len(keys):
        raise RfsError("RF.10011093", field="field")
    return frozenset((*keys, "event_type"))


def _parse_field(name: str) -> str:
    if not name:
        raise RfsError("RF.10011037", field="field")
    if not _WORD.fullmatch(name):
        raise RfsError("RF.10011031", field="field")
    if name not in _SELECTABLE:
        raise RfsError("RF.10011002", field="field")
    return _SELECTABLE[name]


_SIDES: tuple[Literal["older", "newer"], ...] = ("older", "newer")

#: Bytes of a marker: the side, the time and the position, then the checksum. Their sum is a
#: multiple of three, so that base64 needs no padding, which the Terraform provider would not
#: escape.
_TIME_BYTES = 8
_BOUND_BYTES = 1 + _TIME_BYTES + POSITION_BITS // 8
_CHECKSUM_BYTES = 10

_MARKER = re.compile(r"[A-Za-z0-9_-]{32}")


def render_marker(bound: Bound, request: StackEventsRequest, stack_id: str) -> str:
    """The token of the page at ``bound``, valid only for the same request."""
    moment = bound.moment
    data = b"".join(
        (
            bytes([_SIDES.index(bound.side)]),
            moment.time.to_bytes(_TIME_BYTES),
            moment.position.to_bytes(POSITION_BITS // 8),
        )
    )
    return base64.urlsafe_b64encode(data + _checksum(data, request, stack_id)).decode()


def parse_marker(request: StackEventsRequest, stack_id: str) -> Bound | None:
    """The bound in the request's marker; ``None`` without one. Raises RfsError."""
    if request.marker is None:
        return None
    if not _MARKER.fullmatch(request.marker):
        raise RfsError("RF.10011038", field="marker")
    token = base64.urlsafe_b64decode(request.marker)
    data, checksum = token[:_BOUND_BYTES], token[_BOUND_BYTES:]
    if checksum != _checksum(data, request, stack_id) or data[0] >= len(_SIDES):
        raise RfsError("RF.10011038", field="marker")
    time, position = data[1 : 1 + _TIME_BYTES], data[1 + _TIME_BYTES :]
    return Bound(_SIDES[data[0]], Moment(int.from_bytes(time), int.from_bytes(position)))


def _checksum(data: bytes, request: StackEventsRequest, stack_id: str) -> bytes:
    # Not a secret: a marker reveals nothing that its request does not. It only rejects markers of
    # other requests, which would skip or repeat events.
    parameters = msgspec.json.encode([stack_id, request.deployment_id, request.filter_text])
    # It also rejects markers from before a restore, whose positions belong to other events.
    salt = request.epoch.to_bytes(hashlib.blake2b.SALT_SIZE)
    return hashlib.blake2b(data + parameters, digest_size=_CHECKSUM_BYTES, salt=salt).digest()


def render_page(
    events: Sequence[Event],
    request: StackEventsRequest,
    stack_id: str,
    bound: Bound | None,
    *,
    more: bool = False,
) -> bytes:
    """The response: ``events`` start at ``bound``, and may exceed the limit by one.

    There is a next page if they do, or if ``more`` is set.
    """
    page = events[: request.limit]
    ordered = sorted(page, key=moment_of, reverse=True)
    more = more or len(events) > len(page)
    bounds = _neighbours(ordered, bound, more=more) if request.limit is not None else {}
    markers = {key: render_marker(each, request, stack_id) for key, each in bounds.items()}
    return msgspec.json.encode(
        {
            "stack_events": [render_event(event, request.fields) for event in ordered],
            "page_info": {**markers, "current_count": len(page)},
        }
    )


def _neighbours(ordered: Sequence[Event], bound: Bound | None, *, more: bool) -> dict[str, Bound]:
    """The bounds of the next and the previous page, if they exist."""
    if not ordered:
        return {}
    goes_back = bound is not None and bound.side == "newer"
    older = goes_back or more
    newer = more if goes_back else bound is not None
    neighbours = {
        "next_marker": Bound("older", moment_of(ordered[-1])) if older else None,
        "previous_marker": Bound("newer", moment_of(ordered[0])) if newer else None,
    }
    return {key: each for key, each in neighbours.items() if each is not None}


def render_event(event: Event, fields: frozenset[str] | None) -> dict[str, str | int]:
    """RFS's StackEvent, with the selected keys that have a value."""
    values = ((key, get(event)) for key, get in _KEYS.items() if fields is None or key in fields)
    return {key: value for key, value in values if value is not None}


def _render_time(event: Event) -> str:
    """The time, truncated to seconds: RFS has no fractions."""
    return f"{render_time(event.time)[:19]}Z"


def _render_message(event: Event) -> str:
    return event.message if event.message is not None else event.type.replace(".", " ")


def _render_elapsed(event: Event) -> int | None:
    return None if event.elapsed is None else round(event.elapsed / SECOND)


_KEYS: dict[str, Callable[[Event], str | int | None]] = {
    "resource_type": lambda event: event.resource.type if event.resource else None,
    "resource_name": lambda event: event.resource.name if event.resource else None,
    "resource_key": lambda event: event.resource.key if event.resource else None,
    "elapsed_seconds": _render_elapsed,
    "event_message": _render_message,
    "event_type": lambda event: EVENT_TYPES[event.type],
    "resource_id_key": lambda event: event.resource.id_key if event.resource else None,
    "resource_id_value": lambda event: event.resource.id_value if event.resource else None,
    "time": _render_time,
}
