"""Truncation: what is left out first, and that the result fits."""

import pytest

from deploylog.deployments.changeset import (
    Changes,
    FieldChange,
    ResourceChange,
    decode_changes,
    encode,
)
from deploylog.deployments.truncation import TOO_LONG, truncate_changes, truncate_resource

pytestmark = pytest.mark.slow


def change(**fields: object) -> ResourceChange:
    given = {"name": "t.a", "address": "t.a", "type": "t", "action": "update", **fields}
    return ResourceChange(**given)  # type: ignore[arg-type]


def field(name: str = "a", **fields: object) -> FieldChange:
    return FieldChange(path=(name,), **fields)  # type: ignore[arg-type]


def test_a_change_that_fits_is_unchanged():
    small = change(before={"a": 1}, after={"a": 2}, modified=(field(before=1, after=2),))

    assert truncate_resource(small, 10_000) is small


def test_attributes_before_are_left_out_first_then_those_after_then_the_unchanged():
    whole = change(
        before={"a": "x" * 500},
        after={"a": "y" * 400},
        unchanged=tuple((f"field{n}",) for n in range(30)),
        added=(field(after=1),),
    )

    first = truncate_resource(whole, len(encode(whole)) - 1)
    second = truncate_resource(whole, len(encode(first)) - 1)
    third = truncate_resource(whole, len(encode(second)) - 1)

    assert (first.before, first.after) == (None, {"a": "y" * 400})
    assert (second.after, len(second.unchanged)) == (None, 30)
    assert (third.unchanged, third.added) == ((), whole.added)
    assert first.truncated
    assert second.truncated
    assert third.truncated


def test_long_values_are_marked_before_fields_are_dropped():
    whole = change(modified=(field(before="x" * 5_000, after="y"), field("b", after=1)))

    abridged = truncate_resource(whole, 1_000)

    assert [(f.before, f.after) for f in abridged.modified] == [(TOO_LONG, "y"), (None, 1)]


@pytest.mark.parametrize("limit", [400, 1_000, 65_536])
def test_a_hundred_thousand_fields_fit_in_the_end(limit: int):
    whole = change(
        added=tuple(field(f"field{n}", after=n) for n in range(100_000)),
        removed=tuple((f"gone{n}",) for n in range(100_000)),
    )

    abridged = truncate_resource(whole, limit)

    assert len(encode(abridged)) <= limit
    assert abridged.added == whole.added[: len(abridged.added)]


@pytest.mark.parametrize("limit", [1_000, 50_000, 262_144])
def test_a_change_set_of_ten_thousand_resources_fits_in_the_end(limit: int):
    resources = tuple(change(name=f"t.a[{n}]", before={"x": "y" * 90}) for n in range(10_000))
    whole = Changes(resources=resources)

    abridged = truncate_changes(whole, limit)

    assert len(encode(abridged)) <= limit
    assert abridged.truncated


def test_the_names_in_a_change_set_are_left_out_last():
    resources = tuple(
        change(name=f"t.a[{n}]", added=(field(after="x" * 200),) * 5) for n in range(100)
    )

    abridged = truncate_changes(Changes(resources=resources), 12_000)

    assert [c.name for c in abridged.resources] == [c.name for c in resources]
    assert {c.added for c in abridged.resources} == {()}


def test_changes_that_were_stored_as_abridged_are_read_as_truncated():
    resource = b'"name":"a","address":"\\"abridged\\":true","type":"t","action":"create"'
    stored = b'{"resources":[{' + resource + b',"abridged":true}],"abridged":true}'

    changes = decode_changes(stored)

    assert changes.truncated
    assert changes.resources[0].truncated
    assert changes.resources[0].address == '"abridged":true'
