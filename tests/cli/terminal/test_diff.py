"""The diff that people are shown."""

from typing import Any

import pytest

from deploylog.cli.terminal.diff import MAX_LENGTH, render_changes, render_resource, render_value
from deploylog.deployments.changeset import (
    SENSITIVE,
    ChangeCounts,
    Changes,
    Diagnostic,
    FieldChange,
    OutputChange,
    ResourceChange,
)
from deploylog.deployments.truncation import TOO_LONG
from deploylog.ingest.terraform.plan import parse_plan
from support.paths import FIXTURES


def change(action: str = "update", **fields: object) -> ResourceChange:
    return ResourceChange(name="a.b", address="a.b", type="a", action=action, **fields)  # type: ignore[arg-type]


def shown(resource: ResourceChange) -> list[str]:
    """The lines of its block, without the empty one after it."""
    return [line.plain for line in render_resource(resource)][:-1]


def told(changes: Changes) -> str:
    return "\n".join(line.plain for line in render_changes(changes))


def test_a_plan_with_every_action_is_shown_in_terraforms_manner() -> None:
    changes = parse_plan((FIXTURES / "every-action.json").read_bytes())

    assert f"{told(changes)}\n" == (FIXTURES / "every-action.txt").read_text()


def test_the_summary_is_the_plans_own() -> None:
    # What Terraform itself said of this plan; only OpenTofu counts what is forgotten.
    summary = "Plan: 1 to import, 4 to add, 2 to change, 3 to destroy, 1 to forget."

    assert (FIXTURES / "every-action.txt").read_text().splitlines()[-1] == summary


def test_no_secret_is_shown() -> None:
    text = (FIXTURES / "every-action.json").read_text()

    assert "not-a-real-password" in text
    assert "not-a-real-password" not in told(parse_plan(text.encode()))


def test_each_sign_has_its_colour() -> None:
    changes = parse_plan((FIXTURES / "every-action.json").read_bytes())

    styles = {
        line.plain[span.start : span.end].strip(): span.style
        for line in render_changes(changes)
        for span in line.spans
        if line.plain[span.start : span.end].strip() in ("+", "~", "-", "-/+", "+/-", ".", "<=")
    }

    assert styles == {
        "+": "green", "~": "yellow", "-": "red", "-/+": "yellow", "+/-": "yellow", ".": "red",
        "<=": "cyan",
    }  # fmt: skip


def test_a_field_that_forces_the_replacement_says_so() -> None:
    field = FieldChange(path=("ami",), before="1", after="2", replaces=True)

    lines = shown(change("replace", modified=(field,), reason="replace_because_tainted"))

    assert lines == [
        "-/+ a.b is tainted, so must be replaced",
        '      ~ ami = "1" -> "2" # forces replacement',
    ]


def test_a_value_that_becomes_known_later_is_told_with_what_it_was() -> None:
    lines = shown(change(before={"id": "1", "arn": None}, known_on_deploy=(("id",), ("arn",))))

    assert lines[1:] == [
        "      + arn = (known after apply)",
        '      ~ id  = "1" -> (known after apply)',
    ]


def test_what_is_removed_is_told_with_its_value_unless_it_was_left_out() -> None:
    removed = change(removed=(("tags", "a b"), ("rules", 0)))

    with_values = change(removed=removed.removed, before={"tags": {"a b": 1}, "rules": ["x"]})

    assert shown(removed)[1:] == [
        "      - rules[0]    = … -> null",
        '      - tags["a b"] = … -> null',
    ]
    assert shown(with_values)[1:] == [
        '      - rules[0]    = "x" -> null',
        '      - tags["a b"] = 1 -> null',
    ]


def test_a_sensitive_value_is_not_quoted_wherever_it_stands() -> None:
    whole = FieldChange(path=("a",), before=SENSITIVE, after=SENSITIVE, sensitive=True)
    part = FieldChange(path=("b",), after=[SENSITIVE, 1], sensitive=True)

    lines = shown(change(modified=(whole,), added=(part,)))

    assert lines[1:] == [
        "      ~ a = (sensitive value) -> (sensitive value)",
        "      + b = [(sensitive value),1]",
    ]


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (
            change("create", removes_from_state=True),
            "+ a.b will be created (what is there now will be forg",
        ),
        (change(previous_address="a.c"), "~ a.b will be updated in place (moved from a.c)"),
        (
            change("none", imported=True, import_id="i-1"),
            '<= a.b will be imported (imported from "',
        ),
        (change(imported=True, import_id="i-1"), "~ a.b will be updated in place (imported from "),
        (change("replace", create_first=True), "+/- a.b must be replaced"),
        (change("forget"), ". a.b will no longer be managed, but not destroyed"),
    ],
)
def test_the_heading_says_what_happens(resource: ResourceChange, line: str) -> None:
    assert shown(resource)[0].strip().startswith(line)


def test_what_does_not_change_is_not_shown() -> None:
    assert list(render_resource(change("none"))) == []


@pytest.mark.parametrize(
    ("action", "reason", "key", "remark"),
    [
        ("delete", "delete_because_no_resource_config", None, "because it is not in configuration"),
        (
            "delete",
            "delete_because_count_index",
            "1",
            "because index [1] is out of range for count",
        ),
        ("delete", "delete_because_each_key", "a", 'because key ["a"] is not in for_each map'),
        ("update", "some_new_reason", None, "some_new_reason"),
    ],
)
def test_a_reason_is_told_in_words(action: str, reason: str, key: str | None, remark: str) -> None:
    assert shown(change(action, reason=reason, key=key))[1] == f"        # ({remark})"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("replace_because_cannot_update", "must be replaced"),
        ("replace_by_request", "will be replaced, as requested"),
        ("replace_by_triggers", "will be replaced due to changes in replace_triggered_by"),
    ],
)
def test_why_it_is_replaced_is_in_the_heading(reason: str, words: str) -> None:
    assert shown(change("replace", reason=reason)) == [f"-/+ a.b {words}"]


def test_a_change_that_was_abridged_says_so_below_an_empty_line() -> None:
    for lacking in (change(truncated=True), change("delete", truncated=True)):
        *_, empty, remark = shown(lacking)

        assert empty == ""
        assert "too large to show in full" in remark


@pytest.mark.parametrize("fields", [
    {"unchanged": (("a",),)},
    {"added": (FieldChange(path=("a",), after="x" * 1000),)},
    {"after": {"a": 1}},
])  # fmt: skip
def test_what_was_left_out_but_is_not_shown_is_not_missed(fields: dict[str, Any]) -> None:
    assert not any("too long" in line for line in shown(change(truncated=True, **fields)))


def test_an_end_without_its_resources_says_what_is_missing() -> None:
    cut = told(Changes(truncated=True, totals=ChangeCounts(create=1))).splitlines()
    whole = told(Changes(truncated=True, resources=(change("none"),))).splitlines()

    assert cut[0].startswith("The plan is too large to show in full")
    assert cut[-2:] == ["", "Plan: 1 to add, 0 to change, 0 to destroy."]
    assert whole == ["No changes."]


def test_a_value_that_was_left_out_is_not_quoted() -> None:
    assert render_value(TOO_LONG) == TOO_LONG


def test_a_long_value_is_cut() -> None:
    assert render_value("x" * 1000) == f'"{"x" * (MAX_LENGTH - 1)}…'


def test_long_values_are_shown_where_they_differ() -> None:
    field = FieldChange(path=("script",), before=f"{'x' * 500}old", after=f"{'x' * 500}new")

    [line] = shown(change(modified=(field,)))[1:]

    lead = "x" * 20
    assert line == f'      ~ script = …{lead}old" -> …{lead}new"'


def test_a_name_without_end_does_not_widen_the_others() -> None:
    long, short = (FieldChange(path=(name,), after=1) for name in ("x" * 10_000, "y"))

    first, second = shown(change("create", added=(long, short)))[1:]

    assert first == f"      + {'x' * MAX_LENGTH}… = 1"
    assert second == f"      + {'y'.ljust(40)} = 1"


def test_a_secret_within_a_text_leaves_the_rest_of_it() -> None:
    url = FieldChange(path=("url",), after=f"postgres://{SENSITIVE}@db", sensitive=True)

    assert shown(change(added=(url,)))[1:] == ['      + url = "postgres://(sensitive value)@db"']


def test_nothing_in_a_plan_can_control_a_terminal_or_forge_a_line() -> None:
    evil = "x\x1b[2J\n\r\x9b1m\u202e\u2028- y"
    hostile = ResourceChange(
        name=evil, address=evil, type="a", action="update", reason=evil, previous_address=evil,
        modified=(FieldChange(path=(evil, "ok"), before=evil, after={evil: evil}),),
    )  # fmt: skip
    changes = Changes(
        resources=(hostile,),
        drift=(hostile,),
        outputs=(OutputChange(name=evil, action="create", after=evil),),
        data_sources=(evil,),
        problems=(Diagnostic(level="warning", message=evil),),
    )

    lines = [line.plain for line in render_changes(changes)]

    assert not any(set(line) & set("\x1b\n\r\x9b\u202e\u2028") for line in lines)
    assert not any(line.startswith("- y") for line in lines)


def test_drift_reads_and_warnings_stand_before_the_summary() -> None:
    drifted = FieldChange(path=("size",), before=1, after=2)
    changes = Changes(
        drift=(change(modified=(drifted,)), change("delete")),
        data_sources=("data.a.b",),
        problems=(Diagnostic(level="warning", message="Deprecated.\nUse c."),),
        totals=ChangeCounts(create=1),
    )

    assert told(changes).splitlines() == [
        " <= data.a.b will be read while deploying",
        "",
        "Changed outside of deployments since the last one:",
        "",
        "  ~ a.b has changed",
        "      ~ size = 1 -> 2",
        "",
        "  - a.b has been deleted",
        "",
        "Warning: Deprecated.",
        "  Use c.",
        "",
        "Plan: 1 to add, 0 to change, 0 to destroy.",
    ]


def test_a_plan_that_changes_nothing_says_so() -> None:
    assert told(Changes(totals=ChangeCounts(none=3))) == "No changes."


def test_a_plan_that_changes_outputs_only_still_has_a_summary() -> None:
    output = OutputChange(name="a", action="update", before=1, after=2)

    lines = told(Changes(outputs=(output,))).splitlines()

    assert lines[-1] == "Plan: 0 to add, 0 to change, 0 to destroy."
    assert "  ~ a = 1 -> 2" in lines
