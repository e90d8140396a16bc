import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.deployments.changeset import (
    SENSITIVE,
    ChangeCounts,
    Diagnostic,
    OutputChange,
    decode_changes,
    encode,
    encode_changes,
)
from deploylog.errors import InvalidPlan
from deploylog.ingest.terraform.plan import MAX_ID, parse_plan
from deploylog.ingest.terraform.plan_document import MAX_DEPTH, MAX_NAME, MAX_RESOURCES
from support.paths import SAMPLES
from support.plans import Json, new_change, new_plan, new_resource, parse, parse_one

SAMPLE = SAMPLES / "06-plan-show.json"


# Whole plans


def test_a_recorded_plan_is_counted() -> None:
    changes = parse_plan(SAMPLE.read_bytes())

    assert changes.totals == ChangeCounts(create=2, update=2, replace=4, delete=1, none=2)
    assert (changes.tool, changes.tool_version) == ("terraform", "1.11.4")
    assert not changes.errored
    assert changes.resources[0].name == "terraform_data.failing[0]"
    assert {change.name for change in changes.resources if change.create_first} == {
        "terraform_data.cbd"
    }
    assert b"s3cr3t" not in encode_changes(changes)


def test_a_plan_without_anything_has_no_changes() -> None:
    changes = parse({"format_version": "1.0"})

    assert changes.totals == ChangeCounts()
    assert changes.resources == changes.outputs == changes.problems == ()


def test_nothing_else_of_the_plan_is_taken() -> None:
    changes = parse(
        new_plan(
            new_resource("update", before={"a": 1}, after={"a": 2}, generated_config="elsewhere"),
            variables={"v": {"value": "elsewhere"}},
            planned_values={"outputs": {"o": {"value": "elsewhere"}}},
            prior_state={"values": {"outputs": {"o": {"value": "elsewhere"}}}},
            configuration={"root_module": {"variables": {"v": {"default": "elsewhere"}}}},
            relevant_attributes=["elsewhere"],
        )
    )

    assert b"elsewhere" not in encode_changes(changes)


def test_a_byte_order_mark_is_no_part_of_the_plan() -> None:
    assert parse_plan(b"\xef\xbb\xbf" + SAMPLE.read_bytes()) == parse_plan(SAMPLE.read_bytes())


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("registry.opentofu.org/hashicorp/aws", "opentofu"),
        ("registry.terraform.io/hashicorp/aws", "terraform"),
        ("terraform.io/builtin/terraform", "terraform"),
    ],
)
def test_the_tool_is_known_by_its_registry(name: str, tool: str) -> None:
    provider = {"provider_config": {"aws": {"full_name": name}}}

    assert parse(new_plan(new_resource("no-op", provider_name=name))).tool == tool
    assert parse(new_plan(configuration=provider)).tool == tool


# Resources


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (["no-op"], {"action": "none"}),
        (["create"], {"action": "create"}),
        (["update"], {"action": "update"}),
        (["delete", "create"], {"action": "replace"}),
        (["create", "delete"], {"action": "replace", "create_first": True}),
        (["delete"], {"action": "delete"}),
        (["forget"], {"action": "forget"}),
        (["forget", "create"], {"action": "create", "forgets": True}),
        (["create", "forget"], {"action": "create", "forgets": True}),
        (["explode", "create"], {"action": "create"}),
        (["delete", "explode", "create"], {"action": "replace"}),
        (["explode"], {"action": "none"}),
        ([], {"action": "none"}),
    ],
)
def test_actions_become_one_word(actions: list[str], expected: dict[str, Any]) -> None:
    change = parse_one({**new_resource(), "change": {"actions": actions}})

    told = {
        "action": change.action,
        "create_first": change.create_first,
        "forgets": change.removes_from_state,
    }
    assert told == {"create_first": False, "forgets": False} | expected


def test_an_unknown_action_is_warned_of() -> None:
    changes = parse(new_plan(new_resource("explode"), new_resource("create", address="a.c")))

    assert changes.problems == (Diagnostic(level="warning", message="a.b: unknown action explode"),)


def test_every_resource_is_counted_once_and_what_is_forgotten_and_created_twice() -> None:
    actions = [
        ["no-op"], ["create"], ["update"], ["delete", "create"], ["create", "delete"], ["delete"],
        ["forget"], ["forget", "create"],
    ]  # fmt: skip
    resources = [new_resource(*words, address=f"a.b{k}") for k, words in enumerate(actions)]
    moved = new_resource("no-op", address="a.m", previous_address="a.o", importing={"id": "i"})

    totals = parse(new_plan(*resources, moved)).totals

    assert totals == ChangeCounts(
        create=2, update=1, replace=2, delete=1, forget=2, none=2, imported=1, moved=1
    )


def test_removals_come_first_and_else_the_order_is_the_plans() -> None:
    words = ["create", "delete", "update", "forget", "no-op"]
    resources = [new_resource(word, address=f"a.{word}") for word in words]

    changes = parse(new_plan(*resources))

    order = [change.address for change in changes.resources]
    assert order == ["a.delete", "a.forget", "a.create", "a.update", "a.no-op"]


def test_a_deposed_object_has_its_key_in_its_name() -> None:
    deposed = new_resource("delete", deposed="4c1a9e07", before={"id": "i-1"})

    changes = parse(new_plan(new_resource("update"), deposed))

    assert [(change.name, change.address) for change in changes.resources] == [
        ("a.b (deposed 4c1a9e07)", "a.b"),
        ("a.b", "a.b"),
    ]
    assert changes.resources[0].deposed == "4c1a9e07"
    assert changes.resources[0].id == "i-1"


def test_a_resource_that_is_forgotten_and_created_is_compared_with_nothing() -> None:
    change = parse_one(
        new_resource(
            "forget", "create", before={"id": "i", "n": 1}, after={"n": 1}, replace_paths=[["n"]]
        )
    )

    assert [(field.path, field.replaces) for field in change.added] == [(("n",), False)]
    assert change.before == {"id": "i", "n": 1}
    assert change.id == "i"


@pytest.mark.parametrize("action", ["delete", "forget"])
def test_a_removed_resource_has_no_fields(action: str) -> None:
    change = parse_one(new_resource(action, before={"a": 1}))

    assert change.before == {"a": 1}
    assert change.removed == change.modified == change.unchanged == ()


@pytest.mark.parametrize(
    ("importing", "expected"),
    [
        (None, (False, None)),
        ({}, (True, None)),
        ({"id": "i-1"}, (True, "i-1")),
        ({"unknown": True}, (True, None)),
        ({"identity": {"account": 1}}, (True, None)),
        ({"id": 7}, (True, None)),
    ],
)
def test_what_is_imported_is_reported_with_its_id(importing: Json, expected: Json) -> None:
    change = parse_one(new_resource("update", importing=importing))

    assert (change.imported, change.import_id) == expected


def test_what_else_is_stated_of_a_resource_is_kept() -> None:
    change = parse_one(
        new_resource(
            "update",
            address='module.m.a.b["k"]',
            module_address="module.m",
            index="k",
            provider_name="registry.terraform.io/x/y",
            previous_address="a.old",
            action_reason="replace_because_tainted",
            before={"id": "i-1"},
        )
    )

    assert (change.resource_name, change.key, change.type) == ("b", "k", "a")
    assert change.provider == "registry.terraform.io/x/y"
    assert change.previous_address == "a.old"
    assert change.reason == "replace_because_tainted"
    assert change.id == "i-1"


def test_an_index_is_a_key_too() -> None:
    assert parse_one(new_resource("update", index=0)).key == "0"


@pytest.mark.parametrize("id", [1, None, ["i"], True])
def test_an_id_that_is_no_text_is_none(id: Json) -> None:
    assert parse_one(new_resource("update", before={"id": id})).id is None


def test_data_sources_are_reads_and_ephemeral_resources_nothing() -> None:
    changes = parse(
        new_plan(
            new_resource("read", address="data.a.b", mode="data"),
            new_resource("no-op", address="data.a.c", mode="data"),
            new_resource("open", address="ephemeral.a.b", mode="ephemeral"),
        )
    )

    assert changes.data_sources == ("data.a.b",)
    assert changes.resources == changes.problems == ()
    assert changes.totals == ChangeCounts()


def test_an_unknown_mode_is_warned_of() -> None:
    changes = parse(new_plan(new_resource("read", mode="list")))

    assert changes.resources == ()
    assert changes.problems == (Diagnostic(level="warning", message="a.b: unknown mode list"),)


# Drift


def test_drift_is_reported_like_a_change() -> None:
    updated = new_resource("update", before={"a": 1}, after={"a": 2})
    deleted = new_resource("delete", address="a.c", before={"a": 1})

    changes = parse(new_plan(resource_drift=[updated, deleted]))

    assert [(change.name, change.action) for change in changes.drift] == [
        ("a.b", "update"),
        ("a.c", "delete"),
    ]
    assert changes.drift[0].modified[0].path == ("a",)
    assert changes.totals == ChangeCounts()


def test_a_resource_that_only_moved_has_not_drifted() -> None:
    moved = new_resource("no-op", previous_address="a.old")

    assert parse(new_plan(resource_drift=[moved])).drift == ()


# Outputs


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (new_change("create", after="v"), {"action": "create", "after": "v"}),
        (new_change("update", before=1, after=2), {"action": "update", "before": 1, "after": 2}),
        (new_change("delete", before="v"), {"action": "delete", "before": "v"}),
        (new_change("no-op", before=1, after=1), {"action": "none", "before": 1, "after": 1}),
        (new_change("explode"), {"action": "none"}),
        (
            new_change("create", after_unknown=True),
            {"action": "create", "known_on_deploy": True},
        ),
        (
            new_change("create", after={"a": 1}, after_unknown={"b": True}),
            {"action": "create", "after": {"a": 1}, "known_on_deploy": True},
        ),
        (
            new_change("create", after="s", before_sensitive=True, after_sensitive=True),
            {"action": "create", "after": "(sensitive value)", "sensitive": True},
        ),
        (
            new_change("update", before="s", after="t", after_sensitive=True),
            {
                "action": "update",
                "before": "(sensitive value)",
                "after": "(sensitive value)",
                "sensitive": True,
            },
        ),
        (
            new_change("create", after={"a": ["s", 1]}, after_sensitive={"a": [True]}),
            {"action": "create", "after": {"a": ["(sensitive value)", 1]}, "sensitive": True},
        ),
    ],
)
def test_an_output_is_reported(change: Json, expected: dict[str, Any]) -> None:
    [output] = parse(new_plan(output_changes={"o": change})).outputs

    assert output == OutputChange(name="o", **expected)


# Problems


def test_what_checks_say_that_fail_are_warnings() -> None:
    instance = {
        "address": {"to_display": 'check.c["x"]'},
        "status": "fail",
        "problems": [{"message": "too few"}, {"message": "too old"}],
    }
    checks = [
        {"address": {"to_display": "check.c"}, "status": "fail", "instances": [instance]},
        {"address": {"to_display": "check.d"}, "status": "error"},
        {"address": {"to_display": "check.e"}, "status": "fail", "instances": []},
        {"address": {"to_display": "check.f"}, "status": "pass", "instances": [{"status": "pass"}]},
        {"address": {"to_display": "check.g"}, "status": "unknown"},
    ]

    problems = parse(new_plan(checks=checks)).problems

    assert {problem.level for problem in problems} == {"warning"}
    assert [problem.message for problem in problems] == [
        'check.c["x"]: too few',
        'check.c["x"]: too old',
        "check.d: the check could not be carried out",
        "check.e: the check failed",
    ]


def test_an_incomplete_plan_has_an_error() -> None:
    changes = parse(new_plan(errored=True))

    assert changes.errored
    message = "The plan is incomplete because of an error"
    assert changes.problems == (Diagnostic(level="error", message=message),)


def test_what_is_left_for_a_later_plan_is_warned_of() -> None:
    deferred = {"reason": "provider_config_unknown", "resource_change": new_resource("create")}

    changes = parse(new_plan(deferred_changes=[deferred]))

    assert changes.resources == ()
    message = "a.b: left for a later plan (provider_config_unknown)"
    assert changes.problems == (Diagnostic(level="warning", message=message),)


# What is no plan


STATE = {"format_version": "1.0", "terraform_version": "1.11.4", "values": {}}
LINE = {"@level": "info", "@message": "Terraform 1.11.4", "type": "version"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "nothing came"),
        (b" \r\n\t", "nothing came"),
        (b"\xef\xbb\xbf", "nothing came"),
        (b"PK\x03\x04\x14\x00\x08\x00", "this is the plan file itself"),
        (b"Terraform will perform", "not JSON"),
        (b'{"format_version":', "not JSON"),
        (b'{"format_version":"1.2","terraform_version":"\xff"}', "not JSON"),
        (b'{"format_version":"1.2","terraform_version":"\\ud800"}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (json.dumps(STATE).encode(), "this is a state"),
        (b'{"version":4,"serial":1,"lineage":"x","outputs":{}}', "this is a state"),
        (json.dumps(LINE).encode(), "lines of a run"),
        (json.dumps(LINE).encode() + b"\n" + json.dumps(LINE).encode(), "lines of a run"),
        (b'{"format_version":"1.2","variables":{"a":{"value":1e99999999999999999999}}}', "number"),
    ],
)
def test_what_is_no_plan_is_refused(document: bytes, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        parse_plan(document)


@pytest.mark.parametrize("version", ["2.0", "10.1", "", "x", 1, None])
def test_another_format_is_refused(version: Json) -> None:
    with pytest.raises(InvalidPlan, match=r"0\.x and 1\.x") as caught:
        parse({"format_version": version})

    assert caught.value.field == "format_version"


def test_a_plan_says_its_format() -> None:
    with pytest.raises(InvalidPlan, match="missing") as caught:
        parse({"resource_changes": []})

    assert caught.value.field == "format_version"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (new_plan(terraform_version=1), "terraform_version"),
        (new_plan(errored="hunter22"), "errored"),
        (new_plan(variables=["hunter22"]), "variables"),
        ({"format_version": "1.2", "resource_changes": "hunter22"}, "resource_changes"),
        (new_plan(new_resource(), "hunter22"), "resource_changes[1]"),
        (new_plan({"address": "a"}), "resource_changes[0]"),
        (
            new_plan(*[new_resource()] * 3, {**new_resource(), "change": {"actions": "hunter22"}}),
            "resource_changes[3].change.actions",
        ),
        (new_plan({**new_resource(), "change": {}}), "resource_changes[0].change"),
        (new_plan(new_resource(before="hunter22")), "resource_changes[0].change.before"),
        (new_plan(new_resource(after=["hunter22"])), "resource_changes[0].change.after"),
        (
            new_plan(new_resource(replace_paths=[[True]])),
            "resource_changes[0].change.replace_paths[0][0]",
        ),
        (new_plan(new_resource(importing="hunter22")), "resource_changes[0].change.importing"),
        (new_plan(output_changes={"hunter22": []}), "output_changes[...]"),
        (
            new_plan(configuration={"root_module": {"variables": {"v": {"sensitive": "yes"}}}}),
            "configuration.root_module.variables[...].sensitive",
        ),
        (
            new_plan(planned_values={"root_module": {"child_modules": [{"resources": {}}]}}),
            "planned_values.root_module.child_modules[0].resources",
        ),
    ],
)
def test_a_part_of_another_type_is_named(plan: Json, field: str) -> None:
    with pytest.raises(InvalidPlan) as caught:
        parse(plan)

    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
    assert "hunter22" not in caught.value.message


def nested(depth: int) -> bytes:
    value = b"[1," * (depth - 3) + b"1" + b"]" * (depth - 3)
    return b'{"format_version":"1.2","variables":{"a":{"value":' + value + b"}}}"


def test_a_plan_may_be_as_deep_as_it_may_be_and_no_deeper() -> None:
    parse_plan(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 10_000, 1_000_000):
        with pytest.raises(InvalidPlan, match="deeper than 100 levels"):
            parse_plan(nested(depth))


def test_brackets_in_strings_are_not_depth() -> None:
    for text in ("[" * 200, '\\"[[' * 200 + "\\", '"["' * 200, "\\[" * 200):
        parse(new_plan(variables={"a": {"value": text}, "b": {"value": ["", text]}}))


def test_a_resource_may_not_be_there_twice() -> None:
    deposed = new_resource("delete", deposed="4c1a9e07")
    parse(new_plan(new_resource("update"), deposed))

    with pytest.raises(InvalidPlan, match=r"a\.b is there twice") as caught:
        parse(new_plan(new_resource("update"), deposed, new_resource("delete")))
    with pytest.raises(InvalidPlan, match=r"a\.b \(deposed 4c1a9e07\) is there twice"):
        parse(new_plan(deposed, deposed))

    assert caught.value.field == "resource_changes[2].address"


# Bounds


NAMES = ["type", "name", "provider_name", "previous_address", "deposed", "index"]


def as_deferred(resource: Json) -> Json:
    return {"resource_change": resource}


@pytest.mark.parametrize("name", ["address", *NAMES])
def test_a_name_may_be_so_long_and_no_longer(name: str) -> None:
    [change] = parse(new_plan(new_resource(**{name: "x" * MAX_NAME}))).resources
    assert "x" * MAX_NAME in encode(change).decode()

    with pytest.raises(InvalidPlan, match="4096") as caught:
        parse(new_plan(new_resource(), new_resource(**{name: "x" * (MAX_NAME + 1)})))

    assert caught.value.field == f"resource_changes[1].{name}"
    assert "xx" not in caught.value.message


@pytest.mark.parametrize("name", ["address", "previous_address"])
def test_there_is_no_nul_in_an_address(name: str) -> None:
    parse(new_plan(new_resource(**{name: "a.b\n"})))

    with pytest.raises(InvalidPlan) as caught:
        parse(new_plan(new_resource(**{name: "a.\0b"})))

    assert caught.value.field == f"resource_changes[0].{name}"


def test_names_are_bounded_wherever_they_are() -> None:
    resource = new_resource(address="x" * (MAX_NAME + 1))

    for name, parts in {
        "resource_drift[0].address": {"resource_drift": [resource]},
        "deferred_changes[0].resource_change.address": {
            "deferred_changes": [as_deferred(resource)]
        },
    }.items():
        with pytest.raises(InvalidPlan) as caught:
            parse(new_plan(**parts))
        assert caught.value.field == name


def test_ids_are_cut() -> None:
    change = parse_one(new_resource(before={"id": "i" * 5_000}, importing={"id": "j" * 5_000}))

    assert (change.id, change.import_id) == ("i" * MAX_ID, "j" * MAX_ID)
    assert change.before == {"id": "i" * 5_000}


def test_an_id_is_cut_where_no_secret_is() -> None:
    id = "i" * (MAX_ID - 10) + "correct horse battery"
    resource = new_resource(
        before={"id": id, "s": "correct horse battery"}, before_sensitive={"s": True}
    )

    assert parse_one(resource).id == "i" * (MAX_ID - 10) + SENSITIVE[:10]


@pytest.mark.slow
def test_there_may_be_so_many_resource_changes_and_no_more() -> None:
    entry = b'{"address":"a.%d","type":"a","mode":"data","change":{"actions":["no-op"]}}'
    entries = [entry % number for number in range(MAX_RESOURCES + 1)]

    def plan_of(entries: list[bytes]) -> bytes:
        return b'{"format_version":"1.2","resource_changes":[%b]}' % b",".join(entries)

    parse_plan(plan_of(entries[:-1]))
    with pytest.raises(InvalidPlan, match="100000") as caught:
        parse_plan(plan_of(entries))

    assert caught.value.field == "resource_changes"


# Numbers


@pytest.mark.parametrize(
    "number", ["1.10", "0.1000000000000000055511151231257827", "1E+400", "12345678901234567890123"]
)
def test_numbers_keep_their_digits(number: str) -> None:
    document = json.dumps(new_plan(new_resource(before={"n": 1}, after={"n": "N"})))

    changes = parse_plan(document.replace('"N"', number).encode())

    encoded = encode_changes(changes)
    assert f'"after":{number}'.encode() in encoded
    assert decode_changes(encoded) == changes
    assert encode_changes(decode_changes(encoded)) == encoded


def test_any_part_of_changes_is_encoded_alike() -> None:
    changes = parse_plan(SAMPLE.read_bytes())

    encoded = encode_changes(changes)

    assert decode_changes(encoded) == changes
    assert all(encode(change) in encoded for change in changes.resources)


# What holds for all documents


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "a", "resources"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all there is in the value, other than itself."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    paths = []
    for step, inner in members:
        paths.append((*path, step))
        if isinstance(inner, dict | list):
            paths += places(inner, (*path, step))
    return paths


def damaged(value: Json, path: tuple[str | int, ...], part: Json) -> Json:
    """The value with another part there, if there still is such a place."""
    if not path:
        return part
    step, *rest = path
    if isinstance(value, dict) and step in value:
        return value | {step: damaged(value[step], tuple(rest), part)}
    if isinstance(value, list) and step in range(len(value)):
        return [damaged(v, tuple(rest), part) if k == step else v for k, v in enumerate(value)]
    return value


PLACES = places(json.loads(SAMPLE.read_bytes()))


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_a_damaged_plan_is_read_or_refused(damages: list[tuple[Json, Json]]) -> None:
    plan = json.loads(SAMPLE.read_bytes())
    for path, value in damages:
        plan = damaged(plan, path, value)

    try:
        changes = parse(plan)
    except InvalidPlan:
        return
    assert decode_changes(encode_changes(changes)) == changes
