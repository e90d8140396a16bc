"""Principals: who asks, what for, and what they may see.

One rule decides visibility on every surface: a grant covers one of the event's scopes, and
the event's groups are empty, or hold ``*``, or meet the principal's.
"""

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from deploylog.errors import Forbidden, InvalidInput
from deploylog.events.event import PUBLIC_GROUP, NewEvent
from deploylog.events.scope import ROOT, Scope, contains, parse_scope

Right = Literal["read", "write", "admin"]

RIGHTS: tuple[Right, ...] = get_args(Right)

_VERBS: dict[Right, str] = {"read": "read", "write": "write", "admin": "administer"}


class Grant(msgspec.Struct, frozen=True):
    """A right on a scope and everything below it. ``admin`` includes the other two."""

    right: Right
    scope: Scope

    def covers(self, right: Right, scope: Scope) -> bool:
        """Whether this grant gives ``right`` on ``scope``."""
        return self.right in (right, "admin") and contains(self.scope, scope)


class Visibility(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may see: events below one of ``scopes`` whose groups allow it."""

    scopes: tuple[Scope, ...]
    #: ``None`` sees the events of every group.
    groups: frozenset[str] | None

    def shows(self, event: NewEvent) -> bool:
        """Whether the event is visible."""
        return self.shows_groups(event.groups) and self.shows_scopes(event.scopes)

    def overlaps(self, scope: Scope) -> bool:
        """Whether there may be something below ``scope`` that is visible."""
        return any(contains(each, scope) or contains(scope, each) for each in self.scopes)

    def shows_scopes(self, scopes: tuple[Scope, ...]) -> bool:
        """Whether a grant covers one of these scopes."""
        return any(contains(outer, inner) for outer in self.scopes for inner in scopes)

    def shows_groups(self, groups: tuple[str, ...]) -> bool:
        """Whether something that is for these groups is visible."""
        if not groups or self.groups is None:
            return True
        return PUBLIC_GROUP in groups or not self.groups.isdisjoint(groups)


ALL = Visibility(scopes=(ROOT,), groups=None)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    name: str
    #: Tells it from others of the same name.
    id: str = ""
    #: ``None`` is a member of every group.
    groups: frozenset[str] | None = frozenset()
    grants: tuple[Grant, ...] = ()
    #: The kind of credential that it showed.
    kind: str = ""
    #: When that ends, in ns since 1970; ``None`` when somebody has to revoke it.
    expires: int | None = None

    @property
    def identity(self) -> str:
        """Tells the principal from all others, whatever token it shows; two kinds may share ids."""
        return f"{self.kind}:{self.id}"

    def may(self, right: Right, scope: Scope) -> bool:
        """Whether a grant gives ``right`` on ``scope``."""
        return any(grant.covers(right, scope) for grant in self.grants)

    def require(self, right: Right, scope: Scope) -> None:
        """Raise Forbidden unless a grant gives ``right`` on ``scope``."""
        if not self.may(right, scope):
            raise Forbidden(f"{self.name} may not {_VERBS[right]} {scope or 'the whole log'!s}")

    def require_write(self, scopes: Iterable[Scope]) -> None:
        """Raise Forbidden unless each scope, or any scope at all if none is named, may be
        written.
        """
        scopes = tuple(scopes)
        for scope in scopes:
            self.require("write", scope)
        if not scopes and all(grant.right == "read" for grant in self.grants):
            raise Forbidden(f"{self.name} may not write")

    def require_anywhere(self, right: Right) -> None:
        """Raise Forbidden unless a grant gives ``right`` on anything at all.

        It costs nothing, so a request is refused before its body is read.
        """
        if not any(grant.right in (right, "admin") for grant in self.grants):
            raise Forbidden(f"{self.name} may not {_VERBS[right]} anything")

    @property
    def visibility(self) -> Visibility:
        """What this principal may see."""
        scopes = {grant.scope for grant in self.grants if grant.right in ("read", "admin")}
        return Visibility(scopes=tuple(sorted(scopes)), groups=self.groups)


#: Who everybody is while no authentication is configured.
ANONYMOUS = Principal(
    name="anonymous", groups=None, grants=(Grant("admin", ROOT),), kind="anonymous"
)


def parse_grant(text: str) -> Grant:
    """``read:project/acme``; ``admin:/`` is the whole log. Raises InvalidInput."""
    right, colon, path = text.partition(":")
    if not colon or right not in RIGHTS:
        raise InvalidInput(f"{text!r} is not a grant: write RIGHT:SCOPE, as read:project/acme")
    if not path:
        raise InvalidInput(f"{text!r} names no scope: the whole log is {right}:/")
    if not path.isprintable() or any(character.isspace() for character in path):
        raise InvalidInput(
            f"{text!r} is not a grant: its scope holds blanks or control characters; "
            "a blank in a name is written %20"
        )
    return Grant(right, parse_scope(path))
