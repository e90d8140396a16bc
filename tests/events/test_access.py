"""Principals: grants, and the one rule of what is seen."""

import pytest

from deploylog.errors import Forbidden, InvalidInput
from deploylog.events.access import ALL, ANONYMOUS, Grant, Principal, Visibility, parse_grant
from deploylog.events.scope import ROOT, Scope
from support.factories import new_event

ACME = Scope("project/acme")


@pytest.mark.parametrize(
    ("granted", "asked", "covers"),
    [
        ("read", "read", True),
        ("read", "write", False),
        ("write", "read", False),
        ("write", "write", True),
        ("write", "admin", False),
        ("admin", "read", True),
        ("admin", "write", True),
        ("admin", "admin", True),
    ],
)
def test_admin_includes_the_others_and_nothing_else_does(granted, asked, covers: bool):
    assert Grant(granted, ACME).covers(asked, ACME) == covers


def test_a_grant_covers_scopes_below_and_not_above_or_beside():
    grant = Grant("read", ACME)

    assert grant.covers("read", Scope("project/acme/stack/1"))
    assert not grant.covers("read", Scope("project"))
    assert not grant.covers("read", Scope("project/acmes"))
    assert not grant.covers("read", ROOT)


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("read:project/acme", Grant("read", ACME)),
        ("write:/project/acme/", Grant("write", ACME)),
        ("admin:/", Grant("admin", ROOT)),
        ("read:a:b", Grant("read", Scope("a:b"))),
    ],
)
def test_a_grant_is_parsed(text: str, grant: Grant):
    assert parse_grant(text) == grant


@pytest.mark.parametrize(
    "text",
    [
        "", "read", "own:a", "READ:a", ":a", "read:a//b", " read:a",
        "read:", "read: ", "read:a b", "read:a ", "read: a", "read:a\tb", "read:a\x1bb",
        "read:a\u2028b", "read:a\u00a0b",
    ],
)  # fmt: skip
def test_an_invalid_grant_is_refused(text: str):
    with pytest.raises(InvalidInput):
        parse_grant(text)


def test_a_forbidden_principal_learns_what_it_may_not_do():
    principal = Principal(name="ci", grants=(Grant("read", ACME),))

    principal.require("read", ACME)
    with pytest.raises(Forbidden, match="ci may not write project/acme"):
        principal.require("write", ACME)
    with pytest.raises(Forbidden, match="ci may not administer the whole log"):
        principal.require("admin", ROOT)


def test_the_error_of_a_grant_without_a_scope_shows_how_to_grant_the_whole_log():
    with pytest.raises(InvalidInput, match="the whole log is read:/"):
        parse_grant("read:")


def test_the_error_of_a_grant_with_a_space_shows_how_to_encode_it():
    with pytest.raises(InvalidInput, match="write a space in a name as %20"):
        parse_grant("read:project/a b")


@pytest.mark.parametrize(
    ("own", "event", "shown"),
    [
        (frozenset(), (), True),
        (frozenset(), ("*",), True),
        (frozenset(), ("ops",), False),
        (frozenset({"ops"}), ("ops", "web"), True),
        (frozenset({"ops"}), ("web",), False),
        (frozenset({"ops"}), ("*", "web"), True),
        (frozenset({"*"}), ("web",), False),
        (None, ("web",), True),
    ],
)
def test_groups_must_be_empty_or_public_or_shared(own, event, shown: bool):
    visibility = Visibility(scopes=(ROOT,), groups=own)

    assert visibility.shows(new_event(groups=event)) == shown


def test_one_of_the_scopes_must_be_granted():
    visibility = Visibility(scopes=(ACME,), groups=None)

    assert visibility.shows(new_event(scopes=("elsewhere", "project/acme/stack/1")))
    assert not visibility.shows(new_event(scopes=("elsewhere", "project")))


def test_only_readable_scopes_are_visible():
    grants = (Grant("write", Scope("a")), Grant("read", Scope("b")), Grant("admin", Scope("c")))

    assert Principal(name="x", grants=grants).visibility.scopes == (Scope("b"), Scope("c"))
    assert Principal(name="x").visibility.scopes == ()


def test_visibility_does_not_depend_on_the_order_of_grants():
    a, b = Grant("read", Scope("a")), Grant("read", Scope("b"))

    one = Principal(name="x", grants=(a, b)).visibility
    other = Principal(name="y", grants=(b, a, Grant("admin", Scope("a")))).visibility

    assert one == other
    assert hash(one) == hash(other)


def test_the_anonymous_principal_sees_every_event():
    assert ANONYMOUS.visibility == ALL
    assert ANONYMOUS.may("admin", ROOT)
