"""Runs as people record them: every hook, other tools' lines, prefixes, encodings."""

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from deploylog.events.event import NewEvent
from deploylog.events.times import parse_time
from deploylog.ingest.terraform.other_lines import MAX_BUFFERED
from deploylog.ingest.terraform.run import TerraformRun
from support.paths import SAMPLES

CASES = SAMPLES / "cases"

NOW = parse_time("2026-11-28T12:00:00Z")

VERSION = (
    b'{"@level":"info","@message":"Terraform 1.14.0","@module":"terraform.ui",'
    b'"@timestamp":"2026-03-01T10:00:00Z","terraform":"1.14.0","type":"version","ui":"1.2"}'
)
STARTED = parse_time("2026-03-01T10:00:00Z")


def feed(run: TerraformRun, *lines: bytes) -> list[NewEvent]:
    return [event for line in lines for event in run.feed(line, now=NOW)]


def read(*lines: bytes, exit_code: int | None = None) -> list[NewEvent]:
    run = TerraformRun(deployment_id="d1")
    events = feed(run, *lines)
    return [*events, *run.close(now=NOW, exit_code=exit_code)]


def said(*lines: bytes) -> list[tuple[str, str | None]]:
    """The types and messages that the lines give after the tool's first."""
    run = TerraformRun(deployment_id="d1")
    feed(run, VERSION)
    return [(event.type, event.message) for event in feed(run, *lines)]


def data(event: NewEvent) -> Any:
    return None if event.data is None else msgspec.json.decode(event.data)


def address(event: NewEvent) -> str | None:
    return event.resource.address if event.resource else None


# Hooks


def test_an_action_that_fails_is_an_error_with_its_address() -> None:
    events = read(*(CASES / "apply-action-errored.jsonl").read_bytes().splitlines())

    [failed] = [event for event in events if "errored" in (event.message or "")]
    assert failed.type == "deployment.error"
    assert address(failed) == "action.acme_notify.ops"
    assert data(failed)["trigger"] == "terraform_data.app"
    assert events[-1].type == "deployment.failed"


def new_action_hook(type_: str, **parts: Any) -> bytes:
    action = {
        "addr": 'module.m.action.acme_notify.ops["k"]', "module": "module.m",
        "action": 'action.acme_notify.ops["k"]', "implied_provider": "acme",
        "action_type": "acme_notify", "action_name": "ops", "action_key": "k",
    }  # fmt: skip
    line = {"@level": "info", "@message": "x", "@module": "terraform.ui", "type": type_}
    return json.dumps({**line, "hook": {"action": action, **parts}}).encode()


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("action_start", "deployment.log"),
        ("action_progress", "deployment.log"),
        ("action_complete", "deployment.log"),
        ("action_errored", "deployment.error"),
    ],
)
def test_every_hook_of_an_action_has_its_address(type_: str, expected: str) -> None:
    [event] = read(new_action_hook(type_, invoke={}))[:1]

    assert event.type == expected
    assert event.resource
    assert (event.resource.type, event.resource.name, event.resource.key) == (
        "acme_notify", "ops", "k",
    )  # fmt: skip
    assert address(event) == 'module.m.action.acme_notify.ops["k"]'
    assert data(event) == {"hook": type_}


def test_a_planned_invocation_is_planned() -> None:
    events = read(*(CASES / "apply-action-errored.jsonl").read_bytes().splitlines())

    [planned] = [event for event in events if data(event) and data(event).get("action") == "invoke"]
    assert planned.type == "deployment.planned"
    assert address(planned) == "action.acme_notify.ops"
    assert data(planned)["event"] == "AfterCreate"


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("ephemeral_op_start", "deployment.log"),
        ("ephemeral_op_progress", "deployment.log"),
        ("ephemeral_op_complete", "deployment.log"),
        ("ephemeral_op_errored", "deployment.error"),
        ("ephemeral_action_started", "deployment.log"),
        ("ephemeral_action_complete", "deployment.log"),
    ],
)
def test_every_hook_of_an_ephemeral_resource_has_its_address(type_: str, expected: str) -> None:
    resource = {"addr": "ephemeral.a.b", "resource_type": "a", "resource_name": "b"}
    line = {"@message": "x", "type": type_, "hook": {"resource": resource, "action": "open"}}

    [event] = read(json.dumps(line).encode())[:1]

    assert (event.type, address(event)) == (expected, "ephemeral.a.b")
    assert data(event) == {"hook": type_, "action": "open"}


# Lines of others


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"Initializing the backend...\r\n", "Initializing the backend..."),
        (b"\x1b[31m+ make deploy\x1b[0m", "+ make deploy"),
        (b'{"@level":"info","@message":"cut o', '{"@level":"info","@message":"cut o'),
        (b"[1]", "[1]"),
        (b'{"level":"error","msg":"quota"}', "quota"),
        (b'{"type":"error","message":"quota"}', "quota"),
        (b'{"some":"plugin","more":1}', "(JSON: more, some)"),
        (
            b'{"@level":"error","@message":"retrying","@module":"provider.aws"}',
            "retrying",
        ),
    ],
)
def test_a_line_of_others_is_a_log_and_fails_nothing(line: bytes, message: str) -> None:
    summary = b'{"@message":"done","type":"change_summary","changes":{"operation":"apply"}}'

    events = read(VERSION, line, summary)

    assert [event.type for event in events] == [
        "deployment.version", "deployment.log", "deployment.summary", "deployment.completed",
    ]  # fmt: skip
    assert events[1].message == message


def test_a_log_of_a_provider_says_whose_it_is() -> None:
    line = b'{"@level":"error","@message":"retrying","@module":"provider.aws"}'

    [_, event, _] = read(VERSION, line)

    assert data(event) == {"module": "provider.aws", "level": "error"}


def test_blank_lines_are_nothing() -> None:
    assert said(b"", b"\r\n", b"  ", b"\x1b[0m") == []


def test_lines_before_the_first_of_the_tool_are_told_with_it_at_its_time() -> None:
    run = TerraformRun(deployment_id="d1")

    assert feed(run, b"+ terraform apply", b"second") == []
    assert not run.has_started
    events = feed(run, VERSION, b"later")

    assert [(event.producer_id, event.message, event.time) for event in events] == [
        ("d1/1", "+ terraform apply", STARTED),
        ("d1/2", "second", STARTED),
        ("d1/3", "Terraform 1.14.0", STARTED),
        ("d1/4", "later", STARTED),
    ]


def test_of_very_many_lines_before_the_first_the_last_are_told() -> None:
    events = read(*(b"line %d" % k for k in range(MAX_BUFFERED + 7)), VERSION)

    assert events[0].message == "(7 more lines before these)"
    assert events[1].message == "line 7"
    assert len({event.producer_id for event in events}) == len(events)


def test_a_document_among_the_lines_is_named_and_not_copied() -> None:
    state = {"format_version": "1.0", "values": {"secret": "hunter22"}}
    one, many = json.dumps(state).encode(), json.dumps(state, indent=1).encode().splitlines()

    events = read(VERSION, one, *many, b"after", many[0], many[1])

    assert [event.message for event in events[1:-1]] == [
        "(JSON: format_version, values)",
        "(JSON in 6 lines)",
        "after",
        "(JSON in 2 lines)",
    ]
    assert not any(b"hunter22" in msgspec.json.encode(event) for event in events)


def test_a_run_of_other_lines_only_records_that_they_tell_nothing() -> None:
    [log, end] = read(b"Deploying by hand", exit_code=0)

    assert log.type == "deployment.log"
    assert log.message == "The output does not say what was done to any resource"
    assert end.type == "deployment.completed"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "no input"),
        ([b"\n"], "no input"),
        ([b'{"format_version":"1.2"}'], "give plans to deploylog ingest plan"),
        ([b"{", b' "format_version": "1.2"', b"}"], "give plans to deploylog ingest plan"),
        ([b"a.b: Creating..."], "run the tool with -json"),
        ([b"", b"No idea"], "its first line starts with 'No idea'"),
    ],
)
def test_what_came_instead_of_a_run_is_named(lines: list[bytes], expected: str) -> None:
    run = TerraformRun(deployment_id="d1")

    assert feed(run, *lines) == []
    assert expected in run.unrecognized_input


# Prefixes


def sample() -> list[bytes]:
    return (SAMPLES / "04-apply-update-replace-slow.jsonl").read_bytes().splitlines()


def told(events: list[NewEvent]) -> list[tuple[str, str | None]]:
    return [(event.type, event.message) for event in events]


@pytest.mark.parametrize(
    "prefix",
    [
        b"    ",
        b"[/srv/live/prod/web] ",
        b"2026-11-28T01:51:16.1Z ",
        b"[2026-11-28 01:51:16] [web] ",
        b"10:15:00.123 STDOUT [web] terraform: ",
        b"\x1b[0m\x1b[32m[web]\x1b[0m ",
        b"web | ",
    ],
)
def test_prefixes_of_lines_make_no_difference(prefix: bytes) -> None:
    events = read(*(prefix + line + b"\x1b[0m\r" for line in sample()))

    assert told(events) == told(read(*sample()))


def test_terragrunts_log_in_json_makes_no_difference() -> None:
    wrapped = [
        json.dumps({"level": "stdout", "prefix": "web", "msg": line.decode()}).encode()
        for line in sample()
    ]

    assert told(read(*wrapped)) == told(read(*sample()))


def test_the_same_address_in_two_units_is_two_resources() -> None:
    hook = {"resource": {"addr": "a.b", "resource_type": "a", "resource_name": "b"}}
    start, end = (
        json.dumps({"@message": "x", "type": type_, "hook": {**hook, "action": "create"}}).encode()
        for type_ in ("apply_start", "apply_complete")
    )

    events = read(b"[web] " + start, b"[db] " + start, b"[db] " + end)

    assert Counter(event.type for event in events) == {
        "resource.create.started": 2,
        "resource.create.completed": 1,
        "resource.create.failed": 1,
        "deployment.error": 1,
        "deployment.failed": 1,
    }
