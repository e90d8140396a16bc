"""Change sets: what a deployment would do to each resource, staged from a plan.

Values that the plan marks as sensitive are replaced by ``SENSITIVE``.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from deploylog.events.scope import Scope

#: Replaces a value that must not be stored.
SENSITIVE = "(sensitive value)"

#: The names and indexes that lead to a field from the resource's root.
Path = tuple[str | int, ...]

#: ``forget`` removes the resource from the state, and leaves the resource itself.
Action = Literal["create", "update", "replace", "delete", "forget", "none"]

Status = Literal["staging", "staged", "drifted", "failed"]


class FieldChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field's value before and after; JSON values."""

    path: Path
    before: object = None
    after: object = None
    #: Whether this change is why the resource is replaced.
    replaces: bool = False
    #: Whether its values are, or contain, sensitive ones.
    sensitive: bool = False


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The planned change of one resource."""

    #: The address, followed by ``(deposed KEY)`` for a deposed object. Unique in a change set.
    name: str
    address: str
    type: str
    action: Action
    #: The name in the configuration, and the index or key of one of many.
    resource_name: str = ""
    key: str | None = None
    provider: str | None = None
    #: The value of the attribute ``id``, if the resource exists.
    id: str | None = None
    deposed: str | None = None
    #: The address that it moves from.
    previous_address: str | None = None
    #: Whether an existing object is imported, and its id.
    imported: bool = False
    import_id: str | None = None
    #: The tool's reason, such as ``replace_because_tainted``.
    reason: str | None = None
    #: For a replacement: whether the new object is created first.
    create_first: bool = False
    #: For a creation: whether another object is removed from the state under this address.
    removes_from_state: bool = msgspec.field(default=False, name="forgets")
    #: Addresses, without index or key, of the resources that the object depends on: by the state,
    #: or by the configuration while there is no state.
    depends_on: tuple[str, ...] = ()
    #: All attributes; ``None`` where there is no object, or where they were truncated.
    before: object = None
    after: object = None
    added: tuple[FieldChange, ...] = ()
    modified: tuple[FieldChange, ...] = ()
    removed: tuple[Path, ...] = ()
    unchanged: tuple[Path, ...] = ()
    #: Known once the deployment has run; the provider chooses those in ``computed``.
    known_on_deploy: tuple[Path, ...] = ()
    computed: tuple[Path, ...] = ()
    #: Whether parts were left out to fit the event.
    truncated: bool = False


class OutputChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The planned change of one output of the configuration."""

    name: str
    action: Literal["create", "update", "delete", "none"]
    before: object = None
    after: object = None
    known_on_deploy: bool = False
    sensitive: bool = False


class Invocation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An action that would be invoked."""

    #: Its address.
    action: str
    #: The resource whose event invokes it, and the event, such as ``AfterCreate``.
    resource: str | None = None
    event: str | None = None


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """A warning or an error of the plan."""

    level: Literal["error", "warning"]
    message: str


class ChangeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of resources by action."""

    create: int = 0
    update: int = 0
    replace: int = 0
    delete: int = 0
    #: Resources that are forgotten and recreated count in both.
    forget: int = 0
    none: int = 0
    imported: int = 0
    moved: int = 0


class Changes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan's changes, in the order in which they are emitted: removals first."""

    tool: str = "terraform"
    tool_version: str | None = None
    #: Whether the plan itself is incomplete because of an error.
    errored: bool = False
    totals: ChangeCounts = ChangeCounts()
    resources: tuple[ResourceChange, ...] = ()
    outputs: tuple[OutputChange, ...] = ()
    #: What was changed outside of deployments since the last one.
    drift: tuple[ResourceChange, ...] = ()
    #: Addresses of data sources that are read while deploying.
    data_sources: tuple[str, ...] = msgspec.field(default=(), name="reads")
    #: The actions that are invoked, and their number, which stays when they are truncated.
    invocations: tuple[Invocation, ...] = ()
    invoked: int = 0
    #: The number of changes and invocations deferred to a later plan; each is also a warning.
    deferred: int = 0
    problems: tuple[Diagnostic, ...] = ()
    #: Whether drift is a reason not to deploy.
    stops_on_drift: bool = False
    truncated: bool = False


class Changeset(msgspec.Struct, frozen=True, kw_only=True):
    """A change set, without its changes."""

    #: UUID.
    id: str
    project: str
    #: The stack that it is for: its id if the stack exists, its name if the request has one.
    stack_id: str | None
    stack: str | None
    status: Status
    #: Whether it destroys the stack's resources.
    destroy: bool
    #: Where the plan came from, as the request says.
    location: str
    tool: str
    tool_version: str | None
    actor: str | None
    #: ns since 1970 (UTC).
    created: int
    ended: int | None
    #: The message of the event that ended it.
    message: str | None
    totals: ChangeCounts
    #: The first is ``changeset/ID``.
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]


#: Numbers keep the digits of the plan.
_ENCODER = msgspec.json.Encoder(decimal_format="number")

_DECODER = msgspec.json.Decoder(Changes, float_hook=Decimal)


def encode(value: object) -> bytes:
    """The JSON of changes, or of a part of them."""
    return _ENCODER.encode(value)


def encode_changes(changes: Changes) -> bytes:
    """The JSON that ``decode_changes`` reads."""
    return _ENCODER.encode(changes)


def decode_changes(document: bytes) -> Changes:
    """The changes that ``encode_changes`` wrote."""
    return _DECODER.decode(current_names(document))


def current_names(document: bytes) -> bytes:
    """Rename the key ``abridged`` of stored JSON, the former name of ``truncated``.

    Within a JSON string the quotes would be escaped, so only the key matches.
    """
    return document.replace(b'"abridged":true', b'"truncated":true')
