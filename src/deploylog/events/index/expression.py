"""Expressions: what a query asks of the index.

``compile_query`` turns a ``Query`` into a boolean expression over terms. Visibility is part of the
expression like any other condition, so what a caller may not see is in no page and in no count.
"""

from collections.abc import Iterator

import msgspec

from deploylog.events.access import Visibility
from deploylog.events.event import PUBLIC_GROUP
from deploylog.events.filters import AnyOf, Filter
from deploylog.events.index.terms import PUBLIC, WORDY, term
from deploylog.events.scope import ROOT, Scope, contains
from deploylog.events.store import Query
from deploylog.events.text import Phrase, spellings


class Term(msgspec.Struct, frozen=True):
    """Events that have this term."""

    text: str


class Prefix(msgspec.Struct, frozen=True):
    """Events that have a term which starts with this text."""

    text: str


class Any(msgspec.Struct, frozen=True):
    """Events that one of these selects; none when there are none."""

    of: tuple["Expression", ...]


class All(msgspec.Struct, frozen=True):
    """Events that each of ``of`` selects, and none of ``without``."""

    of: tuple["Expression", ...] = ()
    without: tuple["Expression", ...] = ()


Expression = Term | Prefix | Any | All


def leaves(expression: Expression) -> Iterator[Term | Prefix]:
    """Every term and prefix of an expression."""
    match expression:
        case Any(of=parts):
            for part in parts:
                yield from leaves(part)
        case All(of=parts, without=excluded):
            for part in (*parts, *excluded):
                yield from leaves(part)
        case _:
            yield expression


def compile_query(query: Query) -> All:
    """The expression that selects the events of ``query``, apart from positions and time.

    It may select more where the filter has phrases; ``Filter.matches`` decides then.
    """
    return All(
        of=(
            *_filter_parts(query.filter),
            *(_any_scope(scopes) for scopes in _scopes(query)),
            *_group_parts(query.visibility),
        ),
        without=tuple(_any_of(condition) for condition in query.filter.none_of),
    )


def _filter_parts(filter: Filter) -> Iterator[Expression]:
    for condition in filter.all_of:
        yield _any_of(condition)
    for phrase in filter.phrases:
        yield from _phrase_parts(phrase)
    if filter.resources:
        names = dict.fromkeys(filter.resources)
        fields = ("resource_address", "resource_id")
        yield Any(tuple(Term(term(field, name)) for field in fields for name in names))


def _any_of(condition: AnyOf) -> Expression:
    return _any(
        (
            *(Term(term(condition.field, value)) for value in dict.fromkeys(condition.values)),
            *(Prefix(term(condition.field, prefix)) for prefix in condition.prefixes),
        )
    )


def _phrase_parts(phrase: Phrase) -> Iterator[Expression]:
    """Each word of it, or an event with too many words for the index."""
    *whole, last = phrase.words
    for word in whole:
        yield Any((*_spelt(word), Term(WORDY)))
    ends = (Prefix(term("word", last)),) if phrase.is_prefix else ()
    yield Any((*ends, *_spelt(last), Term(WORDY)))


def _spelt(word: str) -> tuple[Term, ...]:
    return tuple(Term(term("word", each)) for each in spellings(word))


def _any_scope(scopes: tuple[Scope, ...]) -> Expression:
    return _any(tuple(Term(term("scope", path)) for path in dict.fromkeys(scopes)))


def _group_parts(visibility: Visibility) -> Iterator[Expression]:
    if visibility.groups is not None:
        groups = sorted(visibility.groups | {PUBLIC_GROUP})
        yield Any((Term(PUBLIC), *(Term(term("group", group)) for group in groups)))


def _any(parts: tuple[Expression, ...]) -> Expression:
    return parts[0] if len(parts) == 1 else Any(parts)


def _scopes(query: Query) -> Iterator[tuple[Scope, ...]]:
    """Sets of scopes; the event must lie below one of each set."""
    asked = query.filter.scopes
    if query.scope:
        yield (query.scope,)
    if asked and ROOT not in asked:
        yield asked
    granted = query.visibility.scopes
    is_granted = any(contains(scope, query.scope) for scope in granted) or (
        bool(asked) and all(any(contains(scope, each) for scope in granted) for each in asked)
    )
    if not is_granted:
        yield granted
