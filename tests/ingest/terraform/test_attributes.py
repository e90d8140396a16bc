import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploylog.deployments.changeset import SENSITIVE, ResourceChange
from deploylog.ingest.terraform.attributes import is_same
from support.plans import Json, new_resource, parse_one


def field_changes(change: ResourceChange) -> dict[str, Any]:
    """What is told of the fields, as far as anything is; paths of one step without it."""
    said = {
        "added": {_short(field.path): field.after for field in change.added},
        "modified": {_short(f.path): (f.before, f.after) for f in change.modified},
        "removed": [_short(path) for path in change.removed],
        "unchanged": [_short(path) for path in change.unchanged],
        "known_on_deploy": [_short(path) for path in change.known_on_deploy],
    }
    return {name: value for name, value in said.items() if value}


def _short(path: tuple[str | int, ...]) -> object:
    return path[0] if len(path) == 1 else path


NOTHING: Json = {}


@pytest.mark.parametrize(
    ("before", "after", "unknown", "expected"),
    [
        ({}, {}, {"a": True}, {"known_on_deploy": ["a"]}),
        ({"a": None}, {"a": None}, {"a": True}, {"known_on_deploy": ["a"]}),
        ({"a": 1}, {}, {"a": True}, {"known_on_deploy": ["a"], "modified": {"a": (1, None)}}),
        (
            {"a": {"b": 1}},
            {},
            {"a": True},
            {"known_on_deploy": ["a"], "modified": {"a": ({"b": 1}, None)}},
        ),
        (
            {"a": [1, 2]},
            {"a": [1, None]},
            {"a": [False, True]},
            {
                "unchanged": [("a", 0)],
                "known_on_deploy": [("a", 1)],
                "modified": {("a", 1): (2, None)},
            },
        ),
        ({}, {}, {"a": [{"b": True}]}, {"known_on_deploy": [("a", 0, "b")]}),
        ({"a": None}, {"a": "v"}, {}, {"added": {"a": "v"}}),
        ({}, {"a": "v"}, False, {"added": {"a": "v"}}),
        ({}, {"a": {"b": [0, False]}}, None, {"added": {("a", "b", 0): 0, ("a", "b", 1): False}}),
        ({"a": "v"}, {"a": None}, {}, {"removed": ["a"]}),
        ({"a": "v"}, {}, {}, {"removed": ["a"]}),
        ({"a": {"b": 1, "c": [2]}}, {}, {}, {"removed": [("a", "b"), ("a", "c", 0)]}),
        ({"a": [1, 2]}, {"a": [1]}, {}, {"unchanged": [("a", 0)], "removed": [("a", 1)]}),
        ({"a": "v"}, {"a": "v"}, {}, {"unchanged": ["a"]}),
        ({"a": ""}, {"a": ""}, {}, {"unchanged": ["a"]}),
        ({"a": None}, {"a": None}, {}, NOTHING),
        ({"a": None}, {}, {}, NOTHING),
        ({"a": 1}, {"a": 2}, {}, {"modified": {"a": (1, 2)}}),
        ({"a": 1}, {"a": "1"}, {}, {"modified": {"a": (1, "1")}}),
        ({"a": 1}, {"a": True}, {}, {"modified": {"a": (1, True)}}),
        ({"a": False}, {"a": 0}, {}, {"modified": {"a": (False, 0)}}),
        ({"a": 1}, {"a": 1.0}, {}, {"unchanged": ["a"]}),
        ({"a": ""}, {"a": None}, {}, {"removed": ["a"]}),
        ({"a": {"b": 1}}, {"a": "v"}, {}, {"modified": {"a": ({"b": 1}, "v")}}),
        ({"a": "v"}, {"a": [1]}, {}, {"modified": {"a": ("v", [1])}}),
        ({"a": [1]}, {"a": {"b": 1}}, {}, {"modified": {"a": ([1], {"b": 1})}}),
        ({"a": {}}, {"a": "v"}, {}, {"modified": {"a": ({}, "v")}}),
        (
            {"a": "v"},
            {"a": {"c": 1}},
            {"a": {"b": True}},
            {"modified": {"a": ("v", {"c": 1})}, "known_on_deploy": [("a", "b")]},
        ),
        (
            {"a": "v"},
            {},
            {"a": {"b": True}},
            {"modified": {"a": ("v", None)}, "known_on_deploy": [("a", "b")]},
        ),
        ({"a": {}, "b": []}, {}, {}, NOTHING),
        ({}, {"a": {}, "b": [], "c": {"d": []}}, {}, NOTHING),
        ({"a": {}}, {"a": {}}, {"a": {}}, NOTHING),
        ({"a": []}, {}, {"a": True}, {"known_on_deploy": ["a"]}),
    ],
)  # fmt: skip
def test_each_leaf_is_reported(before: Json, after: Json, unknown: Json, expected: Json) -> None:
    change = parse_one(new_resource(before=before, after=after, after_unknown=unknown))

    assert field_changes(change) == expected


@pytest.mark.parametrize(
    ("before", "after", "unknown", "expected"),
    [
        ("s", "s", {}, {"unchanged": ["a"]}),
        ("s", "t", {}, {"modified": {"a": (SENSITIVE, SENSITIVE)}}),
        ({"b": 1}, {"b": 2}, {}, {"modified": {"a": (SENSITIVE, SENSITIVE)}}),
        ({"b": 1}, {"b": 1}, {}, {"unchanged": ["a"]}),
        ({"b": 1}, {"b": True}, {}, {"modified": {"a": (SENSITIVE, SENSITIVE)}}),
        (None, "s", {}, {"added": {"a": SENSITIVE}}),
        (None, False, {}, {"added": {"a": SENSITIVE}}),
        ("s", None, {}, {"removed": ["a"]}),
        (None, None, {}, NOTHING),
        ({}, None, {}, NOTHING),
        (None, None, True, {"known_on_deploy": ["a"]}),
        ("s", None, True, {"known_on_deploy": ["a"], "modified": {"a": (SENSITIVE, None)}}),
        (
            {"b": 1, "c": 2},
            {"b": 1},
            {"c": True},
            {"known_on_deploy": ["a"], "modified": {"a": (SENSITIVE, None)}},
        ),
    ],
)
@pytest.mark.parametrize("side", ["before_sensitive", "after_sensitive"])
def test_sensitive_values_are_compared_but_not_reported(
    before: Json, after: Json, unknown: Json, expected: Json, side: str
) -> None:
    sensitive: dict[str, Any] = {side: {"a": True}}
    change = parse_one(
        new_resource(
            before={"a": before},
            after={"a": after},
            after_unknown={"a": unknown},
            **sensitive,
        )
    )

    assert field_changes(change) == expected
    assert all(field.sensitive for field in (*change.added, *change.modified))
    assert change.before == {"a": None if before is None else SENSITIVE}
    assert change.after == {"a": None if after is None else SENSITIVE}


def test_a_mark_above_hides_all_below() -> None:
    change = parse_one(new_resource(before={"a": 1}, after={"a": 2}, before_sensitive=True))

    assert field_changes(change) == {"modified": {(): (SENSITIVE, SENSITIVE)}}
    assert change.before == change.after == SENSITIVE


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([["a"]], {("a", "b", 0)}),
        ([["a", "b"]], {("a", "b", 0)}),
        ([["a", "b", 0]], {("a", "b", 0)}),
        ([["a", "b", 0, "deeper"]], {("a", "b", 0)}),
        ([["a", "b", 1]], set()),
        ([["c"], ["x"]], {("c",)}),
        ([[]], {("a", "b", 0), ("c",)}),
        ([], set()),
        (None, set()),
    ],
)
def test_a_field_replaces_whose_path_is_one_of_those_above_or_below(
    paths: Json, expected: set[Any]
) -> None:
    change = parse_one(
        new_resource(
            "delete", "create",
            before={"a": {"b": [1]}, "c": 1}, after={"a": {"b": [2]}}, after_unknown={"c": True},
            replace_paths=paths,
        )
    )  # fmt: skip

    assert {field.path for field in change.modified if field.replaces} == expected


def test_no_field_of_a_creation_replaces() -> None:
    change = parse_one(new_resource("create", after={"a": 1}, replace_paths=[["a"]]))

    assert not change.added[0].replaces


# What the provider chooses


def new_configuration(*names: str, **expressions: Json) -> Json:
    """A configuration with the resource ``a.b``, in the modules of these names."""
    resource = {"address": "a.b", "mode": "managed", "type": "a", "name": "b"}
    module: Json = {"resources": [resource | ({"expressions": expressions} if expressions else {})]}
    for name in reversed(names):
        module = {"module_calls": {name: {"module": module}}}
    return {"root_module": module}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (None, ()),
        ({}, ()),
        (new_configuration(), (("id",), ("set", "x"))),
        (new_configuration(set={"references": ["a.c"]}), (("id",),)),
        (new_configuration("other"), ()),
    ],
)
def test_what_is_unknown_and_not_configured_is_computed(
    configuration: Json, expected: Json
) -> None:
    resource = new_resource("create", after={}, after_unknown={"id": True, "set": {"x": True}})

    change = parse_one(resource, configuration=configuration)

    assert change.known_on_deploy == (("id",), ("set", "x"))
    assert change.computed == expected


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("module.m", ["m"]),
        ("module.m[0]", ["m"]),
        ("module.m.module.n", ["m", "n"]),
        ('module.m["x"].module.n[1]', ["m", "n"]),
        (r'module.m["a.b]\".module.no[\\"].module.n', ["m", "n"]),
        ('module.m["module.x"].module.m', ["m", "m"]),
    ],
)
def test_a_module_is_found_by_its_address(address: str, names: list[str]) -> None:
    resource = new_resource(
        "create", address=f"{address}.a.b", module_address=address, after_unknown={"id": True}
    )

    change = parse_one(resource, configuration=new_configuration(*names))

    assert change.computed == (("id",),)


# What holds for all values


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, Decimal("1.0"), True),
        (True, 1, False),
        (0, False, False),
        (True, True, True),
        ([1, {"a": Decimal("2.50")}], [1, {"a": Decimal("2.5")}], True),
        ([1], [True], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ("1", 1, False),
        (None, False, False),
        ([], {}, False),
    ],
)
def test_values_are_the_same_as_json(one: Json, other: Json, same: bool) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same


KEYS = ["a", "b", "c.d", "e"]
scalar = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "y"])
json_value = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=10,
)
attributes = st.dictionaries(st.sampled_from(KEYS), json_value, max_size=4)


@st.composite
def changed(draw: st.DrawFn, value: Json) -> tuple[Json, Json]:
    """A value like this one, and what is unknown in it, as a tool writes them."""
    match draw(st.integers(0, 9)):
        case 0:
            return None, True
        case 1:
            return draw(json_value), False
    if isinstance(value, dict):
        parts = {name: draw(changed(inner)) for name, inner in value.items()}
        known = {name: part for name, (part, unknown) in parts.items() if unknown is not True}
        return known, {name: unknown for name, (_, unknown) in parts.items() if unknown}
    if isinstance(value, list):
        pairs = [draw(changed(inner)) for inner in value[: draw(st.integers(0, 5))]]
        return [part for part, _ in pairs], [unknown for _, unknown in pairs]
    return value, False


@st.composite
def changes(draw: st.DrawFn) -> tuple[Json, Json, Json]:
    before = draw(attributes)
    parts = {name: draw(changed(value)) for name, value in before.items()}
    parts |= {name: (value, False) for name, value in draw(attributes).items() if name not in parts}
    after = {name: part for name, (part, unknown) in parts.items() if unknown is not True}
    return before, after, {name: unknown for name, (_, unknown) in parts.items()}


@pytest.mark.slow
@settings(max_examples=500)
@given(changes())
@example(({"a": {"b": 1}}, {"a": [1]}, {}))
@example(({"a": [1, 2]}, {"a": [None, 2]}, {"a": [True, False]}))
def test_what_learns_of_the_fields_leads_from_before_to_after(values: tuple[Json, ...]) -> None:
    before, after, unknown = values

    change = parse_one(new_resource(before=before, after=after, after_unknown=unknown))

    assert without_nothing(applied(change)) == without_nothing(after)
    leaves = [
        *(field.path for field in (*change.added, *change.modified)),
        *change.removed,
        *change.unchanged,
    ]
    assert len(set(leaves)) == len(leaves)


def applied(change: ResourceChange) -> Json:
    """What is before, with the fields put in and taken out that are told."""
    value = copy.deepcopy(change.before)
    # What is known only later is null in a list and absent elsewhere.
    for path in (*change.removed, *change.known_on_deploy):
        value = put(value, path, None)
    unknown = set(change.known_on_deploy)
    for field in (*change.modified, *change.added):
        if field.path not in unknown:
            value = put(value, field.path, field.after)
    return value


def put(value: Json, path: tuple[str | int, ...], inner: Json) -> Json:
    """``value`` with ``inner`` at the end of the path; in lists null stands for nothing."""
    if not path:
        return copy.deepcopy(inner)
    step, *rest = path
    if isinstance(step, str):
        value = dict(value) if isinstance(value, dict) else {}
        value[step] = put(value.get(step), tuple(rest), inner)
        return value
    value = list(value) if isinstance(value, list) else []
    value += [None] * (step + 1 - len(value))
    value[step] = put(value[step], tuple(rest), inner)
    return value


def without_nothing(value: Json) -> Json:
    """Without nulls and what is empty, but in a list before its last; true is not 1."""
    if isinstance(value, dict):
        inner = {name: without_nothing(part) for name, part in value.items()}
        return {name: part for name, part in inner.items() if part is not None} or None
    if isinstance(value, list):
        items = [without_nothing(part) for part in value]
        while items and items[-1] is None:
            items.pop()
        return items or None
    return None if value is None else (type(value), value)
