"""Plans as people send them: by other versions, from shells, from CI systems, behind wrappers."""

import json

import pytest

from deploylog.cli.terminal.diff import render_changes
from deploylog.deployments.changeset import (
    ChangeCounts,
    Changes,
    Diagnostic,
    Invocation,
    encode_changes,
)
from deploylog.deployments.staging import summary_of
from deploylog.errors import InvalidPlan
from deploylog.ingest.terraform.plan import parse_plan
from support.paths import SAMPLES
from support.plans import Json, new_plan, new_resource, parse

CASES = SAMPLES / "cases"

PLAN = new_plan(new_resource("create", address="terraform_data.a", after={"text": "ä [1] {x}"}))
ONE_LINE = json.dumps(PLAN, ensure_ascii=False)
MANY_LINES = json.dumps(PLAN, indent=2, ensure_ascii=False)


def case(name: str) -> Changes:
    return parse_plan((CASES / name).read_bytes())


def changed_resources(changes: Changes) -> list[str]:
    return [line.plain for line in render_changes(changes)]


# Other versions


def test_drift_without_an_address_is_named_by_type_and_name() -> None:
    changes = case("plan-drift-without-address.json")

    assert [(drift.name, drift.action) for drift in changes.drift] == [
        ("acme_rule.every_hour", "update")
    ]
    assert changes.totals == ChangeCounts(create=1)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, "a.b"),
        ({"module_address": 'module.m["x"]'}, 'module.m["x"].a.b'),
        ({"index": 0}, "a.b[0]"),
        ({"index": 'k"1'}, 'a.b["k\\"1"]'),
        ({"deposed": "4c1a9e07"}, "a.b (deposed 4c1a9e07)"),
    ],
)
def test_a_missing_address_is_made_of_the_other_names(parts: Json, expected: str) -> None:
    drift = {**new_resource("update"), **parts}
    del drift["address"]

    [change] = parse(new_plan(resource_drift=[drift])).drift

    assert change.name == expected


def test_a_change_needs_an_address_all_the_same() -> None:
    change = new_resource("update")
    del change["address"]

    with pytest.raises(InvalidPlan, match="address"):
        parse(new_plan(change))


def test_a_refresh_only_plan_shows_the_moves() -> None:
    changes = case("plan-refresh-only-moved.json")

    assert "    terraform_data.old has moved to terraform_data.new" in changed_resources(changes)
    assert changes.totals == ChangeCounts(none=1, moved=1)
    assert changes.drift == ()
    assert summary_of(changes) == "1 to move"


def test_a_move_that_is_a_change_too_is_counted_once() -> None:
    moved = new_resource("no-op", previous_address="a.old")

    assert parse(new_plan(moved, resource_drift=[moved])).totals == ChangeCounts(none=1, moved=1)


def test_an_import_by_identity_names_no_id() -> None:
    changes = case("plan-import-by-identity.json")

    assert changed_resources(changes)[0] == " <= acme_user.u will be imported"
    assert changes.totals == ChangeCounts(none=1, imported=1)


def test_an_import_by_identity_with_a_change_names_no_id() -> None:
    resource = new_resource("update", importing={"identity": {"n": 1}}, before={"n": 1})

    assert (
        changed_resources(parse(new_plan(resource)))[0]
        == "  ~ a.b will be updated in place (imported)"
    )


def test_a_plan_of_deferred_changes_only_requires_another_plan() -> None:
    changes = case("plan-deferred-only.json")

    assert (
        changed_resources(changes)[-1]
        == "No current changes. This plan requires another plan to be applied first."
    )
    assert "another plan" in summary_of(changes)
    assert changes.deferred == 1


def test_deferred_changes_do_not_hide_current_ones() -> None:
    deferred = {"reason": "deferred_prereq", "resource_change": new_resource("create")}

    changes = parse(new_plan(new_resource("create", address="a.c"), deferred_changes=[deferred]))

    assert changed_resources(changes)[-1] == "Plan: 1 to add, 0 to change, 0 to destroy."


INVOCATION = {
    "address": "action.acme_notify.ops",
    "type": "acme_notify",
    "name": "ops",
    "config_values": {"token": "hunter22-hunter22"},
    "config_sensitive": {"token": True},
    "provider_name": "registry.terraform.io/acme/acme",
    "lifecycle_action_trigger": {
        "triggering_resource_address": "a.b",
        "action_trigger_event": "AfterCreate",
        "action_trigger_block_index": 0,
        "actions_list_index": 0,
    },
}


def test_actions_are_counted_and_shown_without_their_configuration() -> None:
    invoked = {**INVOCATION, "lifecycle_action_trigger": None, "invoke_action_trigger": {}}

    changes = parse(new_plan(new_resource("create"), action_invocations=[INVOCATION, invoked]))

    assert changes.invocations == (
        Invocation(action="action.acme_notify.ops", resource="a.b", event="AfterCreate"),
        Invocation(action="action.acme_notify.ops"),
    )
    assert (changes.totals, changes.invoked) == (ChangeCounts(create=1), 2)
    assert changed_resources(changes)[-4:] == [
        "    action.acme_notify.ops will be invoked (AfterCreate of a.b)",
        "    action.acme_notify.ops will be invoked",
        "",
        "Plan: 1 to add, 0 to change, 0 to destroy. Actions: 2 to invoke.",
    ]
    assert b"hunter22" not in encode_changes(changes)


def test_a_plan_of_actions_only_has_changes() -> None:
    changes = parse(new_plan(action_invocations=[INVOCATION]))

    assert (
        changed_resources(changes)[-1]
        == "Plan: 0 to add, 0 to change, 0 to destroy. Actions: 1 to invoke."
    )
    assert summary_of(changes) == "1 to invoke"


def test_a_secret_of_an_action_is_masked_everywhere() -> None:
    leaking = new_resource("create", after={"copied": "hunter22-hunter22"})

    changes = parse(new_plan(leaking, action_invocations=[INVOCATION]))

    assert b"hunter22" not in encode_changes(changes)


def test_deferred_actions_are_warnings() -> None:
    deferred = {"reason": "deferred_prereq", "action_invocation": INVOCATION}

    changes = parse(new_plan(deferred_action_invocations=[deferred]))

    message = "action.acme_notify.ops: left for a later plan (deferred_prereq)"
    assert changes.problems == (Diagnostic(level="warning", message=message),)
    assert changed_resources(changes)[-1].startswith("No current changes.")


# Text around the JSON


@pytest.mark.parametrize(
    "name", ["plan-setup-terraform-wrapper.txt", "plan-utf16.json", "plan-terragrunt-prefix.json"]
)
def test_a_plan_from_a_wrapper_or_a_shell_is_read(name: str) -> None:
    changes = case(name)

    assert [change.address for change in changes.resources] == ["terraform_data.a"]
    assert changes.totals == ChangeCounts(create=1)


@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_every_encoding_of_unicode_is_read(mark: str, encoding: str) -> None:
    assert parse_plan((mark + ONE_LINE).encode(encoding)) == parse(PLAN)


def prefixed(prefix: str, text: str) -> str:
    """Each line with the prefix, in which ``#`` stands for the line's number."""
    lines = text.splitlines()
    return "\n".join(f"{prefix.replace('#', str(n))}{line}" for n, line in enumerate(lines, 8))


@pytest.mark.parametrize("text", [ONE_LINE, MANY_LINES])
@pytest.mark.parametrize(
    "prefix",
    [
        "    ",
        "\t",
        "[/srv/live/prod/web] ",
        "[web] tofu: ",
        "2026-11-28T01:51:16.#Z ",
        "[2026-11-28 01:51:#] [{web}] ",
        "10:15:# STDOUT [web] terraform: ",
        "\x1b[0m\x1b[32m[web]\x1b[0m ",
        "web | ",
    ],
)
def test_prefixes_of_lines_are_left_out(prefix: str, text: str) -> None:
    document = f"Run show\n{prefixed(prefix, text)}\x1b[0m\n##[endgroup]\n"

    assert parse_plan(document.encode()) == parse(PLAN)


def test_terragrunts_log_in_json_is_unwrapped() -> None:
    said = [
        {"time": "2026-11-28T01:51:16Z", "level": "info", "msg": "Downloading"},
        {"level": "stdout", "prefix": "web", "tf-path": "terraform", "msg": ONE_LINE},
    ]

    assert parse_plan("\n".join(map(json.dumps, said)).encode()) == parse(PLAN)


def test_several_plans_are_refused_with_their_number() -> None:
    with pytest.raises(InvalidPlan, match="these are 2 plans: give one at a time"):
        parse_plan(f"[web] {ONE_LINE}\n[db] {ONE_LINE}\n".encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE_LINE[:-20], "cut off"),
        (f"[web] {ONE_LINE[:-20]}", "cut off"),
        ("[command]/opt/tf/terraform-bin show -json plan.bin\n", "terraform_wrapper: false"),
        ("Terraform used the selected providers to generate", "the text for people"),
        ("OpenTofu will perform the following actions:", "the text for people"),
        ("\nPlan: 1 to add, 0 to change, 0 to destroy.\n", "the text for people"),
        ('[web] {"@level":"info","@message":"Terraform 1.9.0"}\n', "lines of a run"),
        ('2026-11-28T01:51:16Z {"format_version":"1.0","values":{}}\n', "this is a state"),
    ],
)
def test_a_text_without_a_plan_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        parse_plan(text.encode())


def test_half_a_character_of_utf16_is_no_plan() -> None:
    with pytest.raises(InvalidPlan, match="not JSON"):
        parse_plan(ONE_LINE.encode("utf-16") + b"x")
