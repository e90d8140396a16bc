"""Scopes: one canonical spelling, and what contains what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidScope
from deploylog.events.scope import (
    MAX_LENGTH,
    MAX_SEGMENTS,
    ROOT,
    Scope,
    contains,
    deployment_scope,
    parse_scope,
    prefixes,
    scope,
    segments,
    stack_scope,
    state_scope,
)

_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
_paths = st.lists(_names, min_size=1, max_size=6)


@given(names=_paths)
def test_the_names_of_a_scope_round_trip(names: list[str]):
    made = scope(*names)

    assert segments(made) == tuple(names)
    assert made.isascii()
    assert " " not in made


@given(names=_paths)
def test_a_scope_is_in_its_canonical_spelling(names: list[str]):
    made = scope(*names)

    assert parse_scope(made) == made
    assert parse_scope(f"/{made}/") == made


@given(names=_paths)
def test_the_prefixes_are_the_scopes_that_contain_it(names: list[str]):
    made = scope(*names)

    assert len(prefixes(made)) == len(names)
    assert prefixes(made)[-1] == made
    assert all(contains(prefix, made) for prefix in prefixes(made))


@given(outer=_paths, inner=_paths)
def test_containing_is_by_whole_segments(outer: list[str], inner: list[str]):
    assert contains(scope(*outer), scope(*inner)) == (inner[: len(outer)] == outer)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ROOT),
        ("/", ROOT),
        ("a", "a"),
        ("/a/b/", "a/b"),
        ("%61", "a"),
        ("a%2fb", "a%2Fb"),
        ("a b", "a%20b"),
        ("ü", "%C3%BC"),
        ("%c3%bc", "%C3%BC"),
        ("a@b:c=d", "a@b:c=d"),
        ("100%", "100%25"),
    ],
)
def test_a_scope_is_parsed_to_its_canonical_spelling(text: str, canonical: str):
    assert parse_scope(text) == canonical


@pytest.mark.parametrize(
    "text", ["a//b", "a%00", "a/" * MAX_SEGMENTS + "a", "a" * (MAX_LENGTH + 1), "ü" * 500]
)
def test_an_invalid_scope_is_refused(text: str):
    with pytest.raises(InvalidScope) as raised:
        parse_scope(text)

    assert raised.value.field == "scope"


def test_scopes_at_the_limits_are_valid():
    assert len(segments(parse_scope("/".join("a" * MAX_SEGMENTS)))) == MAX_SEGMENTS
    assert len(parse_scope("a" * MAX_LENGTH)) == MAX_LENGTH


def test_the_root_contains_everything_and_only_itself_contains_it():
    assert contains(ROOT, Scope("a"))
    assert contains(ROOT, ROOT)
    assert not contains(Scope("a"), ROOT)
    assert segments(ROOT) == ()


def test_the_scopes_of_the_log_are_as_documented():
    assert stack_scope("acme", "1") == "project/acme/stack/1"
    assert deployment_scope("a/b", "1", "2") == "project/a%2Fb/stack/1/deployment/2"
    assert state_scope("acme", "prod", "web") == "state/acme/prod/web"
