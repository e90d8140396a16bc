"""Truncation of Bluelink's frames: within the client's limit, least informative parts first."""

import json
from random import Random
from typing import Any

import pytest

from deploylog.api.bluelink.blueprint_changes import (
    render_blueprint,
    render_drift_and_warnings,
    render_reconciliation,
    render_resource,
)
from deploylog.api.bluelink.truncation import (
    ANYTHING,
    MAX_FRAME_BYTES,
    Forms,
    Json,
    no_forms,
    render_fitting_frame,
    render_frame,
    shorter_blueprints,
    shorter_drifts,
    shorter_resources,
)
from deploylog.api.bluelink.wire import _fewer_diagnostics
from deploylog.deployments.changeset import (
    Changes,
    Diagnostic,
    FieldChange,
    OutputChange,
    ResourceChange,
)
from deploylog.deployments.truncation import TOO_LONG

pytestmark = pytest.mark.slow

ID = "01a1fc46-f892-78da-b64d-c3e9e9b817a3"

MEGABYTE = 1_000_000

#: One character each, of one to four bytes, or more once it is escaped.
CHARACTERS = ["x", "ä", "漢", "🦊", '"', "\n", "\x01", "${"]


def change(action: str = "update", **fields: Any) -> ResourceChange:
    given = {"name": "t.a", "address": "t.a", "type": "t", "action": action, **fields}
    return ResourceChange(**given)


def field(name: str = "name", before: object = None, after: object = None) -> FieldChange:
    return FieldChange(path=(name,), before=before, after=after)


def of_resource(change: ResourceChange) -> Json:
    return render_resource(change, instance_id="", timestamp=1)


def of_all(changes: Changes) -> Json:
    return {
        "changes": render_blueprint(changes, ""),
        "timestamp": 1,
        **render_drift_and_warnings(changes, ""),
    }


def of_drift(changes: Changes) -> Json:
    result = render_reconciliation(changes, "")
    return {"message": "drift", "reconciliationResult": result, "timestamp": 1}


def fitted(data: Json, forms: Forms) -> dict[str, Any]:
    """The data of the frame that fits."""
    frame = render_fitting_frame("x", ID, data, forms)
    assert len(frame) <= MAX_FRAME_BYTES
    assert frame.count(b"\n\n") == 1
    assert b"${" not in frame
    name, result, id, *end = frame.split(b"\n")
    assert (name, id, end) == (b"event: x", f"id: {ID}".encode(), [b"", b""])
    return json.loads(result.removeprefix(b"data: "))


# The order of its lines


def test_a_frame_has_its_id_after_all_its_data():
    data: Json = {"resourceName": "a", "timestamp": 1}
    frame = render_frame("resourceChanges", ID, data)

    cut = [frame[:length].decode().split("\n") for length in range(len(frame))]

    result = [dict(line.split(": ", 1) for line in lines if ": " in line) for lines in cut]
    assert any("id" in fields for fields in result)
    assert all(json.loads(fields["data"]) == data for fields in result if "id" in fields)


# The limit


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_a_frame_at_the_limit_is_whole_and_one_byte_longer_is_truncated(size: int, character: str):
    def of(padding: str) -> Json:
        return of_resource(change("create", after={}, unchanged=((padding,), ("b",))))

    one = len(render_frame("x", ID, of(character * 10)))
    each = (len(render_frame("x", ID, of(character * 20))) - one) // 10
    number = (size - len(render_frame("x", ID, of("")))) // each - 1
    data = of(character * number)
    data = of(character * number + "x" * (size - len(render_frame("x", ID, data))))
    assert len(render_frame("x", ID, data)) == size

    result = fitted(data, shorter_resources)

    assert ("truncated" in result) == (size > MAX_FRAME_BYTES)
    assert (result["changes"]["unchangedFields"] == []) == (size > MAX_FRAME_BYTES)


# The order of removal


def too_large(*large: str) -> ResourceChange:
    """A change whose named parts are each larger than a frame."""
    huge = "x" * 70_000
    short = field("short", "a", "b")
    return change(
        id="i-1",
        before={"a": huge if "before" in large else 1},
        after={"a": huge if "after" in large else 2},
        unchanged=((huge,),) if "unchanged" in large else (("same",),),
        modified=(field("long", huge, huge), short) if "values" in large else (short,),
        removed=tuple((f"field{n}",) for n in range(10_000)) if "many" in large else (),
    )


def summary(expected: dict[str, Any]) -> dict[str, Any]:
    """What remains of the parts that truncation removes."""
    changes = expected["changes"]
    info = changes["appliedResourceInfo"]
    return {
        "state": info["currentResourceState"] and info["currentResourceState"]["specData"],
        "has_state": info["currentResourceState"] is not None,
        "spec": info["resourceWithResolvedSubs"] and info["resourceWithResolvedSubs"]["spec"],
        "has_resource": info["resourceWithResolvedSubs"] is not None,
        "unchanged": changes["unchangedFields"],
        "modified": [each["newValue"] for each in changes["modifiedFields"]],
        "removed": len(changes["removedFields"]),
    }


WHOLE = {
    "state": {"a": 1},
    "has_state": True,
    "spec": {"a": 2},
    "has_resource": True,
    "unchanged": ["spec.same"],
    "modified": ["b"],
    "removed": 0,
}


@pytest.mark.parametrize(
    ("large", "left"),
    [
        ((), {}),
        (("before",), {"state": None}),
        (("after",), {"state": None, "has_state": False, "spec": None}),
        (("unchanged",), {"state": None, "has_state": False, "spec": None, "unchanged": []}),
        (
            ("values",),
            {"state": None, "has_state": False, "spec": None, "unchanged": [],
             "has_resource": False, "modified": [TOO_LONG, "b"]},
        ),
        (
            ("many",),
            {"state": None, "has_state": False, "spec": None, "unchanged": [],
             "has_resource": False, "removed": 2_500},
        ),
    ],
)  # fmt: skip
def test_parts_of_a_resource_are_removed_in_order(large: tuple[str, ...], left: dict[str, Any]):
    result = fitted(of_resource(too_large(*large)), shorter_resources)

    assert summary(result) == WHOLE | left
    assert ("truncated" in result) == bool(large)


def test_each_step_preserves_the_engines_key_order():
    forms = shorter_resources(of_resource(too_large()))

    seen = []
    before = WHOLE
    for _ in range(5):
        after = summary(next(forms))
        seen.append([name for name in before if before[name] != after[name]])
        before = after

    assert seen == [["state"], ["has_state"], ["spec"], ["unchanged"], ["has_resource"]]


def test_parts_of_all_changes_are_removed_in_the_same_order():
    changes = Changes(
        resources=(too_large(), change("create", name="t.b", after={"a": 1}), change("delete")),
        outputs=(OutputChange(name="o", action="create", after="x" * 1_000),),
        drift=(change(before={"a": 1}, after={"a": 2}),),
        problems=(Diagnostic(level="warning", message="odd"),),
    )

    forms: list[Any] = list(shorter_blueprints(of_all(changes)))

    resources = [form["changes"]["resourceChanges"] for form in forms]
    first = {"resourceName": "t.a", "changes": resources[0]["t.a"]}
    assert summary(first) == WHOLE | {"state": None}
    assert [form["drift"][0]["persistedState"] for form in forms[:1]] == [None]
    assert forms[6]["changes"]["newExports"]["o"]["newValue"] == TOO_LONG
    assert resources[-2] == {"t.a": {}}
    assert forms[-2]["changes"]["newResources"] == {"t.b": {}}
    assert forms[-2]["changes"]["newExports"] == {"o": {}}
    assert forms[-2]["changes"]["removedResources"] == ["t.a"]
    assert forms[-1]["changes"] == render_blueprint(Changes(), "")
    assert not {"drift", "warnings"} & forms[-1].keys()


# Which form it is


def _value(random: Random) -> object:
    character = random.choice([*CHARACTERS, "plain"])
    return random.choice(
        [None, 1, {}, [], "", {"a": [1, character]}, character * random.randrange(1, 600)]
    )


def _fields(random: Random, most: int) -> tuple[FieldChange, ...]:
    number = random.randrange(most)
    return tuple(field(f"f{n}", _value(random), _value(random)) for n in range(number))


def _paths(random: Random, most: int) -> tuple[tuple[str], ...]:
    return tuple((f"field{n}",) for n in range(random.randrange(most)))


def _attributes(random: Random, most: int) -> object:
    number = random.choice([0, 1, random.randrange(most)])
    return random.choice([None, {f"a{n}": _value(random) for n in range(number)}])


def _change(random: Random, number: int, most: int) -> ResourceChange:
    """A change of at most ``number`` fields of each kind."""
    return change(
        random.choice(["create", "update", "replace", "delete", "forget", "none"]),
        name=f"t.a[{number}]",
        id=random.choice([None, "i"]),
        before=_attributes(random, most),
        after=_attributes(random, most),
        added=_fields(random, most),
        modified=_fields(random, most),
        removed=_paths(random, most),
        unchanged=_paths(random, most * 10),
        known_on_deploy=_paths(random, most),
        truncated=random.random() < 0.2,
    )


def _changes(random: Random) -> Changes:
    numbers, most = range(random.choice([1, 3, 30, 300])), random.choice([2, 10, 200])
    outputs = [
        OutputChange(name=f"o{n}", action="update", before=_value(random), after=_value(random))
        for n in range(random.choice([0, 2, 200]))
    ]
    few = range(random.choice([0, 1, 100]))
    return Changes(
        resources=tuple(_change(random, n, most) for n in numbers if n * most < 3_000),
        outputs=tuple(outputs),
        drift=tuple(_change(random, n, min(most, 20)) for n in few),
        truncated=random.random() < 0.2,
    )


def stepwise(forms: Forms) -> Forms:
    """The same forms, none of them skipped."""
    return lambda data, excess: forms(data, ANYTHING)


def assert_first_that_fits(data: Json, forms: Forms) -> None:
    frame = render_fitting_frame("x", ID, data, forms)

    assert frame == render_fitting_frame("x", ID, data, stepwise(forms))


@pytest.mark.parametrize("seed", range(60))
def test_the_first_form_of_a_resource_that_fits_is_sent(seed: int):
    random = Random(seed)

    result = of_resource(_change(random, 1, random.choice([100, 300, 3_000])))

    assert_first_that_fits(result, shorter_resources)


@pytest.mark.parametrize("seed", range(60))
def test_the_first_form_of_all_changes_that_fits_is_sent(seed: int):
    changes = _changes(Random(seed))

    assert_first_that_fits(of_all(changes), shorter_blueprints)
    assert_first_that_fits(of_drift(changes), shorter_drifts)


def size_of(data: Json) -> int:
    return len(render_frame("x", ID, data))


def excess_of(data: Json) -> int:
    """The bytes that a form has to save."""
    return size_of({**data, "truncated": True}) - MAX_FRAME_BYTES


@pytest.mark.parametrize("large", ["before", "after", "unchanged", "values"])
@pytest.mark.parametrize("forms", [shorter_resources, shorter_blueprints, shorter_drifts])
def test_the_savings_of_each_step_are_exact(large: str, forms: Forms):
    changed = too_large(large)
    all_changes = Changes(resources=(changed, changed), drift=(changed,))
    rendered: dict[Forms, Json] = {
        shorter_resources: of_resource(changed),
        shorter_blueprints: of_all(all_changes),
        shorter_drifts: of_drift(all_changes),
    }
    data = rendered[forms]
    steps = list(forms(data, ANYTHING))[:6]

    for form in steps:
        saved = size_of(data) - size_of(form)
        enough = [each for each in steps if size_of(each) <= size_of(form)]
        assert next(forms(data, saved)) == enough[0]
        assert size_of(next(forms(data, saved + 1))) < size_of(form)


def test_forms_that_are_too_long_are_not_rendered():
    resources = tuple(change("create", name=f"t.a[{n}]") for n in range(3_000))
    data = of_all(Changes(resources=resources))

    created = list(shorter_blueprints(data, excess_of(data)))

    assert len(created) == 2
    assert len(list(shorter_blueprints(data))) > 8


# Huge values


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_huge_value_is_replaced_by_a_marker(character: str):
    huge = character * MEGABYTE

    result = fitted(of_resource(change(modified=(field("a", huge, "b"),))), shorter_resources)

    [modified] = result["changes"]["modifiedFields"]
    assert (modified["prevValue"], modified["newValue"]) == (TOO_LONG, "b")


def test_only_the_first_of_a_hundred_thousand_fields_are_sent():
    fields = tuple(field(f"field{n}", after=n) for n in range(100_000))
    known = tuple((f"late{n}",) for n in range(100_000))

    result = fitted(
        of_resource(change("create", added=fields, known_on_deploy=known)), shorter_resources
    )

    visible = result["changes"]["newFields"]
    assert len(visible) > 100
    assert [each["fieldPath"] for each in visible] == [
        f"spec.field{n}" for n in range(len(visible))
    ]
    assert len(result["resolveOnDeploy"]) == len(visible)


@pytest.mark.parametrize("character", CHARACTERS)
def test_huge_names_are_truncated(character: str):
    huge = character * MEGABYTE
    named = change(name=huge, address=huge, type=huge, id=huge, previous_address=huge)

    result = fitted(of_resource(named), shorter_resources)

    assert result["resourceName"].endswith("…")
    assert huge.startswith(result["resourceName"][:-1])


def test_a_huge_path_of_one_field_is_removed():
    result = fitted(
        of_resource(change(added=(field("x" * MEGABYTE), field("short")))), shorter_resources
    )

    assert result["changes"]["newFields"] == []


def test_only_the_names_of_thousands_of_resources_are_sent():
    resources = tuple(
        change("create", name=f"t.a[{n}]", after={"x": "y" * 100}, added=(field("x", after="y"),))
        for n in range(3_000)
    )

    result = fitted(of_all(Changes(resources=resources)), shorter_blueprints)

    assert result["changes"]["newResources"] == {f"t.a[{n}]": {} for n in range(3_000)}


def test_even_the_names_of_tens_of_thousands_of_resources_are_removed():
    resources = tuple(
        change(action, name=f"module.m.t.{action}[{n}]")
        for n in range(10_000)
        for action in ("create", "update", "delete", "forget")
    )

    result = fitted(of_all(Changes(resources=resources)), shorter_blueprints)

    assert result == {"changes": render_blueprint(Changes(), ""), "timestamp": 1, "truncated": True}


@pytest.mark.parametrize("character", CHARACTERS)
def test_huge_outputs_and_warnings_fit(character: str):
    huge = character * MEGABYTE
    changes = Changes(
        outputs=(OutputChange(name="o", action="update", before=huge, after=huge),),
        problems=(Diagnostic(level="warning", message=huge),),
        drift=(change(before={"a": huge}, after={"a": huge}, modified=(field("a", huge, huge),)),),
    )

    assert "exportChanges" in fitted(of_all(changes), shorter_blueprints)["changes"]


@pytest.mark.parametrize("number", [1, 300, 10_000])
def test_much_drift_fits(number: int):
    drift = tuple(
        change(name=f"t.a[{n}]", before={"x": "y" * 1_000}, after={"x": "z" * 1_000},
               modified=tuple(field(f"field{m}", "a", "b") for m in range(3)))
        for n in range(number)
    )  # fmt: skip

    actual = fitted(of_drift(Changes(drift=drift)), shorter_drifts)

    result = actual["reconciliationResult"]
    assert result["hasDrift"] is True
    assert len(result["resources"]) > 0
    assert ("truncated" in actual) == (number > 1)


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_huge_drifted_resource_fits(character: str):
    huge = character * MEGABYTE
    drifted = change(name=huge, before={"a": huge}, after={"a": huge}, added=(field(huge),))

    assert "message" in fitted(of_drift(Changes(drift=(drifted,))), shorter_drifts)


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_huge_error_is_truncated(character: str):
    huge = character * MEGABYTE
    diagnostics = [{"level": 1, "message": huge} for _ in range(50)]

    result = fitted(
        {"message": huge, "diagnostics": diagnostics, "timestamp": 1}, _fewer_diagnostics
    )

    assert len(result["diagnostics"]) == 1
    assert result["message"].endswith("…")
    assert huge.startswith(result["message"][:-1])
    assert len(result["message"]) > 1_000


def test_data_without_forms_is_truncated():
    result = fitted({"failureReasons": ["x" * MEGABYTE], "status": 3}, no_forms)

    assert result["status"] == 3
    assert result["failureReasons"][0].endswith("…")
