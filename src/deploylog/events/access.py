"""Principals: their grants, and the events that they may see.

One rule decides visibility in every API: a grant covers one of the event's scopes, and the event's
groups are empty, contain ``*``, or include a group of the principal.
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

    @property
    def text(self) -> str:
        """What ``parse_grant`` parses into this grant."""
        return f"{self.right}:{self.scope or '/'}"

    def covers(self, right: Right, scope: Scope) -> bool:
        """Whether this grant gives ``right`` on ``scope``."""
        return self.right in (right, "admin") and contains(self.scope, scope)


class Visibility(msgspec.Struct, frozen=True, kw_only=True):
    """What a principal may see: events below one of ``scopes`` whose groups allow it."""

    scopes: tuple[Scope, ...]
    #: ``None`` sees the events of every group.
    groups: frozenset[str] | None

    def shows(self, event: NewEvent) -> bool:
        return self.shows_groups(event.groups) and self.shows_scopes(event.scopes)

    def overlaps(self, scope: Scope) -> bool:
        """Whether anything below ``scope`` may be visible."""
        return any(contains(each, scope) or contains(scope, each) for each in self.scopes)

    def shows_scopes(self, scopes: tuple[Scope, ...]) -> bool:
        """Whether a grant covers one of these scopes."""
        return any(contains(outer, inner) for outer in self.scopes for inner in scopes)

    def shows_groups(self, groups: tuple[str, ...]) -> bool:
        """Whether events for these groups are visible."""
        if not groups or self.groups is None:
            return True
        return PUBLIC_GROUP in groups or not self.groups.isdisjoint(groups)


ALL = Visibility(scopes=(ROOT,), groups=None)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The identity behind a request."""

    name: str
    #: Distinguishes principals of the same name.
    id: str = ""
    #: ``None`` is a member of every group.
    groups: frozenset[str] | None = frozenset()
    grants: tuple[Grant, ...] = ()
    #: The kind of credential that it used.
    kind: str = ""
    #: The address that it asks from, where what it does is recorded.
    address: str | None = None
    #: When the credential expires, in ns since 1970; ``None`` when it is valid until revoked.
    expires: int | None = None

    @property
    def identity(self) -> str:
        """Unique to the principal, whatever token it uses: two kinds may share ids."""
        return f"{self.kind}:{self.id}"

    def may(self, right: Right, scope: Scope) -> bool:
        """Whether a grant gives ``right`` on ``scope``."""
        return any(grant.covers(right, scope) for grant in self.grants)

    def require(self, right: Right, scope: Scope) -> None:
        """Raise Forbidden unless a grant gives ``right`` on ``scope``."""
        if not self.may(right, scope):
            raise Forbidden(f"{self.name} may not {_VERBS[right]} {scope or 'the whole log'!s}")

    def require_write(self, scopes: Iterable[Scope]) -> None:
        """Raise Forbidden unless it may write each scope, or any scope if none is named."""
        scopes = tuple(scopes)
        for scope in scopes:
            self.require("write", scope)
        if not scopes and all(grant.right == "read" for grant in self.grants):
            raise Forbidden(f"{self.name} may not write")

    def require_anywhere(self, right: Right) -> None:
        """Raise Forbidden unless a grant gives ``right`` on some scope.

        This is cheap, so that a request can be refused before its body is read.
        """
        if not any(grant.right in (right, "admin") for grant in self.grants):
            raise Forbidden(f"{self.name} may not {_VERBS[right]} anything")

    @property
    def visibility(self) -> Visibility:
        scopes = {grant.scope for grant in self.grants if grant.right in ("read", "admin")}
        return Visibility(scopes=tuple(sorted(scopes)), groups=self.groups)


#: The principal of every request while no authentication is configured.
ANONYMOUS = Principal(
    name="anonymous", groups=None, grants=(Grant("admin", ROOT),), kind="anonymous"
)


def parse_grant(text: str) -> Grant:
    """Parse ``read:project/acme``; ``admin:/`` is the whole log. Raises InvalidInput."""
    right, colon, path = text.partition(":")
    if not colon or right not in RIGHTS:
        raise InvalidInput(f"{text!r} is not a grant: write RIGHT:SCOPE, such as read:project/acme")
    if not path:
        raise InvalidInput(f"{text!r} names no scope: the whole log is {right}:/")
    if not path.isprintable() or any(character.isspace() for character in path):
        raise InvalidInput(
            f"{text!r} is not a grant: its scope must not contain spaces or control characters; "
            "write a space in a name as %20"
        )
    return Grant(right, parse_scope(path))
