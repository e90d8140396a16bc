"""Scopes: the paths that events belong to and are found under.

A scope is a path such as ``project/acme/stack/0199…/deployment/0199…``. Segments are
percent-encoded (RFC 3986, UTF-8), so that a name may contain any character, ``/`` included, and a
scope is always ASCII without spaces. ``ROOT``, the empty path, contains every scope.
"""

from typing import NewType
from urllib.parse import quote, unquote

from deploylog.errors import InvalidScope

Scope = NewType("Scope", str)

ROOT = Scope("")

MAX_SEGMENTS = 16
MAX_LENGTH = 1024

#: Characters of a segment that are not encoded, besides letters, digits and ``-._~``.
_SAFE = "!$'()*+,:;=@"


def scope(*segments: str) -> Scope:
    """The scope of these names, which may contain any character but NUL."""
    return _checked("/".join(quote(segment, safe=_SAFE) for segment in segments))


def parse_scope(text: str) -> Scope:
    """Parse a scope to its canonical spelling; raises InvalidScope."""
    path = text.strip("/")
    if not path:
        return ROOT
    return scope(*(unquote(segment) for segment in path.split("/")))


def _checked(path: str) -> Scope:
    segments = path.split("/")
    if not all(segments):
        raise InvalidScope(f"scope {path!r} has an empty segment", field="scope")
    if len(segments) > MAX_SEGMENTS:
        raise InvalidScope(f"scope has more than {MAX_SEGMENTS} segments", field="scope")
    if len(path) > MAX_LENGTH:
        raise InvalidScope(f"scope is longer than {MAX_LENGTH} characters", field="scope")
    if "%00" in path:
        raise InvalidScope("scope must not contain a NUL character", field="scope")
    return Scope(path)


def segments(of: Scope) -> tuple[str, ...]:
    """The decoded names of a scope."""
    return tuple(unquote(segment) for segment in of.split("/")) if of else ()


def prefixes(of: Scope) -> tuple[Scope, ...]:
    """Every scope that contains ``of``, itself included, shortest first; not the root."""
    parts = of.split("/")
    return tuple(Scope("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


def contains(outer: Scope, inner: Scope) -> bool:
    """Whether ``inner`` is ``outer`` or lies below it."""
    return not outer or inner == outer or inner.startswith(f"{outer}/")


def stack_scope(project: str, stack_id: str) -> Scope:
    """The scope of one stack of a project."""
    return scope("project", project, "stack", stack_id)


def deployment_scope(project: str, stack_id: str, deployment_id: str) -> Scope:
    """The scope of one deployment of a stack."""
    return scope("project", project, "stack", stack_id, "deployment", deployment_id)


def state_scope(project: str, environment: str, deployment: str) -> Scope:
    """The scope of what is deployed in an environment, whichever deployment did it."""
    return scope("state", project, environment, deployment)


def changeset_scope(changeset_id: str) -> Scope:
    """The scope of one change set."""
    return scope("changeset", changeset_id)
