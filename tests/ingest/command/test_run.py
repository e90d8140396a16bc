"""A run of any command: its lines, its limits and its end."""

from pathlib import Path

import msgspec
import pytest

from deploylog.events.event import NewEvent, check_event
from deploylog.events.scope import scope
from deploylog.ingest.command import run as command_run
from deploylog.ingest.command.run import CommandRun
from support.paths import SAMPLES

APPLY = SAMPLES / "02-apply-create.jsonl"


def new_run(tool: str = "helm", operation: str | None = "upgrade") -> CommandRun:
    return CommandRun(deployment_id="d", tool=tool, operation=operation)


def feed(run: CommandRun, *lines: bytes) -> list[NewEvent]:
    return [event for line in lines for event in run.feed(line, now=7)]


def test_a_line_is_an_event_without_colors_and_redrawn_parts():
    run = new_run()

    events = feed(run, b"\x1b[32mdone\x1b[0m \r", b"10%\r100%", b"  ", b"\xff\0x")

    assert [event.message for event in events] == [
        "done",
        "100%",
        "\N{REPLACEMENT CHARACTER}" * 2 + "x",
    ]
    assert {event.type for event in events} == {"deployment.log"}
    assert len({event.producer_id for event in events}) == 3
    for event in events:
        check_event(msgspec.structs.replace(event, scopes=(scope("a"),)))


@pytest.mark.parametrize(
    ("code", "type", "message"),
    [
        (0, "deployment.completed", "helm ended with exit code 0"),
        (3, "deployment.failed", "helm ended with exit code 3: Error: no such chart"),
        (
            143,
            "deployment.failed",
            "helm was ended by SIGTERM (exit code 143): Error: no such chart",
        ),
        (255, "deployment.failed", "helm ended with exit code 255: Error: no such chart"),
    ],
)
def test_the_exit_code_ends_it(code: int, type: str, message: str):
    run = new_run()
    run.feed(b"Error: no such chart", now=7, stream="stderr")

    [end] = run.close(now=8, exit_code=code)

    assert (end.type, end.message, end.time) == (type, message, 8)
    assert msgspec.json.decode(bytes(end.data or b"")) == {
        "operation": "upgrade",
        "exit_code": code,
    }


def test_output_is_bounded_and_its_last_lines_are_recorded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command_run, "MAX_LINES", 3)
    run = new_run()

    first = feed(run, *(b"%d" % number for number in range(150)))
    *last, _ = run.close(now=8, exit_code=0)

    assert [event.message for event in first] == ["0", "1", "2"]
    assert last[0].message == "(47 lines are not recorded)"
    assert [event.message for event in last[1:]] == [str(number) for number in range(50, 150)]


def test_a_long_line_is_cut():
    [event] = feed(new_run(), b"x" * 5000)

    assert event.message == "x" * 4096 + "… (904 more characters)"


@pytest.mark.parametrize(
    ("tool", "source"),
    [("helm", "helm"), ("./my deploy.sh", ".-my-deploy.sh"), ("deploylog", "deploylog-client"),
     ("\N{SNOWMAN}", "deploylog-client")],
)  # fmt: skip
def test_the_source_is_the_tool(tool: str, source: str):
    [event] = feed(new_run(tool), b"line")

    assert event.source == source


def test_a_script_that_runs_terraform_reports_its_resources():
    run = new_run("deploy.sh", None)
    lines = [b"starting", *Path(APPLY).read_bytes().splitlines()]

    events = feed(run, *lines)
    end = run.close(now=9, exit_code=0)[-1]

    types = [event.type for event in events]
    assert types[:2] == ["deployment.log", "deployment.version"]
    assert types.count("resource.create.completed") == 9
    assert run.runs_terraform
    assert (end.type, end.source) == ("deployment.completed", "terraform")
