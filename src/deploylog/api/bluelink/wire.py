"""Bluelink's Deploy Engine API in our words: its requests, its answers and its staging events."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TypeVar

import msgspec

from deploylog.api.bluelink.blueprint_changes import (
    render_beside,
    render_blueprint,
    render_diagnostics,
    render_no_blueprint,
    render_reconciliation,
    render_resource,
)
from deploylog.api.bluelink.errors import PARSE_FAILED, FieldProblem, InvalidFields
from deploylog.api.bluelink.instances import NO_RECORDS, Records
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
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.hub import Gap
from deploylog.events.retention import Cleanup
from deploylog.events.scope import Scope, segments
from deploylog.events.times import LATEST, MILLISECOND, SECOND

#: Where the engine looks for blueprints.
SCHEMES = ("file", "s3", "gcs", "azureblob", "https")

DEFAULT_FILE = "project.blueprint.yml"

#: A comment line without the blank line after it: with one, the client sees an empty event.
HEARTBEAT = b":\n"

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
)

#: The client listens for an error only for a second after an event; this is one that says nothing.
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
    """An object whose fields are not looked at."""


class CreateChangeset(
    msgspec.Struct, frozen=True, kw_only=True, rename=lambda name: name.replace("_", "")
):
    """What a client asks to have staged. Names are matched in lower case, as Go does."""

    file_source_scheme: str = ""
    directory: str = ""
    blueprint_file: str = ""
    blueprint_location_metadata: dict[str, object] = {}
    instance_id: str = ""
    instance_name: str = ""
    destroy: bool = False
    skip_drift_check: bool = False
    #: It may hold secrets.
    config: _Ignored = _Ignored()

    @property
    def scheme(self) -> str:
        """Where the plan is."""
        return self.file_source_scheme or "file"

    @property
    def file(self) -> str:
        """The plan's file in the directory."""
        return self.blueprint_file or DEFAULT_FILE

    @property
    def location(self) -> str:
        """The plan's place, as one text."""
        path = PurePosixPath(self.directory, self.file)
        return f"{self.scheme}://{path}"


def parse_create_changeset(body: bytes) -> CreateChangeset:
    """Read the request; raises InvalidInput, InvalidFields or PlanNotFound, in this order."""
    try:
        fields = msgspec.json.decode(body)
        given = {
            name.lower(): value
            for name, value in ({} if fields is None else fields).items()
            if value is not None
        }
        asked = msgspec.convert(given, CreateChangeset)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, AttributeError) as error:
        raise InvalidInput(PARSE_FAILED) from error
    if problems := list(_field_problems(asked)):
        raise InvalidFields(problems)
    _check_place(asked)
    return asked


def _field_problems(asked: CreateChangeset) -> Iterator[FieldProblem]:
    if asked.scheme not in SCHEMES:
        message = f"the value must be one of the following: {' '.join(SCHEMES)}"
        yield FieldProblem(location=".fileSourceScheme", message=message, type="oneof")
    if not asked.directory:
        message = "missing required value"
        yield FieldProblem(location=".directory", message=message, type="required")
    elif asked.scheme == "file" and not asked.directory.startswith("/"):
        message = "the value must be an absolute path"
        yield FieldProblem(location=".directory", message=message, type="absolute_path")


def _check_place(asked: CreateChangeset) -> None:
    """Raise unless the plan is a file on this machine."""
    host = asked.blueprint_location_metadata.get("host")
    if asked.scheme == "https" and not (isinstance(host, str) and host):
        raise InvalidInput(
            "missing host in location metadata which is required for the https file source scheme"
        )
    if asked.scheme != "file":
        raise PlanNotFound


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances a list is to show."""

    search: str = ""
    offset: int = 0
    #: 0 shows all.
    limit: int = 0

    def of(self, named: list[_T], name: Callable[[_T], str]) -> tuple[list[_T], int]:
        """Those to show, and how many there are in all."""
        found = [each for each in named if self.search.lower() in name(each).lower()]
        end = self.offset + self.limit if self.limit else None
        return found[self.offset : end], len(found)


def parse_window(query: Mapping[str, str]) -> Window:
    """Read a list's parameters; a number that is none counts as 0."""
    return Window(
        search=query.get("search", ""),
        offset=_number(query.get("offset", "")),
        limit=_number(query.get("limit", "")),
    )


def _number(text: str) -> int:
    # Python reads thousands of digits very slowly; no list is so long.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def find_by_id(stacks: Iterable[Stack], id: str) -> Stack | None:
    """The stack of this id."""
    return next((stack for stack in stacks if stack.id in (id, id.lower())), None)


def find_by_name(stacks: Iterable[Stack], name: str, project: str) -> Stack | None:
    """The stack of this name in ``project``, or else the first."""
    named = [stack for stack in stacks if stack.name == name]
    return next((stack for stack in named if stack.project == project), next(iter(named), None))


def find_instance(stacks: Sequence[Stack], asked: CreateChangeset, project: str) -> Stack | None:
    """The stack that a change set is asked for: by id if one is given, else by name."""
    if asked.instance_id:
        return find_by_id(stacks, asked.instance_id)
    return find_by_name(stacks, asked.instance_name, project) if asked.instance_name else None


def require_instance(stack: Stack | None, asked: CreateChangeset) -> None:
    """Raise StackNotFound unless there is one, or its name is that of one to come."""
    named = asked.instance_id or asked.instance_name
    if stack is None and named and (asked.instance_id or asked.destroy):
        raise StackNotFound(f'instance "{named}" not found')


def parse_moment_of_id(id: str) -> int | None:
    """The time (ns) that a UUID of version 7 begins with; ``None`` when ``id`` is no UUID."""
    try:
        milliseconds = uuid.UUID(id).int >> 80
    except ValueError:
        return None
    return min(milliseconds * MILLISECOND, LATEST)


# Answers


def render_health(now: int) -> bytes:
    """That the service is up."""
    return render_json({"timestamp": now // SECOND})


def render_accepted(changeset: Changeset) -> bytes:
    """A change set that is about to be staged."""
    told = _render_changeset(changeset, render_no_blueprint())
    return render_json({"data": {**told, "status": "STARTING"}})


def render_changeset(
    changeset: Changeset, changes: Changes, records: Records = NO_RECORDS
) -> bytes:
    """A change set with everything it would change, however much that is; ``records`` is what the
    log tells of the instance's resources.
    """
    instance_id = changeset.stack_id or ""
    told = _render_changeset(changeset, render_blueprint(changes, instance_id, records))
    return render_json(told | render_beside(changes, instance_id, records))


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
        "itemsDeleted": cleanup.forgotten,
        **error,
        "thresholdDate": cleanup.threshold // SECOND,
    }


# The staging channel

#: The events that end a change set's stream.
STAGING_ENDS = Filter(all_of=(any_of("type", tuple(CHANGESET_ENDS)),))

STAGING = Filter(all_of=(any_of("type", ("changeset.resource", *CHANGESET_ENDS)),))


def ends_staging(event: Event) -> bool:
    """Whether nothing follows on a change set's stream."""
    return event.type in CHANGESET_ENDS


def render_staging_event(event: Event, records: Records = NO_RECORDS) -> bytes:
    """An event of a change set, as a frame; ``records`` as of ``render_changeset``."""
    return _STAGING[event.type](event, records)


def _render_resource(event: Event, records: Records) -> bytes:
    change = _decoded(event, _RESOURCE, _nameless(event))
    timestamp = event.time // SECOND
    data = render_resource(
        change, instance_id=_instance_id(event), timestamp=timestamp, records=records
    )
    return _frame("resourceChanges", event, data, shorter_resources)


def _render_completed(event: Event, records: Records) -> bytes:
    changes, instance_id = _decoded(event, _CHANGES, Changes()), _instance_id(event)
    data: Json = {
        "changes": render_blueprint(changes, instance_id, records),
        "timestamp": event.time // SECOND,
    }
    data |= render_beside(changes, instance_id, records)
    return _frame("changeStagingComplete", event, data, shorter_blueprints)


def _render_drift(event: Event, records: Records) -> bytes:
    changes = _decoded(event, _CHANGES, Changes())
    data: Json = {
        "message": event.message or "",
        "reconciliationResult": render_reconciliation(changes, _instance_id(event), records),
        "timestamp": event.time // SECOND,
    }
    return _frame("driftDetected", event, data, shorter_drifts)


def _render_failed(event: Event, records: Records) -> bytes:
    changes = _decoded(event, _CHANGES, Changes())
    told = Diagnostic(level="error", message=event.message or "")
    problems = [each for each in changes.problems if each.level == "error"] or [told]
    data: Json = {
        "message": event.message or "",
        "diagnostics": render_diagnostics(problems),
        "timestamp": event.time // SECOND,
    }
    return _ATTENTION + _frame("error", event, data, _fewer_diagnostics)


def _fewer_diagnostics(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """The forms of an ``error`` event: only the first of many diagnostics."""
    diagnostics = data["diagnostics"]
    if isinstance(diagnostics, list) and len(diagnostics) > 1:
        yield {**data, "diagnostics": diagnostics[:1]}


_STAGING: dict[str, Callable[[Event, Records], bytes]] = {
    "changeset.resource": _render_resource,
    "changeset.completed": _render_completed,
    "changeset.drift": _render_drift,
    "changeset.failed": _render_failed,
}

#: Numbers keep the digits that the plan gives them.
_RESOURCE = msgspec.json.Decoder(ResourceChange, float_hook=Decimal)

_CHANGES = msgspec.json.Decoder(Changes, float_hook=Decimal)


def _decoded(event: Event, decoder: msgspec.json.Decoder[_T], otherwise: _T) -> _T:
    # Anybody who may write there can append such events, with any data: no reason to tear a
    # stream off, again and again.
    try:
        return decoder.decode(current_names(bytes(event.data or b"")))
    except (msgspec.DecodeError, RecursionError):
        return otherwise


def _nameless(event: NewEvent) -> ResourceChange:
    """What is known of a change whose event does not tell it."""
    name = event.subject or ""
    return ResourceChange(name=name, address=name, type="", action="none")


def _instance_id(event: NewEvent) -> str:
    """The id of the stack that the change set is for, if there is one."""
    return next((id for scope in event.scopes if (id := _stack_id(scope))), "")


def _stack_id(scope: Scope) -> str | None:
    names = segments(scope)
    return names[3] if len(names) > 3 and names[::2][:2] == ("project", "stack") else None


def _frame(type: str, event: Event, data: Json, forms: Forms = no_forms) -> bytes:
    return render_fitting_frame(type, event.id, data, forms)


def render_gap(gap: Gap) -> bytes:
    """That events are missing. The client takes the unknown type for an empty event."""
    what = "damaged" if gap.reason == "damaged" else "no longer retained"
    message = f"events up to position {gap.floor} are {what}"
    return b"event: gap\ndata: %b\n\n" % render_json({"message": message})
