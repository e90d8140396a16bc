"""Bluelink's Deploy Engine API: its requests, responses and staging events."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TypeVar

import msgspec

from deploylog.api.bluelink.blueprint_changes import (
    render_blueprint,
    render_diagnostics,
    render_drift_and_warnings,
    render_no_blueprint,
    render_reconciliation,
    render_resource,
)
from deploylog.api.bluelink.errors import PARSE_FAILED, FieldProblem, InvalidFields
from deploylog.api.bluelink.resources import NO_RECORDS, Records
from deploylog.api.bluelink.truncation import (
    ANYTHING,
    Forms,
    Json,
    no_forms,
    render_fitting_frame,
    render_json,
    shorter_blueprints,
    shorter_drifts,
    shorter_resources,
)
from deploylog.deployments.catalog import Stack
from deploylog.deployments.changeset import (
    Changes,
    Changeset,
    Diagnostic,
    ResourceChange,
    Status,
    current_names,
)
from deploylog.deployments.lifecycle import CHANGESET_ENDS
from deploylog.errors import InvalidInput, PlanNotFound, StackNotFound
from deploylog.events.batch import Gap
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.retention import Cleanup
from deploylog.events.scope import Scope, segments
from deploylog.events.times import LATEST, MILLISECOND, SECOND

#: The engine's sources of blueprints.
SCHEMES = ("file", "s3", "gcs", "azureblob", "https")

DEFAULT_FILE = "project.blueprint.yml"

#: A comment line, without a blank line after it, which the client would take for an empty event.
HEARTBEAT = b":\n"

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
)

#: An event without effect: the client waits for an error only for a second after an event.
_ATTENTION = b"event: heartbeat\ndata: {}\n\n"

STATUSES: dict[Status, str] = {
    "staging": "STAGING_CHANGES",
    "staged": "CHANGES_STAGED",
    "drifted": "DRIFT_DETECTED",
    "failed": "FAILED",
}

_T = TypeVar("_T")


# Requests


class _Ignored(msgspec.Struct, frozen=True):
    """An object whose fields are ignored."""


class CreateChangeset(
    msgspec.Struct, frozen=True, kw_only=True, rename=lambda name: name.replace("_", "")
):
    """A request to stage changes. Names are matched in lower case, as in Go."""

    file_source_scheme: str = ""
    directory: str = ""
    blueprint_file: str = ""
    blueprint_location_metadata: dict[str, object] = {}
    instance_id: str = ""
    instance_name: str = ""
    destroy: bool = False
    skip_drift_check: bool = False
    #: May contain secrets.
    config: _Ignored = _Ignored()

    @property
    def scheme(self) -> str:
        return self.file_source_scheme or "file"

    @property
    def file(self) -> str:
        """The plan's file, relative to the directory."""
        return self.blueprint_file or DEFAULT_FILE

    @property
    def location(self) -> str:
        """The plan's location as a URL."""
        path = PurePosixPath(self.directory, self.file)
        return f"{self.scheme}://{path}"


def parse_create_changeset(body: bytes) -> CreateChangeset:
    """Parse the request; raises InvalidInput, InvalidFields or PlanNotFound, in this order."""
    try:
        fields = msgspec.json.decode(body)
        given = {
            name.lower(): value
            for name, value in ({} if fields is None else fields).items()
            if value is not None
        }
        new = msgspec.convert(given, CreateChangeset)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, AttributeError) as error:
        raise InvalidInput(PARSE_FAILED) from error
    if problems := list(_field_problems(new)):
        raise InvalidFields(problems)
    _check_source(new)
    return new


def _field_problems(new: CreateChangeset) -> Iterator[FieldProblem]:
    if new.scheme not in SCHEMES:
        message = f"the value must be one of the following: {' '.join(SCHEMES)}"
        yield FieldProblem(location=".fileSourceScheme", message=message, type="oneof")
    if not new.directory:
        message = "missing required value"
        yield FieldProblem(location=".directory", message=message, type="required")
    elif new.scheme == "file" and not new.directory.startswith("/"):
        message = "the value must be an absolute path"
        yield FieldProblem(location=".directory", message=message, type="absolute_path")


def _check_source(new: CreateChangeset) -> None:
    """Raise unless the plan is a file on this machine."""
    host = new.blueprint_location_metadata.get("host")
    if new.scheme == "https" and not (isinstance(host, str) and host):
        raise InvalidInput(
            "missing host in location metadata which is required for the https file source scheme"
        )
    if new.scheme != "file":
        raise PlanNotFound


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a list of instances to show."""

    search: str = ""
    offset: int = 0
    #: 0 is no limit.
    limit: int = 0

    def of(self, items: list[_T], name: Callable[[_T], str]) -> tuple[list[_T], int]:
        """The items to show, and how many match in all."""
        found = [each for each in items if self.search.lower() in name(each).lower()]
        end = self.offset + self.limit if self.limit else None
        return found[self.offset : end], len(found)


def parse_window(query: Mapping[str, str]) -> Window:
    """Parse a list's parameters; an invalid number counts as 0."""
    return Window(
        search=query.get("search", ""),
        offset=_number(query.get("offset", "")),
        limit=_number(query.get("limit", "")),
    )


def _number(text: str) -> int:
    # Python parses thousands of digits very slowly; no list is that long.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def find_by_id(stacks: Iterable[Stack], id: str) -> Stack | None:
    """The stack of this id."""
    return next((stack for stack in stacks if stack.id in (id, id.lower())), None)


def find_by_name(stacks: Iterable[Stack], name: str, project: str) -> Stack | None:
    """The stack of this name in ``project``, or else the first one of any project."""
    found = [stack for stack in stacks if stack.name == name]
    return next((stack for stack in found if stack.project == project), next(iter(found), None))


def find_instance(stacks: Sequence[Stack], new: CreateChangeset, project: str) -> Stack | None:
    """The stack that the change set is for, by id if the request has one, or else by name."""
    if new.instance_id:
        return find_by_id(stacks, new.instance_id)
    return find_by_name(stacks, new.instance_name, project) if new.instance_name else None


def require_instance(stack: Stack | None, new: CreateChangeset) -> None:
    """Raise StackNotFound if the stack is missing and the request does not create one by name."""
    reference = new.instance_id or new.instance_name
    if stack is None and reference and (new.instance_id or new.destroy):
        raise StackNotFound(f'instance "{reference}" not found')


def parse_time_of_id(id: str) -> int | None:
    """The time (ns) in a UUID of version 7; ``None`` when ``id`` is not a UUID."""
    try:
        milliseconds = uuid.UUID(id).int >> 80
    except ValueError:
        return None
    return min(milliseconds * MILLISECOND, LATEST)


# Responses


def render_health(now: int) -> bytes:
    """The response of a running service."""
    return render_json({"timestamp": now // SECOND})


def render_accepted(changeset: Changeset) -> bytes:
    """A change set whose staging starts."""
    body = _render_changeset(changeset, render_no_blueprint())
    return render_json({"data": {**body, "status": "STARTING"}})


def render_changeset(
    changeset: Changeset, changes: Changes, records: Records = NO_RECORDS
) -> bytes:
    """A change set with all its changes, never truncated.

    ``records`` are the recorded states of the instance's resources.
    """
    instance_id = changeset.stack_id or ""
    body = _render_changeset(changeset, render_blueprint(changes, instance_id, records))
    return render_json(body | render_drift_and_warnings(changes, instance_id, records))


def _render_changeset(changeset: Changeset, changes: Json) -> Json:
    instance = {"instanceId": changeset.stack_id} if changeset.stack_id else {}
    return {
        "id": changeset.id,
        **instance,
        "destroy": changeset.destroy,
        "status": STATUSES[changeset.status],
        "blueprintLocation": changeset.location,
        "changes": changes,
        "created": changeset.created // SECOND,
    }


def render_cleanup(cleanup: Cleanup) -> Json:
    """``CleanupOperation``."""
    ended = {"endedAt": cleanup.ended // SECOND} if cleanup.ended is not None else {}
    error = {"errorMessage": cleanup.error} if cleanup.error is not None else {}
    return {
        "id": cleanup.id,
        "cleanupType": cleanup.kind,
        "status": cleanup.status,
        "startedAt": cleanup.started // SECOND,
        **ended,
        "itemsDeleted": cleanup.deleted,
        **error,
        "thresholdDate": cleanup.threshold // SECOND,
    }


# The staging channel

#: The events that end a change set's stream.
STAGING_ENDS = Filter(all_of=(any_of("type", tuple(CHANGESET_ENDS)),))

STAGING = Filter(all_of=(any_of("type", ("changeset.resource", *CHANGESET_ENDS)),))


def ends_staging(event: Event) -> bool:
    """Whether the event ends a change set's stream."""
    return event.type in CHANGESET_ENDS


def render_staging_event(event: Event, records: Records = NO_RECORDS) -> bytes:
    """An event of a change set as a frame; ``records`` as for ``render_changeset``."""
    return _STAGING[event.type](event, records)


def _render_resource(event: Event, records: Records) -> bytes:
    change = _decode(event, _RESOURCE, _unknown_change(event))
    timestamp = event.time // SECOND
    data = render_resource(
        change, instance_id=_instance_id(event), timestamp=timestamp, records=records
    )
    return _frame("resourceChanges", event, data, shorter_resources)


def _render_completed(event: Event, records: Records) -> bytes:
    changes, instance_id = _decode(event, _CHANGES, Changes()), _instance_id(event)
    data: Json = {
        "changes": render_blueprint(changes, instance_id, records),
        "timestamp": event.time // SECOND,
    }
    data |= render_drift_and_warnings(changes, instance_id, records)
    return _frame("changeStagingComplete", event, data, shorter_blueprints)


def _render_drift(event: Event, records: Records) -> bytes:
    changes = _decode(event, _CHANGES, Changes())
    data: Json = {
        "message": event.message or "",
        "reconciliationResult": render_reconciliation(changes, _instance_id(event), records),
        "timestamp": event.time // SECOND,
    }
    return _frame("driftDetected", event, data, shorter_drifts)


def _render_failed(event: Event, records: Records) -> bytes:
    changes = _decode(event, _CHANGES, Changes())
    default = Diagnostic(level="error", message=event.message or "")
    problems = [each for each in changes.problems if each.level == "error"] or [default]
    data: Json = {
        "message": event.message or "",
        "diagnostics": render_diagnostics(problems),
        "timestamp": event.time // SECOND,
    }
    return _ATTENTION + _frame("error", event, data, _fewer_diagnostics)


def _fewer_diagnostics(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """The only shorter form of an ``error`` event: with its first diagnostic."""
    diagnostics = data["diagnostics"]
    if isinstance(diagnostics, list) and len(diagnostics) > 1:
        yield {**data, "diagnostics": diagnostics[:1]}


_STAGING: dict[str, Callable[[Event, Records], bytes]] = {
    "changeset.resource": _render_resource,
    "changeset.completed": _render_completed,
    "changeset.drift": _render_drift,
    "changeset.failed": _render_failed,
}

#: Decimal, so that numbers keep the plan's digits.
_RESOURCE = msgspec.json.Decoder(ResourceChange, float_hook=Decimal)

_CHANGES = msgspec.json.Decoder(Changes, float_hook=Decimal)


def _decode(event: Event, decoder: msgspec.json.Decoder[_T], otherwise: _T) -> _T:
    # Anyone with write access can append such events with any data; invalid data must not break
    # the stream at every reconnect.
    try:
        return decoder.decode(current_names(bytes(event.data or b"")))
    except (msgspec.DecodeError, RecursionError):
        return otherwise


def _unknown_change(event: NewEvent) -> ResourceChange:
    """The change of an event whose data is invalid."""
    name = event.subject or ""
    return ResourceChange(name=name, address=name, type="", action="none")


def _instance_id(event: NewEvent) -> str:
    """The id of the change set's stack; empty if it has none."""
    return next((id for scope in event.scopes if (id := _stack_id(scope))), "")


def _stack_id(scope: Scope) -> str | None:
    names = segments(scope)
    return names[3] if len(names) > 3 and names[::2][:2] == ("project", "stack") else None


def _frame(type: str, event: Event, data: Json, forms: Forms = no_forms) -> bytes:
    return render_fitting_frame(type, event.id, data, forms)


def render_gap(gap: Gap) -> bytes:
    """A frame that reports missing events. Its type is unknown to the client: an empty event."""
    state = "damaged" if gap.reason == "damaged" else "no longer retained"
    message = f"events up to position {gap.floor} are {state}"
    return b"event: gap\ndata: %b\n\n" % render_json({"message": message})
