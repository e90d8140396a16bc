"""EscapeKit's event service: its queries, its events, and its Inventory's webhook."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from deploylog.api.escape.errors import INVALID_JSON
from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import AnyOf, Filter
from deploylog.events.scope import ROOT, Scope, scope, segments
from deploylog.events.store import Query
from deploylog.events.times import LATEST

#: Our event types by Escape's. The API leaves out events of any other type.
EVENT_TYPES: dict[str, str] = {
    "CREATE_INVENTORY_PROJECT": "inventory.project.created",
    "NEW_INVENTORY_APPLICATION": "inventory.application.created",
    "UPLOAD_INVENTORY_APPLICATION": "inventory.release.uploaded",
    "UPDATE_INVENTORY_PROJECT_USER_ACL": "acl.inventory.user.updated",
    "DELETE_INVENTORY_PROJECT_USER_ACL": "acl.inventory.user.deleted",
    "UPDATE_INVENTORY_PROJECT_TEAM_ACL": "acl.inventory.team.updated",
    "DELETE_INVENTORY_PROJECT_TEAM_ACL": "acl.inventory.team.deleted",
    "CREATE_STATE_PROJECT": "state.project.created",
    "CREATE_STATE_ENVIRONMENT": "state.environment.created",
    "CREATE_STATE_DEPLOYMENT": "state.deployment.created",
    "UPDATE_STATE_DEPLOYMENT": "state.deployment.updated",
    "REDEPLOY_STATE_DEPLOYMENT": "state.deployment.redeployed",
    "RERUN_SMOKE_TESTS": "state.deployment.smoke_tests_rerun",
    "DESTROY_REQUESTED": "state.deployment.destroy_requested",
    "ADD_BUILD": "build.added",
    "TRIGGER_BUILD_WEBHOOK": "build.webhook_triggered",
    "BUILD_FINISHED_EVENT": "build.finished",
    "UPDATE_STATE_PROJECT_USER_ACL": "acl.state.user.updated",
    "DELETE_STATE_PROJECT_USER_ACL": "acl.state.user.deleted",
    "UPDATE_STATE_PROJECT_TEAM_ACL": "acl.state.team.updated",
    "DELETE_STATE_PROJECT_TEAM_ACL": "acl.state.team.deleted",
    "USER_SIGNUP": "user.signed_up",
    "USER_CONFIRMED": "user.confirmed",
    "TEAM_CREATED": "team.created",
    "TEAM_DELETED": "team.deleted",
    "TEAM_MEMBER_UPDATED": "team.member.updated",
    "TEAM_MEMBER_DELETED": "team.member.deleted",
    "TEAM_SERVICE_ACCOUNT_CREATED": "team.service_account.created",
}

#: Escape has no type for test events of subscriptions; this one is ours.
_ESCAPE_TYPES = {ours: theirs for theirs, ours in EVENT_TYPES.items()} | {
    "subscription.test": "SUBSCRIPTION_TEST"
}

VISIBLE = Filter(all_of=(AnyOf(field="type", values=tuple(EVENT_TYPES.values())),))

MAX_PAGE = 1000

#: The source of events recorded through this API.
SOURCE = "escape"

_RESERVED = ("this", "string", "integer", "list", "dict", "func")

_INVENTORY_NAME = re.compile(rf"(?!(?:{'|'.join(_RESERVED)})\Z)[a-z][a-z0-9_-]+")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*(\.@)?|latest|@")

#: The syntax of the names in a path; a name that does not match exists nowhere.
# EscapeKit has [a-z]+[a-z0-9-_]+, which means the same, but takes quadratic time on long names.
_INVENTORY = (re.compile(rf"_|{_INVENTORY_NAME.pattern}"), _INVENTORY_NAME, _VERSION)
_STATE = (
    re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]+"),
    re.compile(r"[a-z][a-z0-9_-]*"),
    re.compile(r"[a-zA-Z_][a-zA-Z0-9_/-]*"),
)

_FIELDS = {
    "inventory": ("inventory_project", "inventory_application", "inventory_version"),
    "state": ("state_project", "state_environment", "state_deployment"),
}

_T = TypeVar("_T")


# Queries


class Parameters:
    """A query string: of repeated parameters the first counts, and empty ones are missing."""

    def __init__(self, query: str) -> None:
        """``query`` is as sent, still percent-encoded."""
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, value)

    def get(self, name: str) -> str:
        """The value; empty when it is missing."""
        return self._values.get(name, "")

    def number(self, name: str) -> int | None:
        """The value as an integer; ``None`` when it is missing. Raises InvalidInput."""
        text = self.get(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise InvalidInput(f"{name} must be an integer", field=name)
        # Python parses thousands of digits very slowly; no number here is that large.
        digits = text.lstrip("0")
        return int(digits or "0") if len(digits) < len(str(LATEST)) else LATEST


def parse_query(path: Scope | None, parameters: Parameters, *, page_size: int) -> Query | None:
    """The query for a page of events below ``path``; ``None`` if ``path`` is."""
    size = parameters.number("page_size")
    if size == 0:
        raise InvalidInput("page_size must be at least 1", field="page_size")
    before = parameters.number("page_from")
    if path is None:
        return None
    limit = min(size or page_size, MAX_PAGE)
    return Query(scope=path, filter=VISIBLE, before=before, limit=limit)


def parse_filters(parameters: Parameters) -> Scope | None:
    """The scope that the root query's filters name; a filter needs those before it."""
    for kind, fields in _FIELDS.items():
        if names := list(_leading([parameters.get(field) for field in fields])):
            return _scope(kind, _without_v(names) if kind == "inventory" else names)
    return ROOT


def _leading(names: Sequence[str]) -> Iterator[str]:
    """The names before the first that is missing."""
    for name in names:
        if not name:
            return
        yield name


def parse_inventory(names: Sequence[str]) -> Scope | None:
    """The scope of a project, or its application, or its version.

    ``None`` if none can have these names.
    """
    plain = _without_v(names)
    return _scope("inventory", plain) if _matches(plain, _INVENTORY) else None


def parse_state(names: Sequence[str]) -> Scope | None:
    """The scope of a project, or its environment, or its deployment.

    ``None`` if none can have these names.
    """
    return _scope("state", names) if _matches(names, _STATE) else None


def parse_deployment(parameters: Parameters) -> str:
    """The deployment's name, which may contain slashes; raises InvalidInput."""
    name = parameters.get("deployment")
    if not name:
        raise InvalidInput("Missing 'deployment' parameter", field="deployment")
    return name


def is_project(name: str) -> bool:
    """Whether a project, of the Inventory or of State, can have this name."""
    return any(_matches([name], syntax) for syntax in (_INVENTORY, _STATE))


def _matches(names: Sequence[str], syntax: Sequence[re.Pattern[str]]) -> bool:
    return all(pattern.fullmatch(name) for name, pattern in zip(names, syntax, strict=False))


def _scope(kind: str, names: Sequence[str]) -> Scope | None:
    """The scope of these names; ``None`` when they make no valid one."""
    try:
        return scope(kind, *names)
    except InvalidInput:
        return None


def _without_v(names: Sequence[str]) -> list[str]:
    """The names, the version without a leading ``v``."""
    return [*names[:2], *(version.removeprefix("v") or version for version in names[2:])]


# Events out


class EscapeEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """EscapeKit's event, under both names where its documentation has two."""

    allowed_groups: tuple[str, ...] = ()
    allowed_roles: tuple[str, ...] = ()
    data: msgspec.Raw | None = None
    id: str
    inventory_application: str | None = None
    inventory_namespace: str | None = None
    inventory_project: str | None = None
    inventory_version: str | None = None
    state_deployment: str | None = None
    state_environment: str | None = None
    state_project: str | None = None
    #: ns since 1970.
    timestamp: int
    type: str
    username: str | None = None


def render_events(events: Sequence[Event]) -> bytes:
    """A page."""
    return msgspec.json.encode([render_event(event) for event in events]) + b"\n"


def render_delivery(event: Event) -> bytes:
    """One event for a webhook or Slack, without the groups that may see it.

    Raises InvalidEvent for an event that EscapeKit has no form for.
    """
    if event.type not in _ESCAPE_TYPES:
        raise InvalidEvent(f"an event of type {event.type[:64]} has no escape format")
    return msgspec.json.encode(
        msgspec.structs.replace(render_event(event), allowed_groups=(), allowed_roles=())
    )


def name_type(type: str) -> str:
    """EscapeKit's name for our event type; ``type`` itself where it has none."""
    return _ESCAPE_TYPES.get(type, type)


def render_event(event: Event) -> EscapeEvent:
    """One event."""
    inventory, state = _names(event, "inventory"), _names(event, "state")
    groups = tuple(sorted(event.groups))
    return EscapeEvent(
        allowed_groups=groups,
        allowed_roles=groups,
        data=_object(event.data),
        id=str(event.position),
        inventory_project=inventory[0],
        inventory_namespace=inventory[0],
        inventory_application=inventory[1],
        inventory_version=inventory[2],
        state_project=state[0],
        state_environment=state[1],
        state_deployment=state[2],
        timestamp=event.time,
        # Queries find only types that have a name; so does a delivery, but for test events.
        type=_ESCAPE_TYPES[event.type],
        username=event.actor or None,
    )


def _names(event: Event, kind: str) -> list[str | None]:
    """The three names in the first scope of the kind, ``None`` for missing ones."""
    found = next((path for path in event.scopes if path.startswith(f"{kind}/")), kind)
    return [*segments(Scope(found))[1:4], None, None, None][:3]


def _object(data: msgspec.Raw | None) -> msgspec.Raw | None:
    """The data, if it is an object and not an empty one."""
    if data is None or not (text := bytes(data).strip()).startswith(b"{"):
        return None
    return data if text[1:-1].strip() else None


# Events in


class _Body(msgspec.Struct, frozen=True):
    """A posted event. Other keys are ignored."""

    type: str | None = None
    timestamp: int | str | None = None
    username: str | None = None
    allowed_groups: tuple[str, ...] | None = None
    allowed_roles: tuple[str, ...] | None = None
    inventory_project: str | None = None
    inventory_namespace: str | None = None
    inventory_application: str | None = None
    inventory_version: str | None = None
    state_project: str | None = None
    state_environment: str | None = None
    state_deployment: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Upload(msgspec.Struct, frozen=True):
    """An Inventory's notification of an upload."""

    project: str
    unit: str
    version: str
    username: str | None = None


#: Its keys that are recorded as the event's data.
_UPLOAD_DATA = ("downstream_hooks", "project_hooks", "release", "unit_hooks")

#: The kind of scope that an event requires, by the prefix of its type.
_REQUIRED_KINDS = {
    "inventory.": "inventory",
    "acl.inventory.": "inventory",
    "state.": "state",
    "acl.state.": "state",
    "build.": "state",
    "user.": "user",
    "team.": "team",
}


def parse_new_event(body: bytes, *, now: int, upload_groups: Sequence[str]) -> NewEvent:
    """Parse a posted event; raises InvalidInput. An upload is visible to ``upload_groups``."""
    document = _document(body)
    if "event" in document and "type" not in document:
        return _upload(body, document, now=now, groups=upload_groups)
    event = _decode(body, _Body)
    type = EVENT_TYPES.get(event.type or "")
    if type is None:
        message = f"Unknown event type {event.type[:64]!r}" if event.type else "Missing type"
        raise InvalidInput(message, field="type")
    data = _data(event.data)
    return NewEvent(
        type=type,
        source=SOURCE,
        scopes=_scopes(type, event, data),
        time=_time(event.timestamp, now),
        groups=_groups(event),
        actor=event.username or None,
        data=data,
    )


def _document(body: bytes) -> dict[str, msgspec.Raw]:
    """The body's values by key, each valid JSON in UTF-8."""
    try:
        body.decode()
        msgspec.json.decode(body)
        # On one line, as streams require.
        return msgspec.json.decode(
            msgspec.json.format(body, indent=-1), type=dict[str, msgspec.Raw]
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(INVALID_JSON) from error


def _decode(body: bytes, type: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.MsgspecError as error:
        raise InvalidInput(str(error)) from error


def _upload(
    body: bytes, document: dict[str, msgspec.Raw], *, now: int, groups: Sequence[str]
) -> NewEvent:
    if bytes(document["event"]) != b'"NEW_UPLOAD"':
        raise InvalidInput(f"Unknown event {bytes(document['event'])[:64].decode()}", field="event")
    upload = _decode(body, _Upload)
    names = {"project": upload.project, "unit": upload.unit, "version": upload.version}
    for field, name in names.items():
        if not name:
            raise InvalidInput(f"Missing {field}", field=field)
    data = {name: document[name] for name in _UPLOAD_DATA if name in document}
    return NewEvent(
        type=EVENT_TYPES["UPLOAD_INVENTORY_APPLICATION"],
        source=SOURCE,
        scopes=(scope("inventory", *_without_v(list(names.values()))),),
        time=now,
        # An Inventory reports each upload once, so an equal body is a retry.
        producer_id=hashlib.sha256(body).hexdigest(),
        groups=tuple(groups),
        actor=upload.username or None,
        data=msgspec.Raw(msgspec.json.encode(data)) if data else None,
    )


def _scopes(type: str, event: _Body, data: msgspec.Raw | None) -> tuple[Scope, ...]:
    project = _one_of(event, "inventory_project", "inventory_namespace") or ""
    inventory = [project, event.inventory_application or "", event.inventory_version or ""]
    state = [getattr(event, field) or "" for field in _FIELDS["state"]]
    names_by_kind = {"inventory": _without_v(inventory), "state": state}
    required = next(kind for prefix, kind in _REQUIRED_KINDS.items() if type.startswith(prefix))
    if required in names_by_kind and not names_by_kind[required][0]:
        raise InvalidInput(f"Missing {required}_project", field=f"{required}_project")
    for kind, names in names_by_kind.items():
        _check_parents(kind, names)
    paths = [scope(kind, *filter(None, names)) for kind, names in names_by_kind.items() if names[0]]
    if required == "user":
        paths.append(scope(required, *filter(None, [event.username])))
    if required == "team":
        paths.append(scope(required, *filter(None, [_team(data)])))
    return tuple(paths)


def _one_of(event: _Body, name: str, alias: str) -> str | None:
    """The value of a field that has two names; raises InvalidInput when they differ."""
    value, other = getattr(event, name) or None, getattr(event, alias) or None
    if value is not None and other is not None and value != other:
        raise InvalidInput(f"{name} and {alias} differ", field=name)
    return value if value is not None else other


def _check_parents(kind: str, names: Sequence[str]) -> None:
    """Raise InvalidInput when a name is given without the one before it."""
    fields = _FIELDS[kind]
    for parent, child in ((0, 1), (1, 2)):
        if names[child] and not names[parent]:
            raise InvalidInput(f"{fields[child]} requires {fields[parent]}", field=fields[child])


class _Team(msgspec.Struct, frozen=True):
    team: str = ""


def _team(data: msgspec.Raw | None) -> str:
    """The team in the event's data; empty without one."""
    return _decode(bytes(data), _Team).team if data is not None else ""


def _time(timestamp: int | str | None, now: int) -> int:
    if timestamp is None:
        return now
    if isinstance(timestamp, int):
        return timestamp
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        raise InvalidInput("timestamp must be a number of nanoseconds", field="timestamp")
    return int(timestamp)


def _groups(event: _Body) -> tuple[str, ...]:
    groups, roles = event.allowed_groups, event.allowed_roles
    if groups is not None and roles is not None and set(groups) != set(roles):
        message = "allowed_groups and allowed_roles mean the same: send one, or equal values"
        raise InvalidInput(message, field="allowed_groups")
    return tuple(sorted(set(groups or roles or ())))


def _data(data: msgspec.Raw) -> msgspec.Raw | None:
    if bytes(data) == b"null":
        return None
    if not bytes(data).startswith(b"{"):
        raise InvalidInput("data must be a JSON object", field="data")
    return msgspec.Raw(msgspec.json.format(bytes(data), indent=-1))
