"""Change sets: what a deployment would do to each resource, staged from a plan.

Values that the plan marks sensitive are not in here: ``SENSITIVE`` stands for them.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from deploylog.events.scope import Scope

#: Stands for a value that must not be stored.
SENSITIVE = "(sensitive value)"

#: Where a field is: names and indexes, from the resource's root.
Path = tuple[str | int, ...]

#: ``none`` changes nothing, ``forget`` only lets the tool know the resource no longer.
Action = Literal["create", "update", "replace", "delete", "forget", "none"]

Status = Literal["staging", "staged", "drifted", "failed"]


class FieldChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field's value before and after; JSON values."""

    path: Path
    before: object = None
    after: object = None
    #: Whether this change is why the resource is replaced.
    replaces: bool = False
    #: Whether its values are, or hold, sensitive ones.
    sensitive: bool = False


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What would happen to one resource."""

    #: The address; of a deposed object followed by ``(deposed KEY)``. Unique in a change set.
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
    #: The address that it is moved from.
    previous_address: str | None = None
    #: Whether an existing object is taken over, and the id it is known by.
    imported: bool = False
    import_id: str | None = None
    #: The tool's word for why, such as ``replace_because_tainted``.
    reason: str | None = None
    #: Of a replacement: whether the new object comes first.
    create_first: bool = False
    #: Of a creation: whether an object is forgotten under the same address.
    removes_from_state: bool = msgspec.field(default=False, name="forgets")
    #: Addresses of resources, without index or key: what the object depends on by the state, or,
    #: while there is none, by the configuration.
    depends_on: tuple[str, ...] = ()
    #: All attributes; ``None`` where there is no object, or where they were left out.
    before: object = None
    after: object = None
    added: tuple[FieldChange, ...] = ()
    modified: tuple[FieldChange, ...] = ()
    removed: tuple[Path, ...] = ()
    unchanged: tuple[Path, ...] = ()
    #: Known once the deployment has run; those of ``computed`` the provider chooses.
    known_on_deploy: tuple[Path, ...] = ()
    computed: tuple[Path, ...] = ()
    #: Whether something was left out here, for the event to be small enough.
    truncated: bool = False


class OutputChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What would happen to one output of the configuration."""

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
    """Something the plan warns of, or failed by."""

    level: Literal["error", "warning"]
    message: str


class ChangeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many resources each action is for."""

    create: int = 0
    update: int = 0
    replace: int = 0
    delete: int = 0
    #: Those forgotten and created anew count in both.
    forget: int = 0
    none: int = 0
    imported: int = 0
    moved: int = 0


class Changes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan's changes, in the order in which they are told: removals first."""

    tool: str = "terraform"
    tool_version: str | None = None
    #: Whether the plan itself is incomplete because of an error.
    errored: bool = False
    totals: ChangeCounts = ChangeCounts()
    resources: tuple[ResourceChange, ...] = ()
    outputs: tuple[OutputChange, ...] = ()
    #: What was changed by somebody else since the last deployment.
    drift: tuple[ResourceChange, ...] = ()
    #: Addresses of data sources that are read while deploying.
    data_sources: tuple[str, ...] = msgspec.field(default=(), name="reads")
    #: The actions that are invoked, and how many: the number stays where they are left out.
    invocations: tuple[Invocation, ...] = ()
    invoked: int = 0
    #: How many changes and invocations are left for a later plan; each is one of the warnings.
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
    #: The stack that it is for, by id if there is such a stack, and by name if one was given.
    stack_id: str | None
    stack: str | None
    status: Status
    #: Whether it is to destroy what is there.
    destroy: bool
    #: Where the plan came from, as whoever staged it says.
    location: str
    tool: str
    tool_version: str | None
    actor: str | None
    #: ns since 1970 (UTC).
    created: int
    ended: int | None
    #: How it ended, in words.
    message: str | None
    totals: ChangeCounts
    #: The first is ``changeset/ID``.
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]


#: Numbers keep the digits that the plan gives them.
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
    """Stored JSON with today's name for the flag ``truncated``, which was called ``abridged``.

    Within a JSON string the quotes would be escaped, so only a key is renamed.
    """
    return document.replace(b'"abridged":true', b'"truncated":true')
