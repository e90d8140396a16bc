"""Filters: an AND of ORs over an event's fields.

A filter has two evaluators: ``matches`` here, for events in memory, and the expression that
``deploylog.events.index.expression`` makes of it. A property test keeps them equal.
"""

from collections.abc import Callable
from typing import Literal, get_args

import msgspec

from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, contains
from deploylog.events.text import Phrase

Field = Literal[
    "type",
    "source",
    "actor",
    "subject",
    "resource_type",
    "resource_name",
    "resource_key",
    "resource_address",
    "resource_id",
]

FIELDS: tuple[Field, ...] = get_args(Field)

_GETTERS: dict[Field, Callable[[NewEvent], str | None]] = {
    "type": lambda event: event.type,
    "source": lambda event: event.source,
    "actor": lambda event: event.actor,
    "subject": lambda event: event.subject,
    "resource_type": lambda event: event.resource.type if event.resource else None,
    "resource_name": lambda event: event.resource.name if event.resource else None,
    "resource_key": lambda event: event.resource.key if event.resource else None,
    "resource_address": lambda event: event.resource.address if event.resource else None,
    "resource_id": lambda event: event.resource.id_value if event.resource else None,
}


class AnyOf(msgspec.Struct, frozen=True, kw_only=True):
    """The field has one of these values, or starts with one of these prefixes.

    An event without the field never matches.
    """

    field: Field
    values: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def matches(self, event: NewEvent) -> bool:
        value = _GETTERS[self.field](event)
        if value is None:
            return False
        return value in self.values or value.startswith(self.prefixes)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Every condition holds, and the event happened in ``[since, until)``."""

    all_of: tuple[AnyOf, ...] = ()
    #: No event that meets one of these passes.
    none_of: tuple[AnyOf, ...] = ()
    #: Full text; every phrase must be found.
    phrases: tuple[Phrase, ...] = ()
    #: The event is about one of these, each an address or an id; none means anything.
    resources: tuple[str, ...] = ()
    #: The event is below one of these; none means anywhere.
    scopes: tuple[Scope, ...] = ()
    #: ns since 1970, inclusive.
    since: int | None = None
    #: ns since 1970, exclusive.
    until: int | None = None

    @property
    def time_bounds(self) -> tuple[int, int]:
        """The first and the last time (ns) that an event may have."""
        since = self.since if self.since is not None else 0
        until = self.until if self.until is not None else 1 << 63
        return since, until - 1

    def matches(self, event: NewEvent) -> bool:
        if self.since is not None and event.time < self.since:
            return False
        if self.until is not None and event.time >= self.until:
            return False
        return (
            self._covers(event)
            and self._is_about(event.resource)
            and all(condition.matches(event) for condition in self.all_of)
            and not any(condition.matches(event) for condition in self.none_of)
            and all(phrase.matches(event) for phrase in self.phrases)
        )

    def _covers(self, event: NewEvent) -> bool:
        return not self.scopes or any(
            contains(outer, inner) for outer in self.scopes for inner in event.scopes
        )

    def _is_about(self, resource: Resource | None) -> bool:
        if not self.resources:
            return True
        return resource is not None and (
            resource.address in self.resources or resource.id_value in self.resources
        )


EVERYTHING = Filter()


def any_of(field: Field, patterns: tuple[str, ...]) -> AnyOf:
    """Parse ``patterns``, each a value, or ``prefix.*`` for all values below the prefix."""
    return AnyOf(
        field=field,
        values=tuple(text for text in patterns if not text.endswith(".*")),
        prefixes=tuple(text[:-1] for text in patterns if text.endswith(".*")),
    )


def patterns_of(condition: AnyOf) -> tuple[str, ...]:
    """The patterns that ``any_of`` parses into the condition."""
    return (*condition.values, *(f"{prefix}*" for prefix in condition.prefixes))
