"""EscapeKit's event service in our words: its queries, its events, and its Inventory's webhook."""

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

#: Escape's event types and ours; a type that is not here does not exist for Escape.
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

#: The made-up event of a test of a subscription has a name of ours.
_THEIRS = {ours: theirs for theirs, ours in EVENT_TYPES.items()} | {
    "subscription.test": "SUBSCRIPTION_TEST"
}

SHOWN = Filter(all_of=(AnyOf(field="type", values=tuple(EVENT_TYPES.values())),))

MAX_PAGE = 1000

#: What an event from here says it comes from.
SOURCE = "escape"

_RESERVED = ("this", "string", "integer", "list", "dict", "func")

_INVENTORY_NAME = re.compile(rf"(?!(?:{'|'.join(_RESERVED)})\Z)[a-z][a-z0-9_-]+")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*(\.@)?|latest|@")

#: What the names of a path may be: a name that is none of these names nothing.
# EscapeKit writes [a-z]+[a-z0-9-_]+: the same, but slow as the square of a long name's length.
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
    """A query string: of a name given twice the first counts, and empty is not given."""

    def __init__(self, query: str) -> None:
        """``query`` as it was sent."""
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, value)

    def get(self, name: str) -> str:
        """The value; empty when there is none."""
        return self._values.get(name, "")

    def number(self, name: str) -> int | None:
        """The whole number; ``None`` when there is none. Raises InvalidInput."""
        text = self.get(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise InvalidInput(f"{name} is not a whole number", field=name)
        # Python reads thousands of digits very slowly, and nothing here is as large as these.
        digits = text.lstrip("0")
        return int(digits or "0") if len(digits) < len(str(LATEST)) else LATEST


def parse_query(place: Scope | None, parameters: Parameters, *, page_size: int) -> Query | None:
    """The page asked for of what is below ``place``; ``None`` if nothing can be there."""
    size = parameters.number("page_size")
    if size == 0:
        raise InvalidInput("page_size is less than 1", field="page_size")
    before = parameters.number("page_from")
    if place is None:
        return None
    limit = min(size or page_size, MAX_PAGE)
    return Query(scope=place, filter=SHOWN, before=before, limit=limit)


def parse_filters(parameters: Parameters) -> Scope | None:
    """Below which scope the root query's filters ask; each counts only with those before it."""
    for kind, fields in _FIELDS.items():
        if names := list(_leading([parameters.get(field) for field in fields])):
            return _place(kind, _without_v(names) if kind == "inventory" else names)
    return ROOT


def _leading(names: Sequence[str]) -> Iterator[str]:
    """The names before the first that is missing."""
    for name in names:
        if not name:
            return
        yield name


def parse_inventory(names: Sequence[str]) -> Scope | None:
    """The scope of a project, application and version, as far as given; ``None`` if there can
    be none of these names.
    """
    plain = _without_v(names)
    return _place("inventory", plain) if _fits(plain, _INVENTORY) else None


def parse_state(names: Sequence[str]) -> Scope | None:
    """The scope of a project, environment and deployment, likewise."""
    return _place("state", names) if _fits(names, _STATE) else None


def parse_deployment(parameters: Parameters) -> str:
    """The deployment's name, which may hold slashes; raises InvalidInput."""
    name = parameters.get("deployment")
    if not name:
        raise InvalidInput("Missing 'deployment' parameter", field="deployment")
    return name


def is_project(name: str) -> bool:
    """Whether there can be a project of this name, of the Inventory or of State."""
    return any(_fits([name], syntax) for syntax in (_INVENTORY, _STATE))


def _fits(names: Sequence[str], syntax: Sequence[re.Pattern[str]]) -> bool:
    return all(pattern.fullmatch(name) for name, pattern in zip(names, syntax, strict=False))


def _place(kind: str, names: Sequence[str]) -> Scope | None:
    """The scope of these names; ``None`` when no scope can be."""
    try:
        return scope(kind, *names)
    except InvalidInput:
        return None


def _without_v(names: Sequence[str]) -> list[str]:
    """The names, the version without the ``v`` that some say before it."""
    return [*names[:2], *(version.removeprefix("v") or version for version in names[2:])]


# Events out


class EscapeEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, with both of its names where the published page has two."""

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
    """One event for a receiver who is in no group: it is not told who may see it.

    Raises InvalidEvent for one that EscapeKit has no form for.
    """
    if event.type not in _THEIRS:
        raise InvalidEvent(f"an event of type {event.type[:64]} has no escape format")
    return msgspec.json.encode(
        msgspec.structs.replace(render_event(event), allowed_groups=(), allowed_roles=())
    )


def name_type(type: str) -> str:
    """EscapeKit's name of a type of ours; one that it has no name for stays as it is."""
    return _THEIRS.get(type, type)


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
        # A query finds none that has no name there; a test of a subscription is one.
        type=_THEIRS[event.type],
        username=event.actor or None,
    )


def _names(event: Event, kind: str) -> list[str | None]:
    """What the first scope of the kind names, ``None`` for what it does not."""
    found = next((path for path in event.scopes if path.startswith(f"{kind}/")), kind)
    return [*segments(Scope(found))[1:4], None, None, None][:3]


def _object(data: msgspec.Raw | None) -> msgspec.Raw | None:
    """The data, if it is an object and not an empty one."""
    if data is None or not (text := bytes(data).strip()).startswith(b"{"):
        return None
    return data if text[1:-1].strip() else None


# Events in


class _Body(msgspec.Struct, frozen=True):
    """What we take of a posted event. Other keys are ignored."""

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
    """What an Inventory posts after an upload."""

    project: str
    unit: str
    version: str
    username: str | None = None


#: What of it is kept besides.
_UPLOAD_DATA = ("downstream_hooks", "project_hooks", "release", "unit_hooks")

#: By the beginning of a type, what its events must be in.
_HOMES = {
    "inventory.": "inventory",
    "acl.inventory.": "inventory",
    "state.": "state",
    "acl.state.": "state",
    "build.": "state",
    "user.": "user",
    "team.": "team",
}


def parse_new_event(body: bytes, *, now: int, upload_groups: Sequence[str]) -> NewEvent:
    """The event that ``body`` is; raises InvalidInput. An Inventory's is for ``upload_groups``."""
    document = _document(body)
    if "event" in document and "type" not in document:
        return _upload(body, document, now=now, groups=upload_groups)
    asked = _decoded(body, _Body)
    type = EVENT_TYPES.get(asked.type or "")
    if type is None:
        said = f"Unknown event type {asked.type[:64]!r}" if asked.type else "Missing type"
        raise InvalidInput(said, field="type")
    data = _data(asked.data)
    return NewEvent(
        type=type,
        source=SOURCE,
        scopes=_scopes(type, asked, data),
        time=_time(asked.timestamp, now),
        groups=_groups(asked),
        actor=asked.username or None,
        data=data,
    )


def _document(body: bytes) -> dict[str, msgspec.Raw]:
    """The body by key, each value sure to be JSON in UTF-8."""
    try:
        body.decode()
        msgspec.json.decode(body)
        # One line, as it has to stand on streams.
        return msgspec.json.decode(
            msgspec.json.format(body, indent=-1), type=dict[str, msgspec.Raw]
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(INVALID_JSON) from error


def _decoded(body: bytes, type: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.MsgspecError as error:
        raise InvalidInput(str(error)) from error


def _upload(
    body: bytes, document: dict[str, msgspec.Raw], *, now: int, groups: Sequence[str]
) -> NewEvent:
    if bytes(document["event"]) != b'"NEW_UPLOAD"':
        raise InvalidInput(f"Unknown event {bytes(document['event'])[:64].decode()}", field="event")
    upload = _decoded(body, _Upload)
    named = {"project": upload.project, "unit": upload.unit, "version": upload.version}
    for field, name in named.items():
        if not name:
            raise InvalidInput(f"Missing {field}", field=field)
    kept = {name: document[name] for name in _UPLOAD_DATA if name in document}
    return NewEvent(
        type=EVENT_TYPES["UPLOAD_INVENTORY_APPLICATION"],
        source=SOURCE,
        scopes=(scope("inventory", *_without_v(list(named.values()))),),
        time=now,
        # The same upload again: an Inventory says each only once.
        producer_id=hashlib.sha256(body).hexdigest(),
        groups=tuple(groups),
        actor=upload.username or None,
        data=msgspec.Raw(msgspec.json.encode(kept)) if kept else None,
    )


def _scopes(type: str, asked: _Body, data: msgspec.Raw | None) -> tuple[Scope, ...]:
    """Where the event belongs; raises InvalidInput."""
    project = _one_of(asked, "inventory_project", "inventory_namespace") or ""
    inventory = [project, asked.inventory_application or "", asked.inventory_version or ""]
    state = [getattr(asked, field) or "" for field in _FIELDS["state"]]
    named = {"inventory": _without_v(inventory), "state": state}
    home = next(home for start, home in _HOMES.items() if type.startswith(start))
    if home in named and not named[home][0]:
        raise InvalidInput(f"Missing {home}_project", field=f"{home}_project")
    for kind, names in named.items():
        _check_ladder(kind, names)
    paths = [scope(kind, *filter(None, names)) for kind, names in named.items() if names[0]]
    if home == "user":
        paths.append(scope(home, *filter(None, [asked.username])))
    if home == "team":
        paths.append(scope(home, *filter(None, [_team(data)])))
    return tuple(paths)


def _one_of(asked: _Body, name: str, other: str) -> str | None:
    """What a field says that has two names; raises InvalidInput when they differ."""
    one, two = getattr(asked, name) or None, getattr(asked, other) or None
    if one is not None and two is not None and one != two:
        raise InvalidInput(f"{name} and {other} differ", field=name)
    return one if one is not None else two


def _check_ladder(kind: str, names: Sequence[str]) -> None:
    """Raise InvalidInput when a name is given without the one before it."""
    fields = _FIELDS[kind]
    for above, below in ((0, 1), (1, 2)):
        if names[below] and not names[above]:
            raise InvalidInput(f"{fields[below]} needs {fields[above]}", field=fields[below])


class _Team(msgspec.Struct, frozen=True):
    team: str = ""


def _team(data: msgspec.Raw | None) -> str:
    """The team that an event's data names."""
    return _decoded(bytes(data), _Team).team if data is not None else ""


def _time(timestamp: int | str | None, now: int) -> int:
    if timestamp is None:
        return now
    if isinstance(timestamp, int):
        return timestamp
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        raise InvalidInput("timestamp is not a number of nanoseconds", field="timestamp")
    return int(timestamp)


def _groups(asked: _Body) -> tuple[str, ...]:
    groups, roles = asked.allowed_groups, asked.allowed_roles
    if groups is not None and roles is not None and set(groups) != set(roles):
        raise InvalidInput("allowed_groups and allowed_roles differ", field="allowed_groups")
    return tuple(sorted(set(groups or roles or ())))


def _data(data: msgspec.Raw) -> msgspec.Raw | None:
    if bytes(data) == b"null":
        return None
    if not bytes(data).startswith(b"{"):
        raise InvalidInput("data is not an object", field="data")
    return msgspec.Raw(msgspec.json.format(bytes(data), indent=-1))
