"""Fields before and after: values to read, lines that differ, and what must not be seen."""

import json

import pytest

from deploylog.ui.field_diff import (
    MAX_CHARACTERS,
    MAX_LINES,
    FieldDiff,
    Line,
    diff_fields,
    render_path,
    render_value,
)
from support.plans import Json, new_resource, parse_one


def fields_of(*actions: str, **parts: Json) -> list[FieldDiff]:
    return diff_fields(parse_one(new_resource(*actions, **parts)))


def test_a_field_has_its_value_before_and_after():
    [field] = fields_of("update", before={"size": 1}, after={"size": 2})

    assert (field.path, field.sign, field.before, field.after) == ("size", "~", "1", "2")


def test_added_and_removed_fields_have_one_value():
    added, removed = fields_of("update", before={"old": "x"}, after={"new": True})

    assert (added.path, added.sign, added.before, added.after) == ("new", "+", None, "true")
    assert (removed.path, removed.sign, removed.before, removed.after) == ("old", "-", '"x"', None)


def test_what_forces_a_replacement_comes_first():
    first, second = fields_of(
        "delete", "create", before={"a": 1, "z": 1}, after={"a": 2, "z": 2}, replace_paths=[["z"]]
    )

    assert (first.path, first.replaces) == ("z", True)
    assert (second.path, second.replaces) == ("a", False)


def test_a_sensitive_value_is_not_there():
    [field] = fields_of(
        "update",
        before={"password": "hunter2"},
        after={"password": "hunter3"},
        before_sensitive={"password": True},
        after_sensitive={"password": True},
    )

    assert field.is_sensitive
    assert "hunter" not in repr(field)


def test_a_value_that_is_known_later_says_so():
    new, changed = fields_of(
        "update", before={"ip": "10.0.0.1"}, after={}, after_unknown={"id": True, "ip": True}
    )

    assert (new.path, new.sign, new.is_unknown) == ("id", "+", True)
    assert (changed.before, changed.after, changed.is_unknown) == ('"10.0.0.1"', None, True)


def test_a_resource_that_goes_shows_what_goes_with_it():
    [field] = fields_of("delete", before={"ami": "a", "none": None}, after=None)

    assert (field.path, field.sign, field.before) == ("ami", "-", '"a"')


def test_long_texts_are_compared_line_by_line():
    before = "\n".join(map(str, range(20)))
    [field] = fields_of("update", before={"x": before}, after={"x": before.replace("10", "ten")})

    assert Line("-", "10") in field.lines
    assert Line("+", "ten") in field.lines
    assert Line(" ", "5") not in field.lines


def test_json_in_a_text_is_laid_out():
    policy = json.dumps({"Statement": [{"Action": "s3:GetObject", "Resource": "x" * 60}]})

    assert '\n  "Statement"' in render_value(policy)
    assert render_value("{not json" + "x" * 100) == json.dumps("{not json" + "x" * 100)


def test_a_huge_value_is_cut():
    [long] = fields_of("create", after={"x": "a" * 100_000})
    [many] = fields_of("create", after={"x": "\n".join(["line"] * 700)})

    assert len(str(long.after)) <= MAX_CHARACTERS + 1
    assert len(many.lines) == MAX_LINES + 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("tags", "team"), "tags.team"),
        (("rule", 0, "port"), "rule[0].port"),
        (("a key",), '["a key"]'),
        ((), "(the whole)"),
    ],
)
def test_a_path_is_readable(path: tuple[str | int, ...], text: str):
    assert render_path(path) == text
