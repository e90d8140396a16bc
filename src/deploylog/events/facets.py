"""Facets: how many events have each value of a field."""

import msgspec


class Facet(msgspec.Struct, frozen=True):
    """A value of a field, and how many events have it."""

    value: str
    count: int


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values, most frequent first, and how many events there are in all."""

    top: tuple[Facet, ...]
    #: Different values.
    values: int
    total: int
