"""Filters in memory; ``tests/store`` holds them equal to the store's."""

import pytest

from deploylog.events.event import Resource
from deploylog.events.filters import EVERYTHING, FIELDS, AnyOf, Filter, any_of
from support.factories import new_event

VPC = Resource(type="aws_vpc", name="main", key="0")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "resource.create.started"),
        ("source", "terraform"),
        ("actor", "alice"),
        ("subject", "web"),
        ("resource_type", "aws_vpc"),
        ("resource_name", "main"),
        ("resource_key", "0"),
    ],
)
def test_every_field_can_be_filtered_by(field, value: str):
    event = new_event(actor="alice", subject="web", resource=VPC)

    assert any_of(field, (value,)).matches(event)
    assert any_of(field, ("x", value)).matches(event)
    assert not any_of(field, ("x",)).matches(event)
    assert not any_of(field, (value.upper() + "x",)).matches(event)


def test_an_event_without_the_field_never_matches():
    event = new_event()

    for field in set(FIELDS) - {"type", "source"}:
        assert not any_of(field, ("", "x", ".*")).matches(event)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("resource.*", True),
        ("resource.create.*", True),
        ("resource.create.started", True),
        ("resource.create.started.*", False),
        ("resource.cre.*", False),
        ("resource", False),
        ("resource*", False),
        ("*", False),
        (".*", False),
    ],
)
def test_a_pattern_is_a_value_or_everything_below_one(pattern: str, matches: bool):
    assert any_of("type", (pattern,)).matches(new_event()) == matches


def test_a_condition_without_values_matches_nothing():
    assert not AnyOf(field="type").matches(new_event())


def test_every_condition_has_to_hold():
    event = new_event(actor="alice")
    type, actor = any_of("type", ("resource.*",)), any_of("actor", ("bob",))

    assert Filter(all_of=(type,)).matches(event)
    assert not Filter(all_of=(type, actor)).matches(event)


def test_since_is_inclusive_and_until_exclusive():
    event = new_event(time=10)

    assert Filter(since=10, until=11).matches(event)
    assert not Filter(since=11).matches(event)
    assert not Filter(until=10).matches(event)


def test_the_empty_filter_matches_every_event():
    assert EVERYTHING.matches(new_event())
