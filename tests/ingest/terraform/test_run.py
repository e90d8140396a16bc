import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    NewEvent,
    check_event,
)
from deploylog.events.scope import scope
from deploylog.events.times import SECOND, parse_time
from deploylog.ingest.terraform.run import TerraformRun
from support.paths import SAMPLES

GOLDEN = Path(__file__).parent / "golden"

NOW = parse_time("2026-11-21T12:00:00Z")


def sample(number: str) -> list[bytes]:
    [path] = SAMPLES.glob(f"{number}-*.jsonl")
    return path.read_bytes().splitlines(keepends=True)


def read(
    lines: Iterable[bytes | dict[str, Any]], *, exit_code: int | None = None
) -> list[NewEvent]:
    """All that a run says from its first line to its end."""
    run = new_run()
    events = feed(run, lines)
    return [*events, *run.close(now=NOW, exit_code=exit_code)]


def feed(run: TerraformRun, lines: Iterable[bytes | dict[str, Any]]) -> list[NewEvent]:
    encoded = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return [event for line in encoded for event in run.feed(line, now=NOW)]


def new_run() -> TerraformRun:
    return TerraformRun(deployment_id="d1")


def event_of(line: bytes | dict[str, Any]) -> NewEvent:
    [event] = feed(new_run(), [line])
    return event


def new_hook(type_: str = "apply_start", **parts: Any) -> dict[str, Any]:
    resource = {"addr": "a.b", "resource_type": "a", "resource_name": "b", "resource_key": None}
    hook = {"resource": resource | parts.pop("resource", {}), "action": "create", **parts}
    return {"@level": "info", "@message": "a.b: Working...", "type": type_, "hook": hook}


def new_diagnostic(**parts: Any) -> dict[str, Any]:
    diagnostic = {"severity": "error", "summary": "No", "detail": "", **parts}
    level = "error" if diagnostic["severity"] == "error" else "warn"
    return {
        "@level": level,
        "@message": "Error: No",
        "type": "diagnostic",
        "diagnostic": diagnostic,
    }


def new_summary(operation: str) -> dict[str, Any]:
    return {
        "@level": "info",
        "@message": f"The {operation} in numbers.",
        "type": "change_summary",
        "changes": {"add": 1, "change": 0, "remove": 0, "operation": operation},
    }


def data(event: NewEvent) -> Any:
    return None if event.data is None else msgspec.json.decode(event.data)


def types(events: Iterable[NewEvent]) -> Counter[str]:
    return Counter(event.type for event in events)


# Whole runs


@pytest.mark.parametrize("number", ["02", "04", "10", "11"])
def test_the_events_add_up_to_what_the_run_says_it_did(number: str) -> None:
    lines = sample(number)
    [*_, changes] = [said["changes"] for line in lines if "changes" in (said := json.loads(line))]

    count = types(read(lines))

    assert count["resource.create.completed"] == changes["add"]
    assert count["resource.update.completed"] == changes["change"]
    assert count["resource.delete.completed"] == changes["remove"]
    assert count["deployment.summary"] == count["deployment.completed"] == 1


@pytest.mark.parametrize("number", ["02", "03", "04", "10", "11", "15"])
@pytest.mark.parametrize("exit_code", [None, 0])
def test_a_whole_run_completes_with_its_summary(number: str, exit_code: int | None) -> None:
    summaries = [said for line in sample(number) if "changes" in (said := json.loads(line))]

    [*_, end] = read(sample(number), exit_code=exit_code)

    assert end.type == "deployment.completed"
    assert end.message == summaries[-1]["@message"]
    operation = summaries[-1]["changes"]["operation"]
    assert data(end) == {"operation": operation, "exit_code": exit_code}


@pytest.mark.parametrize("exit_code", [None, 1])
def test_a_run_with_an_error_fails_and_says_why(exit_code: int | None) -> None:
    events = read(sample("05"), exit_code=exit_code)

    count = types(events)
    assert count["resource.create.failed"] == 1
    assert count["resource.create.completed"] == 4
    assert count["deployment.error"] == 2
    assert count["deployment.summary"] == 0
    assert [event.type for event in events[-4:]] == [
        "deployment.error",
        "resource.create.failed",
        "deployment.error",
        "deployment.failed",
    ]
    assert events[-1].message == "Error: local-exec provisioner error"
    assert data(events[-1]) == {"operation": "apply", "exit_code": exit_code}


@pytest.mark.parametrize("number", ["05", "15"])
def test_a_recorded_run_gives_the_golden_events(number: str) -> None:
    [path] = GOLDEN.glob(f"{number}-*.jsonl")

    events = [msgspec.json.encode(event) for event in read(sample(number))]

    assert events == path.read_bytes().splitlines()


@pytest.mark.parametrize("number", ["02", "03", "04", "05", "10", "11", "15"])
def test_reading_a_run_again_gives_equal_events_under_unique_ids(number: str) -> None:
    first = read(sample(number))

    again = read(sample(number))

    assert again == first
    assert len({event.producer_id for event in first}) == len(first)
    assert {event.source for event in first} == {"terraform"}


def test_a_run_cut_anywhere_fails_exactly_what_was_open() -> None:
    lines = sample("04")
    for cut in range(len(lines) + 1):
        run = new_run()
        feed(run, lines[:cut])

        *events, _ = run.close(now=NOW, exit_code=None)

        expected = [
            (f"resource.{action}.failed", address) for address, action in opened(lines[:cut])
        ]
        assert [(e.type, e.resource.address) for e in events if e.resource] == expected
        assert types(events)["deployment.error"] == (1 if expected else 0)


def opened(lines: list[bytes]) -> list[tuple[str, str]]:
    """Address and action of what these lines start and do not end."""
    slots = []
    for said in map(json.loads, lines):
        if said["type"] in ("apply_start", "apply_complete"):
            slot = (said["hook"]["resource"]["addr"], said["hook"]["action"])
            slots.append(slot) if said["type"] == "apply_start" else slots.remove(slot)
    return slots


def test_a_run_cut_after_its_first_change_has_not_completed() -> None:
    lines = sample("04")
    kinds = [json.loads(line)["type"] for line in lines]
    first_change = kinds.index("apply_start")
    last_summary = len(kinds) - 1 - kinds[::-1].index("change_summary")

    ends = [read(lines[:cut])[-1].type for cut in range(first_change + 1, last_summary + 1)]

    assert set(ends) == {"deployment.failed"}


def test_the_interrupted_are_reported_in_the_order_of_their_starts() -> None:
    lines = [
        new_hook(resource={"addr": 'a.b["x y"]', "resource_key": "x y"}),
        new_hook(action="delete", id_key="id", id_value="i-1"),
    ]

    *_, one, two, error, end = read(lines, exit_code=137)

    assert (one.type, one.message) == ("resource.create.failed", 'a.b["x y"]: interrupted')
    assert (two.type, two.message) == ("resource.delete.failed", "a.b: interrupted")
    assert one.resource
    assert one.resource.key == "x y"
    assert two.resource
    assert (two.resource.id_key, two.resource.id_value) == ("id", "i-1")
    assert (error.type, error.message) == (
        "deployment.error",
        "the tool ended before its resources did",
    )
    assert (end.type, end.message) == (
        "deployment.failed",
        "the tool ended before its resources did",
    )
    ids = [event.producer_id for event in (one, two, error, end)]
    assert ids == ["d1/end/1", "d1/end/2", "d1/end/3", "d1/end"]
    assert {event.time for event in (one, two, error, end)} == {NOW}


def test_what_is_open_fails_the_run_even_when_the_tool_says_otherwise() -> None:
    [*_, end] = read([new_hook(), new_summary("apply")], exit_code=0)

    assert end.type == "deployment.failed"


# How a run ends


@pytest.mark.parametrize(
    ("lines", "exit_code", "type_", "message"),
    [
        ([], None, "failed", "The output of terraform ended before its summary"),
        ([], 0, "completed", "the tool ended with exit code 0"),
        ([], 1, "failed", "the tool ended with exit code 1"),
        ([], 2, "failed", "the tool ended with exit code 2"),
        ([], -9, "failed", "the tool ended with exit code -9"),
        ([new_summary("plan")], None, "completed", "The plan in numbers."),
        ([new_summary("plan")], 2, "completed", "The plan in numbers."),
        ([new_summary("apply")], 2, "failed", "the tool ended with exit code 2"),
        ([new_summary("plan"), new_diagnostic()], None, "failed", "Error: No"),
        ([new_summary("plan"), new_diagnostic()], 2, "failed", "Error: No"),
        ([new_summary("plan"), new_diagnostic()], 0, "completed", "The plan in numbers."),
        ([new_diagnostic(severity="warning")], 1, "failed", "the tool ended with exit code 1"),
    ],
)
def test_a_run_ends_as_its_exit_code_or_its_output_says(
    lines: list[dict[str, Any]], exit_code: int | None, type_: str, message: str
) -> None:
    run = new_run()
    feed(run, lines)

    [end] = run.close(now=NOW, exit_code=exit_code)

    assert (end.type, end.message) == (f"deployment.{type_}", message)
    assert run.failed == (type_ == "failed")


def test_an_errored_resource_fails_a_run_that_says_nothing_else() -> None:
    errored = new_hook("apply_errored") | {"@message": "a.b: Creation errored after 0s"}

    [*_, end] = read([new_hook(), errored, new_summary("apply")])

    assert (end.type, end.message) == ("deployment.failed", "a.b: Creation errored after 0s")


def test_a_crash_while_applying_is_no_plan_with_changes() -> None:
    lines = [new_summary("plan"), new_hook(), new_hook("apply_complete")]

    [*_, end] = read(lines, exit_code=2)

    assert end.type == "deployment.failed"
    assert data(end) == {"operation": "apply", "exit_code": 2}


def test_a_data_source_read_while_planning_leaves_it_a_plan() -> None:
    lines = [new_hook(action="read"), new_hook("apply_complete", action="read")]

    [*_, end] = read([*lines, new_summary("plan")])

    assert end.type == "deployment.completed"
    assert data(end)["operation"] == "plan"


def test_what_was_applied_wins_over_what_was_planned() -> None:
    run = new_run()
    assert run.operation is None

    feed(run, [new_summary("plan"), new_summary("destroy"), new_summary("plan")])

    assert run.operation == "destroy"


# The tool


def test_terraform_says_who_it_is() -> None:
    run = new_run()

    [event] = feed(run, sample("02")[:1])

    assert (run.tool, run.version, run.failed) == ("terraform", "1.11.4", False)
    assert (event.type, event.source) == ("deployment.version", "terraform")
    assert data(event) == {"tool": "terraform", "version": "1.11.4"}


def test_opentofu_is_the_source_of_its_events_and_of_its_end() -> None:
    line = {"@level": "info", "@message": "OpenTofu 1.9.0", "type": "version", "tofu": "1.9.0"}
    run = new_run()

    [noise, version] = feed(run, [b"noise\n", line])
    [end] = run.close(now=NOW, exit_code=0)

    assert noise.source == version.source == end.source == run.tool == "opentofu"
    assert run.version == "1.9.0"


def test_the_source_does_not_change_after_the_first_event() -> None:
    run = new_run()

    events = feed(run, [new_hook(), {"type": "version", "tofu": "1.9.0"}])

    assert [event.source for event in events] == ["terraform", "terraform"]
    assert run.version == "1.9.0"


# Types


@pytest.mark.parametrize(
    ("type_", "action", "expected"),
    [
        ("apply_start", "create", "resource.create.started"),
        ("apply_progress", "update", "resource.update.progress"),
        ("apply_complete", "delete", "resource.delete.completed"),
        ("apply_errored", "read", "resource.read.failed"),
        ("apply_start", "remove", "resource.remove.started"),
        ("apply_start", "Re Create.now/é", "resource.re_create_now_.started"),
        ("apply_start", None, "resource.unknown.started"),
        ("refresh_start", "read", "deployment.log"),
        ("provision_progress", "create", "deployment.log"),
        ("provision_errored", "create", "deployment.error"),
        ("ephemeral_op_start", "open", "deployment.log"),
        ("ephemeral_op_errored", "open", "deployment.error"),
        ("hook_of_tomorrow", "create", "deployment.log"),
    ],
)
def test_a_hook_gives_its_type_with_the_resource(
    type_: str, action: str | None, expected: str
) -> None:
    event = event_of(new_hook(type_, action=action))

    assert event.type == expected
    assert event.resource
    assert (event.resource.type, event.resource.name) == ("a", "b")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (new_summary("plan"), "deployment.log"),
        (new_summary("apply"), "deployment.summary"),
        (new_summary("destroy"), "deployment.summary"),
        (new_diagnostic(), "deployment.error"),
        (new_diagnostic(severity="warning"), "deployment.log"),
        ({"@level": "info", "@message": "x"}, "deployment.log"),
        ({"@level": "error", "@message": "x"}, "deployment.error"),
        ({"@level": "info", "@message": "x", "type": "of_tomorrow"}, "deployment.log"),
        ({"@level": "error", "@message": "x", "type": "of_tomorrow"}, "deployment.error"),
        ({"@level": "info", "@message": "x", "type": "state_lock_acquire"}, "deployment.log"),
        ({"@message": "x", "type": "planned_change", "change": {}}, "deployment.planned"),
        ({"@message": "x", "type": "resource_drift", "change": {}}, "deployment.drift"),
    ],
)
def test_a_line_gives_its_type(line: dict[str, Any], expected: str) -> None:
    assert event_of(line).type == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"Initializing the backend...\n",
        b'{"@level":"info","@message":"cut o',
        b'{"@message":"\\ud800"}',
        b"[1]\n",
        b'{"some":"plugin"}\n',
        b'{"@message":' + b"[" * 100_000,
        b'{"type":"test_file","@message":"x"}',
        b'{"type":"resource_address","@message":"x"}',
        b'{"type":"workspace_list","@message":"x"}',
        b'{"type":"replace_provider","@message":"x"}',
        b'{"type":"outputs","@message":"Outputs: 1","outputs":{"a":{"action":"create"}}}',
        b'{"type":"outputs","@message":"Outputs: 0","outputs":{}}',
    ],
)
def test_other_lines_and_answers_of_other_commands_begin_no_run(line: bytes) -> None:
    assert feed(new_run(), [line]) == []


def test_every_line_counts_and_gives_its_event_the_number() -> None:
    [noise, event] = feed(new_run(), [b"noise\n", new_hook()])

    assert (noise.type, noise.producer_id, noise.message) == ("deployment.log", "d1/1", "noise")
    assert event.producer_id == "d1/2"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_byte_order_marks_make_no_difference(ending: bytes, mark: bytes) -> None:
    line = json.dumps(new_hook()).encode()

    assert event_of(mark + line + ending) == event_of(line)


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert event_of(b'{"@message":"caf\xe9"}').message == "caf\ufffd"


# Resources


def test_a_resource_is_what_the_hook_says() -> None:
    event = event_of(sample("02")[13])

    assert event.type == "resource.create.completed"
    assert event.resource
    assert msgspec.to_builtins(event.resource) == {
        "type": "terraform_data",
        "name": "cbd",
        "key": None,
        "address": "terraform_data.cbd",
        "id_key": "id",
        "id_value": "f9d400dd-5c4b-3b66-ea69-c1f460b797f1",
    }
    assert event.elapsed == 0
    assert data(event) == {"hook": "apply_complete", "action": "create"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, None),
        (0, "0"),
        (12, "12"),
        ("", ""),
        ("vpc 2/[x]", "vpc 2/[x]"),
        (True, None),
        (-1, None),
        (10**40, None),
        ([1], None),
    ],
)
def test_a_key_is_an_index_or_a_text(key: object, expected: str | None) -> None:
    event = event_of(new_hook(resource={"resource_key": key}))

    assert event.resource
    assert event.resource.key == expected


@pytest.mark.parametrize("part", ["resource_type", "resource_name"])
@pytest.mark.parametrize("value", [None, "", 1, {}])
def test_without_type_or_name_there_is_no_resource(part: str, value: object) -> None:
    event = event_of(new_hook(resource={part: value}))

    assert event.type == "resource.create.started"
    assert event.resource is None


@pytest.mark.parametrize("type_", ["apply_progress", "apply_complete", "apply_errored"])
def test_the_id_that_a_start_said_stays_known(type_: str) -> None:
    start = new_hook(action="delete", id_key="id", id_value="i-1")

    [_, event] = feed(new_run(), [start, new_hook(type_, action="delete")])

    assert event.resource
    assert (event.resource.id_key, event.resource.id_value) == ("id", "i-1")


def test_the_new_id_of_a_replaced_resource_is_not_the_old_one() -> None:
    lines = [
        new_hook(action="delete", id_key="id", id_value="old"),
        new_hook(action="create"),
        new_hook("apply_progress", action="create"),
        new_hook("apply_complete", action="create", id_key="id", id_value="new"),
        new_hook("apply_complete", action="delete"),
        new_hook("apply_progress", action="delete"),
    ]

    events = feed(new_run(), lines)

    ids = [event.resource.id_value for event in events if event.resource]
    assert ids == ["old", None, None, "new", "old", None]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (10, 10 * SECOND),
        (9.6, 10 * SECOND),
        (0, 0),
        (-1, None),
        (1e300, None),
        (1 << 62, None),
        ("10", None),
        (True, None),
        (None, None),
    ],
)
def test_elapsed_is_in_whole_seconds(seconds: object, expected: int | None) -> None:
    assert event_of(new_hook("apply_progress", elapsed_seconds=seconds)).elapsed == expected


def test_a_planned_change_says_why_and_from_where() -> None:
    resource = {"addr": "a.new", "resource_type": "a", "resource_name": "new"}
    change = {
        "resource": resource,
        "previous_resource": {"addr": "a.old"},
        "action": "replace",
        "reason": "cannot_update",
    }

    event = event_of({"@message": "x", "type": "planned_change", "change": change})

    assert event.resource
    assert event.resource.address == "a.new"
    assert data(event) == {
        "action": "replace",
        "reason": "cannot_update",
        "previous_address": "a.old",
    }


# Times


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T04:12:26.944050Z", 1795234346_944050000),
        ("2026-11-21T05:12:26.123456789+01:00", 1795234346_123456789),
    ],
)
def test_a_timestamp_is_kept_to_the_nanosecond(text: str, ns: int) -> None:
    assert event_of(new_hook() | {"@timestamp": text}).time == ns


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "yesterday",
        "2026-11-21T04:12:26",
        "2026-02-30T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2300-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_line_without_a_time_we_can_hold_happened_now(value: object) -> None:
    assert event_of(new_hook() | {"@timestamp": value}).time == NOW


# Messages


def test_a_message_is_kept_as_it_is() -> None:
    text = "  a.b: (local-exec): \tblanks and <>& stay \n"

    assert event_of(new_hook("provision_progress") | {"@message": text}).message == text


@pytest.mark.parametrize(
    ("detail", "address", "expected"),
    [
        ("", None, "Error: No"),
        (" \n", None, "Error: No"),
        ("\n  Because.\nSo.\n", None, "Error: No: Because.\nSo."),
        ("Because.", "a.b", "Error: No: Because. [a.b]"),
        ("", "a.b", "Error: No [a.b]"),
        (7, 7, "Error: No"),
    ],
)
def test_a_diagnostic_says_its_detail_and_address(
    detail: object, address: object, expected: str
) -> None:
    assert event_of(new_diagnostic(detail=detail, address=address)).message == expected


def test_a_diagnostic_keeps_where_it_is_but_not_what_it_shows() -> None:
    span = {
        "filename": "main.tf",
        "start": {"line": 58, "column": 21, "byte": 1272},
        "end": {"line": 58, "column": 35, "byte": 1286},
    }
    snippet = {
        "code": 'password = "hunter2"',
        "values": [{"traversal": "var.x", "statement": "is hunter2"}],
    }

    event = event_of(new_diagnostic(range=span, snippet=snippet, address="a.b"))

    assert data(event) == {
        "severity": "error",
        "summary": "No",
        "address": "a.b",
        "range": span,
    }


@pytest.mark.parametrize("letter", ["a", "é", "…", "😀"])
@pytest.mark.parametrize("offset", range(4))
def test_a_long_message_is_cut_between_characters(letter: str, offset: int) -> None:
    text = "x" * offset + letter * (MAX_MESSAGE_BYTES + 1)

    message = event_of({"@message": text}).message

    assert message is not None
    assert message.endswith("…")
    assert text.startswith(message[:-1])
    assert MAX_MESSAGE_BYTES - 4 < len(message.encode()) <= MAX_MESSAGE_BYTES


def test_a_message_that_just_fits_is_not_cut() -> None:
    text = "x" * MAX_MESSAGE_BYTES

    assert event_of({"@message": text}).message == text


def test_nul_characters_are_replaced() -> None:
    line = new_hook(resource={"resource_name": "b\0"}) | {"@message": "a\0b"}

    event = event_of(line)

    assert event.message == "a\ufffdb"
    assert event.resource
    assert event.resource.name == "b\ufffd"


# Data


def test_a_summary_keeps_its_counts() -> None:
    changes = {"add": 1, "change": 0, "remove": "x", "forget": 2, "other": 3, "operation": "apply"}

    event = event_of({"@message": "x", "type": "change_summary", "changes": changes})

    assert data(event) == {"operation": "apply", "changes": {"add": 1, "change": 0, "forget": 2}}


def test_outputs_keep_what_is_not_sensitive() -> None:
    outputs = {
        "plain": {"sensitive": False, "type": ["list", "number"], "value": [1, 2]},
        "secret": {"sensitive": True, "type": "string", "value": "hunter2"},
        "unsure": {"sensitive": "false", "type": "string", "value": "hunter2"},
        "unsaid": {"type": "string", "value": "hunter2"},
        "planned": {"sensitive": False, "action": "create", "value": "hunter2"},
    }

    event = event_of({"@message": "Outputs: 5", "type": "outputs", "outputs": outputs})

    assert (event.type, event.message) == ("deployment.outputs", "Outputs: 5")
    assert data(event) == {
        "outputs": {
            "plain": outputs["plain"],
            "secret": {"sensitive": True},
            "unsure": {"sensitive": True},
            "unsaid": {"sensitive": True},
        }
    }


def test_outputs_that_are_too_large_are_named_only() -> None:
    outputs = {"big": {"sensitive": False, "type": "string", "value": "x" * MAX_DATA_BYTES}}

    event = event_of({"@message": "x", "type": "outputs", "outputs": outputs})

    assert data(event) == {"outputs": {"big": {"sensitive": False}}}


def test_the_state_in_a_log_line_is_dropped() -> None:
    line = {
        "@level": "error",
        "@message": "Emergency state dump",
        "type": "log",
        "state": "hunter2",
    }

    event = event_of(line)

    assert (event.type, event.message) == ("deployment.error", "Emergency state dump")
    assert b"hunter2" not in msgspec.json.encode(event)


# Hostile lines

KINDS = [
    "version", "log", "diagnostic", "resource_drift", "planned_change", "change_summary",
    "outputs", "apply_start", "apply_progress", "apply_complete", "apply_errored",
    "provision_progress", "provision_errored", "refresh_start", "test_file", "of_tomorrow",
]  # fmt: skip

KEYS = [
    "action", "addr", "address", "byte", "change", "changes", "detail", "diagnostic",
    "elapsed_seconds", "end", "filename", "hook", "id_key", "id_value", "operation", "outputs",
    "previous_resource", "range", "reason", "resource", "resource_key", "resource_name",
    "resource_type", "sensitive", "severity", "start", "summary", "tofu", "type", "value",
    "@level", "@message", "@timestamp",
]  # fmt: skip

text = st.text() | st.builds(
    str.__mul__, st.sampled_from(["x", "\0", "é", "😀"]), st.just(MAX_NAME_LENGTH + 1)
)
scalar = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=1 << 62, max_value=1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.sampled_from(["create", "apply", "plan", "error", "2026-11-21T04:12:26.944050Z"])
)
anything = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | text, inner, max_size=6)
    ),
    max_leaves=12,
)
resource = st.fixed_dictionaries(
    {"addr": scalar, "resource_type": text, "resource_name": text, "resource_key": scalar}
)
hook = st.fixed_dictionaries(
    {"resource": resource | anything},
    optional={
        "action": scalar,
        "id_key": text,
        "id_value": text,
        "provisioner": scalar,
        "elapsed_seconds": scalar,
    },
)
hostile_object = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | anything,
        "@message": text | anything,
        "@level": st.sampled_from(["info", "error"]) | anything,
        "@timestamp": st.datetimes().map(lambda time: time.isoformat() + "Z") | anything,
        "hook": hook | anything,
        "change": hook | anything,
        "changes": anything,
        "diagnostic": anything,
        "outputs": anything,
        "tofu": anything,
        "terraform": anything,
    },
)


broken_text = st.text(st.characters(categories=["Cs", "L"]), min_size=1)


def nested(depth: int) -> bytes:
    value = b"[" * depth + b"]" * depth
    output = b'{"sensitive":false,"value":' + value + b"}"
    return b'{"type":"outputs","@message":"x","outputs":{"a":' + output + b"}}"


hostile_line = (
    hostile_object.map(lambda value: json.dumps(value).encode())
    | broken_text.map(lambda text: json.dumps({"@message": text}).encode())
    | broken_text.map(lambda text: f'{{"@message": "{text}"}}'.encode(errors="surrogatepass"))
    | st.binary()
    | st.binary().map(lambda noise: b'{"@message":"' + noise + b'"}')
    | st.integers(0, 2000).map(nested)
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=500)
@given(lines=st.lists(hostile_line, max_size=6), exit_code=st.none() | st.integers(-64, 255))
@example(lines=[nested(depth) for depth in range(800, 1000)], exit_code=None)
def test_whatever_comes_gives_events_that_may_be_recorded(
    lines: list[bytes], exit_code: int | None
) -> None:
    events = read(lines, exit_code=exit_code)

    for event in events:
        check_event(msgspec.structs.replace(event, scopes=(scope("project", "p"),)))
        msgspec.json.encode(event)
    assert len({event.producer_id for event in events}) == len(events)
    assert events[-1].type in ("deployment.completed", "deployment.failed")
    assert read(lines, exit_code=exit_code) == events


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_a_damaged_recording_gives_events_that_may_be_recorded(draw: st.DataObject) -> None:
    lines = sample("05")
    index = draw.draw(st.integers(0, len(lines) - 1))
    start = draw.draw(st.integers(0, len(lines[index])))
    lines[index] = (
        lines[index][:start] + draw.draw(st.binary(max_size=4)) + lines[index][start + 1 :]
    )

    for event in read(lines):
        check_event(msgspec.structs.replace(event, scopes=(scope("project", "p"),)))
