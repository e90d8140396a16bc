"""Stacks and deployments."""

from functools import lru_cache
from typing import Literal
from uuid import UUID

import msgspec

from deploylog.deployments.details import NO_DETAILS, Details
from deploylog.errors import InvalidInput
from deploylog.events.scope import Scope, segments

Status = Literal["running", "completed", "failed"]


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of resources in a project. A stack recreated under its name has a new id."""

    #: UUID.
    id: str
    project: str
    name: str
    #: ns since 1970 (UTC).
    created: int
    #: ns since 1970 (UTC); ``None`` while it exists.
    deleted: int | None
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many resources a deployment touched."""

    added: int = 0
    changed: int = 0
    destroyed: int = 0
    failed: int = 0


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a deployment tool."""

    #: UUID.
    id: str
    project: str
    stack_id: str
    #: The stack's name.
    stack: str
    status: Status
    #: ns since 1970 (UTC).
    started: int
    ended: int | None
    tool: str | None
    #: ``apply``, ``destroy``, ``plan``, …
    operation: str | None
    environment: str | None
    actor: str | None
    #: The message of the event that ended it.
    message: str | None
    counts: Counts
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...]
    details: Details = NO_DETAILS


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a deployment ended, for metrics of many."""

    #: Orders deployments that ended at the same time.
    number: int
    id: str
    project: str
    stack_id: str
    status: Status
    started: int
    ended: int
    operation: str | None
    environment: str | None
    details: Details = NO_DETAILS


class DeploymentRef(msgspec.Struct, frozen=True):
    """The stack, and the deployment of it, that an event belongs to."""

    project: str
    stack_id: str
    deployment_id: str | None


#: Characters of the name of a project, a stack or an environment.
MAX_NAME_LENGTH = 128


def check_name(field: str, name: str) -> None:
    """Raise InvalidInput unless a project, stack or environment may have this name."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise InvalidInput(f"{field} must have 1 to {MAX_NAME_LENGTH} characters", field=field)
    if not name.isprintable() or name != name.strip():
        message = f"{field} must not contain control characters, or start or end with a space"
        raise InvalidInput(message, field=field)


def parse_uuid(text: str) -> str:
    """Parse a UUID to its canonical spelling; raises InvalidInput."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InvalidInput(f"{text[:64]!r} is not a UUID", field="id") from error


#: Operations that deploy nothing.
NON_MUTATING_OPERATIONS = ("plan", "refresh", "preview", "diff", "init", "validate")


@lru_cache(maxsize=512)
def deployment_ref(scopes: tuple[Scope, ...]) -> DeploymentRef | None:
    """The stack and deployment that the first such scope names."""
    for scope in scopes:
        if not scope.startswith("project/"):
            continue
        names = segments(scope)
        if len(names) == 6 and (names[2], names[4]) == ("stack", "deployment"):
            return DeploymentRef(names[1], names[3], names[5])
        if len(names) == 4 and names[2] == "stack":
            return DeploymentRef(names[1], names[3], None)
    return None
