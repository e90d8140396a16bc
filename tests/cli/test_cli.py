import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploylog.cli.options import params, spool_directory
from deploylog.cli.terminal.formatting import event_table, screen
from deploylog.cli.terminal.input import MAX_LINE, LineSplitter
from deploylog.cli.terminal.output import LineOutput, render_line
from deploylog.cli.terminal.progress import Progress, render_progress
from deploylog.cli.terminal.text import plain
from deploylog.cli.tools import operation_of, with_json
from deploylog.client import LoggedEvent
from deploylog.client.models import Place
from deploylog.server.settings.table import SETTINGS
from support.backends import empty_store_url_at, store_url_at
from support.cli import APPLY, FAILING, NOWHERE, Cli, Result, line_with
from support.factories import new_event
from support.fake_server import FakeServer, answer, fake_server, refuse, stage_and_cut_off
from support.paths import SAMPLES

PLAN = SAMPLES.parent / "fixtures" / "every-action.json"
DIFF = PLAN.with_suffix(".txt")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
def cli(server: FakeServer, tmp_path: Path) -> Cli:
    return Cli(tmp_path, server.url)


@pytest.fixture
def offline(tmp_path: Path) -> Cli:
    """A command line without a server."""
    return Cli(tmp_path, NOWHERE)


def printing(sample: Path, *, code: int = 0) -> str:
    return f"print(open({str(sample)!r}).read(), end='')\nsys.exit({code})"


def types_of(server: FakeServer) -> list[object]:
    return [event["type"] for event in server.events]


# ingest


async def test_ingest_records_its_input_and_passes_it_on_unchanged(
    cli: Cli, server: FakeServer
) -> None:
    result = await cli("ingest", "terraform", "--environment", "prod", stdin=APPLY.read_bytes())

    assert (result.code, result.out) == (0, APPLY.read_text())
    assert types_of(server)[-1] == "deployment.completed"
    assert server.opened[0]["environment"] == "prod"
    assert list(cli.spool.iterdir()) == []


async def test_ingest_ends_with_a_summary(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "terraform", stdin=APPLY.read_bytes())

    id = str(server.opened[0]["id"])[:8]
    assert result.err.splitlines()[-1] == (
        f"deploylog: sent {len(server.events)} events, 9 added. To list them: deploylog events"
        f" --deployment {id}"
    )


async def test_ingest_reads_a_file_and_can_be_quiet(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "terraform", FAILING, "--quiet", "--group", "a", "--group", "b")

    assert (result.code, result.out) == (0, "")
    assert types_of(server)[-1] == "deployment.failed"
    assert server.opened[0]["groups"] == ["a", "b"]


async def test_a_tool_that_dies_leaves_a_failed_deployment(cli: Cli, server: FakeServer) -> None:
    half = b"".join(APPLY.read_bytes().splitlines(keepends=True)[:14])

    result = await cli("ingest", "terraform", stdin=half)

    assert result.code == 0
    assert types_of(server)[-1] == "deployment.failed"


async def test_input_other_than_terraform_output_is_an_error(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "terraform", stdin=b"hello\n")

    assert result.code == 1
    assert result.err == (
        "deploylog: the input has no line of terraform apply -json; its first line starts"
        " with 'hello'\n"
    )
    assert server.opened == []


async def test_ingest_reads_output_as_powershell_encodes_it(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "terraform", "-q", stdin=APPLY.read_text().encode("utf-16"))

    assert result.code == 0
    assert types_of(server)[-1] == "deployment.completed"
    assert types_of(server).count("resource.create.completed") == 9


async def test_ingest_of_a_plan_names_the_command_for_plans(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "terraform", PLAN)

    assert result.code == 1
    assert result.err == (
        "deploylog: this is a plan or a state, not a run: give plans to deploylog ingest plan\n"
    )
    assert server.opened == []


async def test_ingest_reads_lines_behind_a_prefix(cli: Cli, server: FakeServer) -> None:
    lines = APPLY.read_bytes().splitlines(keepends=True)

    result = await cli("ingest", "terraform", "-q", stdin=b"".join(b"[web] " + x for x in lines))

    assert result.code == 0
    assert types_of(server)[-1] == "deployment.completed"


async def test_a_refusal_is_logged_and_the_input_is_read_to_its_end(
    cli: Cli, server: FakeServer
) -> None:
    server.script.append(refuse(403, "alice may not write project/acme"))

    result = await cli("ingest", "terraform", stdin=APPLY.read_bytes())

    assert (result.code, result.out) == (1, APPLY.read_text())
    assert "deploylog: alice may not write project/acme" in result.err


async def test_ingest_exits_75_after_the_retry_timeout_and_resume_delivers(
    cli: Cli, server: FakeServer
) -> None:
    await server.stop()
    gave_up = await cli("ingest", "terraform", APPLY, "--retry-timeout", "1")
    [spool] = cli.spool.iterdir()
    assert gave_up.code == 75
    assert str(spool) in gave_up.err.splitlines()[-1]
    await server.start()

    resumed = await cli("ingest", "resume")

    assert resumed.code == 0
    assert types_of(server)[-1] == "deployment.completed"
    assert list(cli.spool.iterdir()) == []


async def test_a_spool_that_is_refused_permanently_is_quarantined(
    cli: Cli, server: FakeServer
) -> None:
    server.script.append(refuse(403, "alice may not write project/acme"))
    refused = await cli("ingest", "terraform", APPLY, "-q")
    [spool] = cli.spool.iterdir()
    server.script.append(refuse(403, "alice may not write project/acme"))

    resumed = await cli("ingest", "resume")
    again = await cli("ingest", "resume")

    assert refused.err.splitlines()[-1].endswith(
        f"events remain in {spool}. To retry, run: deploylog ingest resume"
    )
    assert resumed.code == 1
    assert (
        f"to {spool.with_suffix('.refused')}, which is not retried" in resumed.err.splitlines()[-1]
    )
    assert list(cli.spool.iterdir()) == [spool.with_suffix(".refused")]
    assert again == Result(0, "", "")


async def test_a_spool_that_is_refused_for_a_wrong_key_stays(cli: Cli, server: FakeServer) -> None:
    server.script.extend([refuse(401), refuse(401)])
    await cli("ingest", "terraform", APPLY, "-q")

    refused = await cli("ingest", "resume")
    resumed = await cli("ingest", "resume")

    assert [refused.code, resumed.code] == [1, 0]
    assert types_of(server)[-1] == "deployment.completed"


async def test_a_killed_ingest_loses_no_line_that_it_has_read(cli: Cli, server: FakeServer) -> None:
    lines = APPLY.read_bytes().splitlines(keepends=True)
    await server.stop()
    process = await cli.start("ingest", "terraform")
    process.stdin.write(b"".join(lines[:14]))
    await line_with(process.stderr, "retrying")
    # Output is passed on after it is in the spool.
    await process.stdout.readexactly(len(b"".join(lines[:14])))
    process.kill()
    await process.communicate()
    await server.start()

    resumed = await cli("ingest", "resume")

    assert resumed.code == 0
    assert [event["id"] for event in server.events][-2].endswith("/14")  # type: ignore[attr-defined]
    assert types_of(server)[-1] == "deployment.failed"


async def test_a_first_interrupt_waits_for_the_tool_and_a_second_ends_the_input(
    cli: Cli, server: FakeServer
) -> None:
    process = await cli.start("ingest", "terraform")
    process.stdin.write(APPLY.read_bytes())
    await server.until(lambda server: len(server.events) > 10)

    process.send_signal(signal.SIGINT)
    await line_with(process.stderr, "waiting for the tool")
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        await process.wait()

    assert process.returncode == 0
    assert types_of(server)[-1] == "deployment.completed"


async def test_ingest_can_be_stopped_while_the_spool_is_full(offline: Cli) -> None:
    process = await offline.start("ingest", "terraform", "--spool-bytes", "1000")
    process.stdin.write(APPLY.read_bytes())
    await line_with(process.stderr, "retrying")

    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=1)
    async with asyncio.timeout(20):
        await process.wait()

    assert process.returncode == 75
    assert len(list(offline.spool.iterdir())) == 1


async def test_a_closed_standard_output_does_not_end_the_recording(
    cli: Cli, server: FakeServer
) -> None:
    process = await cli.start("ingest", "terraform")
    process.stdout._transport.close()  # type: ignore[attr-defined]
    process.stdin.write(APPLY.read_bytes())
    process.stdin.close()
    async with asyncio.timeout(20):
        await process.wait()

    assert process.returncode == 0
    assert types_of(server)[-1] == "deployment.completed"


# run


async def test_run_shows_the_tools_text_and_exits_with_its_code(
    cli: Cli, server: FakeServer
) -> None:
    cli.tool("terraform", printing(FAILING, code=1))

    result = await cli("run", "terraform", "apply", "-auto-approve")

    assert result.code == 1
    assert "terraform_data.failing[0]: Creation errored after 0s\n" in result.out
    assert "  on main.tf line 49:\n  Error running command" in result.out
    assert types_of(server)[-1] == "deployment.failed"
    assert server.opened[0]["operation"] == "apply"


async def test_run_adds_json_and_can_show_it(cli: Cli, server: FakeServer) -> None:
    cli.tool("tofu", f"print(sys.argv[1:], file=sys.stderr)\n{printing(APPLY)}")

    result = await cli("run", "--json-output", "--", "tofu", "-chdir=x", "apply", "plan.bin")

    assert (result.code, result.out) == (0, APPLY.read_text())
    assert "['-chdir=x', 'apply', '-json', 'plan.bin']" in result.err


async def test_run_adds_json_behind_a_wrapper(cli: Cli, server: FakeServer) -> None:
    cli.tool("aws-vault", "import os\nos.execvp(sys.argv[4], sys.argv[4:])")
    cli.tool("terraform", f"print(sys.argv[1:], file=sys.stderr)\n{printing(APPLY)}")

    result = await cli("run", "--", "aws-vault", "exec", "prod", "--", "terraform", "apply")

    assert result.code == 0
    assert "['apply', '-json']" in result.err
    assert server.opened[0]["operation"] == "apply"
    assert types_of(server).count("resource.create.completed") == 9


async def test_run_warns_when_the_output_has_no_resource(cli: Cli, server: FakeServer) -> None:
    cli.tool("deploy", "print('a.b: Creating...')")

    result = await cli("run", "--", "deploy")

    assert result.code == 0
    assert (
        "deploylog: no resource changes are recorded: this is human-readable output: run the"
        " tool with -json\n"
    ) in result.err
    assert types_of(server) == ["deployment.log", "deployment.log", "deployment.completed"]
    line, outcome, _ = (event["message"] for event in server.events)
    assert line == "a.b: Creating..."
    assert outcome == "The output does not say what was done to any resource"


async def test_a_run_does_not_fail_because_its_recording_does(offline: Cli) -> None:
    offline.tool("terraform", printing(APPLY))

    result = await offline("run", "--retry-timeout", "1", "terraform", "apply")

    assert result.code == 0
    assert "deploylog: no response from http://127.0.0.1:1" in result.err


async def test_a_strict_run_fails_when_its_recording_does(offline: Cli) -> None:
    offline.tool("terraform", printing(APPLY))

    result = await offline("run", "--strict", "--retry-timeout", "1", "terraform", "apply")

    assert result.code == 75


async def test_a_run_finishes_even_if_the_server_refuses_it(cli: Cli, server: FakeServer) -> None:
    server.script.extend([answer, refuse(403, "no")])
    cli.tool("terraform", printing(APPLY))

    result = await cli("run", "terraform", "apply")

    assert result.code == 0
    assert "Apply complete!" in result.out


async def test_a_missing_command_is_reported_as_a_shell_does(cli: Cli) -> None:
    result = await cli("run", "no-such-tool", "apply")

    assert result.code == 127
    assert result.err == "deploylog: no-such-tool: no such file or directory\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_passes_a_signal_on_and_waits_for_the_tool(
    cli: Cli, server: FakeServer, number: signal.Signals
) -> None:
    lines = APPLY.read_text().splitlines(keepends=True)
    cli.tool(
        "terraform",
        f"def stop(number, frame):\n"
        # The signal may come while the first lines are still being printed.
        f"    sys.stdout.buffer.raw.write({''.join(lines[2:]).encode()!r})\n"
        f"    sys.exit(number)\n"
        f"for number in (signal.SIGINT, signal.SIGTERM):\n"
        f"    signal.signal(number, stop)\n"
        f"print({''.join(lines[:2])!r}, end='', flush=True)\n"
        f"while True: signal.pause()",
    )
    process = await cli.start("run", "terraform", "apply")
    await server.until(lambda server: len(server.events) == 2)

    process.send_signal(number)
    async with asyncio.timeout(20):
        out, _ = await process.communicate()

    assert process.returncode == number
    assert b"Apply complete!" in out
    assert types_of(server)[-1] == "deployment.failed"


# ingest plan


def streamed(type: str, **attributes: object) -> bytes:
    """An event of a change set, as a stream has it."""
    return f"id: 1\nevent: {type}\ndata: {json.dumps(attributes)}\n\n".encode()


CREATED = streamed(
    "changeset.resource", data={"name": "a.b", "address": "a.b", "type": "a", "action": "create"}
)
COMPLETED = streamed("changeset.completed", data={"totals": {"create": 1}})


async def test_a_resource_is_shown_before_the_next_one_arrives(
    cli: Cli, server: FakeServer
) -> None:
    server.streams.append(CREATED)
    process = await cli.start("ingest", "plan", PLAN)

    await line_with(process.stdout, "+ a.b will be created")
    still_running = process.returncode is None
    server.streams.append(COMPLETED)
    await server.stop()
    await server.start()

    await line_with(process.stdout, "Plan: 1 to add, 0 to change, 0 to destroy.")
    async with asyncio.timeout(20):
        await process.communicate()
    assert still_running
    assert process.returncode == 0


async def test_a_plan_is_staged_with_the_options(cli: Cli, server: FakeServer) -> None:
    server.streams.append(COMPLETED)

    result = await cli(
        "ingest", "plan", PLAN, "--destroy", "--actor", "alice", "--group", "a", "--group", "b"
    )

    staging = server.requests[0]
    assert result.code == 0
    assert result.err == f"deploylog: change set {staging.query['id']} of acme/web\n"
    assert sorted(staging.query.items()) == [
        ("actor", "alice"), ("destroy", "true"), ("group", "a"), ("group", "b"),
        ("id", staging.headers["Idempotency-Key"]), ("location", "every-action.json"),
        ("project", "acme"), ("stack", "web"),
    ]  # fmt: skip


async def test_a_plan_is_read_from_a_pipe_and_its_events_printed(
    cli: Cli, server: FakeServer
) -> None:
    server.streams.append(CREATED + COMPLETED)

    result = await cli("ingest", "plan", "--json", stdin=PLAN.read_bytes())

    assert [list(json.loads(line)["data"]) for line in result.out.splitlines()] == [
        ["name", "address", "type", "action"],
        ["totals"],
    ]
    assert "location" not in server.requests[0].query
    assert list(server.staged.values()) == [PLAN.read_bytes()]


async def test_a_plan_is_staged_quietly(cli: Cli, server: FakeServer) -> None:
    server.streams.append(CREATED + COMPLETED)

    result = await cli("ingest", "plan", PLAN, "--quiet")

    assert (result.code, result.out) == (0, "")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (streamed("changeset.failed", message="it broke"), "failed: it broke"),
        (
            streamed("changeset.drift", message="1 changed", data={"totals": {}}),
            "was stopped by drift: 1 changed",
        ),
    ],
)
async def test_a_change_set_that_ends_badly_fails_the_command(
    cli: Cli, server: FakeServer, end: bytes, words: str
) -> None:
    server.streams.append(CREATED + end)

    result = await cli("ingest", "plan", PLAN)

    assert result.code == 1
    assert "a.b will be created" in result.out
    assert result.err.endswith(f"{words}\n")


async def test_an_interrupt_says_that_the_server_continues_to_stage(
    cli: Cli, server: FakeServer
) -> None:
    server.streams.append(CREATED)
    process = await cli.start("ingest", "plan", PLAN)
    await line_with(process.stdout, "+ a.b will be created")

    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        _, err = await process.communicate()

    [id] = server.stagings
    assert process.returncode == 130
    assert (
        f"deploylog: interrupted; the server continues to stage change set {id}\n" in err.decode()
    )


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_closed_standard_output_does_not_fail_the_staging(
    cli: Cli, server: FakeServer, options: tuple[str, ...]
) -> None:
    server.streams.append(CREATED + COMPLETED)
    process = await cli.start("ingest", "plan", PLAN, *options)
    process.stdout._transport.close()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        await process.wait()
    err = await process.stderr.read()

    assert process.returncode == 0, err
    assert b"Traceback" not in err


async def test_a_plan_that_is_refused_fails_the_command(cli: Cli, server: FakeServer) -> None:
    server.script.append(refuse(400, "the plan is not JSON"))

    result = await cli("ingest", "plan", PLAN)

    assert result == Result(1, "", "deploylog: the plan is not JSON\n")


async def test_a_key_that_may_only_write_stages_without_a_diff(
    cli: Cli, server: FakeServer
) -> None:
    server.script.extend([answer, refuse(404, "there is no change set")])

    result = await cli("ingest", "plan", PLAN)

    assert (result.code, result.out) == (0, "")
    assert result.err.endswith("the changes are not shown: the key may not read the change set\n")


async def test_a_lost_response_stages_nothing_twice(cli: Cli, server: FakeServer) -> None:
    server.script.extend([stage_and_cut_off, refuse(503)])
    server.streams.append(COMPLETED)

    result = await cli("ingest", "plan", PLAN)

    assert result.code == 0
    assert len(server.stagings) == 2
    assert len(server.staged) == 1
    assert "retrying" in result.err


async def test_an_unreachable_server_has_another_exit_code_than_a_refusal(offline: Cli) -> None:
    result = await offline("ingest", "plan", PLAN, "--retry-timeout", "1")

    assert result.code == 75
    assert "no response from http://127.0.0.1:1 (connection refused)" in result.err.splitlines()[-1]


async def test_a_binary_plan_file_is_a_usage_error(cli: Cli, server: FakeServer) -> None:
    result = await cli("ingest", "plan", stdin=b"PK\x03\x04binary")

    assert result.code == 2
    assert "pass the output of terraform show -json" in result.err
    assert server.requests == []


# Reading


async def test_wait_exits_by_the_status_of_the_deployment(cli: Cli, server: FakeServer) -> None:
    running = await cli("wait", "d1", "--timeout", "0")
    server.events.append({"type": "deployment.failed"})
    failed = await cli("wait", "d1")
    server.events.append({"type": "deployment.completed"})
    completed = await cli("wait", "d1")

    assert [running.code, failed.code, completed.code] == [124, 1, 0]
    assert completed.out == "deployment d1 of acme/web is completed\n"


async def test_tail_shows_events_until_it_is_interrupted(cli: Cli, server: FakeServer) -> None:
    data = json.dumps({
        "id": "e1", "type": "resource.create.started", "source": "terraform",
        "time": "2026-11-21T04:12:26.944050Z", "message": "a: \x1b[31mCreating...",
    })  # fmt: skip
    server.streams.append(f"id: e1\ndata: {data}\n\n".encode())
    process = await cli.start("tail", "--type", "resource.*", "--since", "-15m")

    line = await line_with(process.stdout, "Creating")
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        await process.wait()

    assert line.startswith("2026-11-21 04:12:26Z  resource.create.started  a: ")
    assert "\x1b" not in line
    assert process.returncode == 0
    assert dict(server.requests[0].query) == {
        "type": "resource.*", "since": "-15m", "from": "start"
    }  # fmt: skip


async def test_an_error_is_one_plain_line(offline: Cli) -> None:
    result = await offline("events")

    assert result == Result(
        75, "", "deploylog: no response from http://127.0.0.1:1 (connection refused)\n"
    )


@pytest.mark.parametrize(
    "command", ["events", "tail", "changesets", "deployments", "stacks", "projects"]
)
async def test_without_a_response_the_exit_code_is_75(offline: Cli, command: str) -> None:
    result = await offline(command)

    assert result.code == 75


@pytest.mark.parametrize("command", [("run", "true"), ("ingest", "terraform"), ("ingest", "plan")])
@pytest.mark.parametrize("option", ["--project", "--stack"])
@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1bb"])
async def test_an_empty_or_unprintable_name_is_a_usage_error(
    cli: Cli, server: FakeServer, command: tuple[str, ...], option: str, name: str
) -> None:
    group = len(command) - 1 if command[0] == "run" else len(command)

    result = await cli(*command[:group], option, name, *command[group:])

    assert result.code == 2
    assert f"'{option}'" in result.err
    assert server.requests == []


@pytest.mark.parametrize(
    "command",
    [("events", "--order", "foo"), ("keys", "add", "a", "--grant", "read:/", "--kind", "foo")],
)
async def test_an_invalid_choice_is_refused_with_the_valid_ones(
    cli: Cli, command: tuple[str, ...]
) -> None:
    result = await cli(*command)

    assert result.code == 2
    assert f"Invalid value for '{command[-2]}': 'foo' is not one of '" in result.err


@pytest.mark.parametrize("command", [("serve",), ("keys", "list"), ("migrate",)])
async def test_a_file_that_is_not_a_store_is_a_usage_error(
    cli: Cli, tmp_path: Path, command: tuple[str, ...]
) -> None:
    junk = tmp_path / "junk.db"
    junk.write_text("not a database, but long enough to be taken for one")

    result = await cli(*command, "--store", store_url_at(junk))

    assert result.code == 2
    assert result.err.splitlines()[-1] == f"deploylog: {junk} is not a Deploylog store"


async def test_a_store_in_a_missing_directory_is_a_usage_error(cli: Cli) -> None:
    result = await cli("serve", "--store", empty_store_url_at(Path("/nonexistent/x.db")))

    assert result.code == 2
    assert result.err == "deploylog: the store's folder '/nonexistent' does not exist\n"


async def test_an_invalid_address_is_a_usage_error(cli: Cli) -> None:
    result = await cli("events", "--server", "localhost")

    assert result.code == 2
    assert result.err.startswith("deploylog: invalid server address 'localhost'")


# With the real server


@asynccontextmanager
async def served(cli: Cli) -> AsyncIterator[str]:
    process = await cli.start("serve", "--port", "0")
    line = await line_with(process.stderr, "listening on")
    try:
        yield re.search(r"http://\S+\d", line)[0]  # type: ignore[index]
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.communicate()
    assert process.returncode == 0


async def test_a_run_is_recorded_and_read_back(cli: Cli) -> None:
    async with served(cli) as url:
        to = ("--server", url)
        ingested = await cli("ingest", "terraform", APPLY, "-q", "--operation", "apply", *to)
        events, deployments, stacks, projects = await asyncio.gather(
            cli("events", "--json", "--order", "oldest", "--type", "resource.*", *to),
            cli("deployments", "--project", "acme", "--stack", "web", "--json", *to),
            cli("stacks", *to),
            cli("projects", *to),
        )
        deployment = json.loads(deployments.out)
        waited, table, deleted = await asyncio.gather(
            cli("wait", deployment["id"], *to),
            cli("events", "--limit", "5", *to),
            cli("stacks", "delete", "acme", "web", *to),
        )
        left = await cli("stacks", "--json", *to)

    assert ingested.code == 0
    assert len(events.out.splitlines()) == 18
    assert deployment["counts"] == {"added": 9, "changed": 0, "destroyed": 0, "failed": 0}
    assert "web" in stacks.out
    assert projects.out == "acme\n"
    assert waited.code == 0
    assert len(table.out.splitlines()) == 6
    assert (deleted.code, left.out) == (0, "")


async def test_a_plan_is_staged_shown_and_read_back(cli: Cli) -> None:
    async with served(cli) as url:
        to = ("--server", url)
        shown = await cli("ingest", "plan", PLAN, *to)
        [id] = re.findall(r"change set (\S+) of acme/web", shown.err)
        listed, table, again, changes, events = await asyncio.gather(
            cli("changesets", "--project", "acme", "--json", *to),
            cli("changesets", *to),
            cli("changesets", "show", id, *to),
            cli("changesets", "show", id, "--json", *to),
            cli("events", "--scope", f"changeset/{id}", "--json", *to),
        )

    assert (shown.code, shown.out) == (0, DIFF.read_text())
    assert again.out == shown.out
    assert [json.loads(listed.out)[name] for name in ("id", "status")] == [id, "staged"]
    assert re.search(rf"{id} +acme +web +staged .* every-action.json +\+4 ~2 -3\n", table.out)
    assert json.loads(changes.out)["totals"]["forget"] == 1
    assert len(events.out.splitlines()) == 12
    assert not any("not-a-real-password" in one.out for one in (listed, table, changes, events))


async def test_a_plan_names_the_deployments_that_apply_it(cli: Cli) -> None:
    place = ("--project", "acme", "--stack", "web")
    async with served(cli) as url:
        to = ("--server", url)
        staged = await cli("ingest", "plan", PLAN, *to)
        [id] = re.findall(r"change set (\S+) of acme/web", staged.err)
        await cli("run", *place, "--actor", "alice", "--plan", id, *to, "--", "true")
        await cli("run", *place, "--actor", "alice", *to, "--", "true")
        shown, listed = await asyncio.gather(
            cli("changesets", "show", id, *to),
            cli("deployments", "--plan", id, "--json", *to),
        )

    [deployment] = map(json.loads, listed.out.splitlines())
    assert deployment["plan"]["id"] == id
    assert re.fullmatch(
        rf"Applied in deployment {deployment['id'][:8]} by alice, started \S+ \S+: completed",
        shown.out.splitlines()[-1],
    )


async def test_an_incomplete_plan_fails_the_command(cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(json.loads(PLAN.read_text()) | {"errored": True}))

    async with served(cli) as url:
        result = await cli("ingest", "plan", plan, "--server", url)

    assert result.code == 1
    assert "terraform_data.secret will be updated in place" in result.out
    assert result.err.splitlines()[-1].endswith(
        "failed: The plan is incomplete because of an error"
    )


async def test_options_before_the_subcommand_are_refused(cli: Cli) -> None:
    result = await cli("changesets", "--project", "acme", "show", "1")

    assert result.code == 2
    assert "put options after show" in result.err


async def test_keys_are_stored_in_the_store(cli: Cli) -> None:
    added = await cli("keys", "add", "ci", "--grant", "write:project/acme", "--group", "ops")
    listed = await cli("keys", "list")
    id = listed.out.splitlines()[1].split()[0]
    revoked = await cli("keys", "revoke", id)
    again = await cli("keys", "revoke", "no-such-key")

    assert added.code == 0
    assert len(added.out.splitlines()) == 1
    assert "write:project/acme" in listed.out
    assert revoked.code == 0
    assert again.code == 1
    assert again.err.startswith("deploylog: ")


async def test_an_invalid_grant_is_a_usage_error(cli: Cli) -> None:
    result = await cli("keys", "add", "ci", "--grant", "everything")

    assert result.code == 2
    assert "'everything' is not a grant" in result.err


async def test_every_setting_is_an_option_of_serve(cli: Cli) -> None:
    result = await cli("serve", "--help")

    assert [s.option for s in SETTINGS if s.option not in result.out] == []
    assert [s.env for s in SETTINGS if s.env not in result.out] == []


@pytest.mark.parametrize("command", [("serve",), ("keys", "add"), ("run",), ("ingest", "plan")])
async def test_help_cuts_no_name_on_a_narrow_terminal(cli: Cli, command: tuple[str, ...]) -> None:
    cli.environ["COLUMNS"] = "80"

    result = await cli(*command, "--help")

    assert max(map(len, result.out.splitlines())) <= 80
    assert "…" not in result.out
    assert "()" not in result.out
    assert "False" not in result.out


async def test_a_default_does_not_override_the_settings_file(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "deploylog.toml"
    config.write_text("port = 70000\n")

    result = await cli("serve", "--config", config)

    assert result.err == "deploylog: port must be between 0 and 65535\n"


async def test_an_invalid_setting_is_a_usage_error(cli: Cli) -> None:
    result = await cli("serve", "--port", "70000")

    assert result.code == 2
    assert result.err == "deploylog: port must be between 0 and 65535\n"


# Parts


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("aws-vault exec prod -- terraform apply", "aws-vault exec prod -- terraform apply -json"),
        ("env X=1 terraform apply", "env X=1 terraform apply -json"),
        ("/usr/bin/env X=1 tofu plan", "/usr/bin/env X=1 tofu plan -json"),
        (
            "op run -- terraform apply -auto-approve",
            "op run -- terraform apply -json -auto-approve",
        ),
        ("doppler run -- terraform destroy", "doppler run -- terraform destroy -json"),
        ("chamber exec x -- terraform apply", "chamber exec x -- terraform apply -json"),
        ("time terraform apply", "time terraform apply -json"),
        ("nice -n 10 terraform apply", "nice -n 10 terraform apply -json"),
        ("sudo -u deploy terraform apply", "sudo -u deploy terraform apply -json"),
        ("timeout 600 nice terraform apply", "timeout 600 nice terraform apply -json"),
        ("some-wrapper -- /opt/terraform apply", "some-wrapper -- /opt/terraform apply -json"),
        ("sudo terragrunt apply", "sudo terragrunt apply -json"),
        ("terragrunt run-all apply", "terragrunt run-all apply -json"),
        ("terragrunt run --all -- apply", "terragrunt run --all -- apply -json"),
        ("terragrunt --working-dir web plan", "terragrunt --working-dir web plan -json"),
        (
            "docker run hashicorp/terraform:1.9 plan",
            "docker run hashicorp/terraform:1.9 plan -json",
        ),
        ("op run -- terraform apply -json", "op run -- terraform apply -json"),
        ("op run -- terraform output", "op run -- terraform output"),
        ("some-wrapper terraform apply", "some-wrapper terraform apply"),
        ("make terraform apply", "make terraform apply"),
        ("sudo make terraform apply", "sudo make terraform apply"),
        ("terraform apply", "terraform apply -json"),
        ("/opt/bin/tofu destroy -auto-approve", "/opt/bin/tofu destroy -json -auto-approve"),
        ("terraform -chdir=a plan -out=b", "terraform -chdir=a plan -json -out=b"),
        ("terraform apply -json", "terraform apply -json"),
        ("terraform apply --json", "terraform apply --json"),
        ("terraform output", "terraform output"),
        ("terraform", "terraform"),
        ("./deploy.sh apply", "./deploy.sh apply"),
    ],
)
def test_json_is_added_where_the_tool_supports_it(command: str, changed: str) -> None:
    assert with_json(command.split()) == changed.split()


def test_the_operation_is_found_in_the_command() -> None:
    assert operation_of(["terraform", "-chdir=a", "destroy"]) == "destroy"
    assert operation_of(["aws-vault", "exec", "prod", "--", "tofu", "destroy"]) == "destroy"
    assert operation_of(["make", "apply"]) is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"@message":"a: Creating...","type":"apply_start"}', b"a: Creating..."),
        (b"plain text", b"plain text"),
        (b'{"type":"no message"}', b'{"type":"no message"}'),
        (b"\xff", b"\xff"),
        (
            b'{"@message":"Outputs: 2","type":"outputs","outputs":'
            b'{"a":{"sensitive":false,"value":[1]},"b":{"sensitive":true,"value":"x"}}}',
            b"Outputs: 2\n  a = [1]\n  b = (sensitive value)",
        ),
        (
            b'{"@message":"Outputs: 1","type":"outputs","outputs":{"a":{"sensitive":true}}}',
            b"Outputs: 1\n  a = (sensitive value)",
        ),
        (
            b'{"@message":"Outputs: 1","outputs":{"a":{"sensitive":true,"action":"create"}}}',
            b"Outputs: 1",
        ),
        (
            b'{"@message":"Error: x","diagnostic":{"detail":"Because.\\nYes.\\n"}}',
            b"Error: x\n  Because.\n  Yes.",
        ),
    ],
)
def test_a_line_of_json_is_shown_as_text(line: bytes, shown: bytes) -> None:
    assert render_line(line) == shown


def test_only_complete_lines_are_shown() -> None:
    lines = LineOutput(bytes.upper)

    assert [lines.show(b"a\nb"), lines.show(b"c"), lines.show(b"\n"), lines.show(b"d")] == [
        b"A\n", b"", b"BC\n", b""
    ]  # fmt: skip
    assert lines.last() == b"D\n"


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    splitter = LineSplitter()

    assert splitter.split(b"x" * (MAX_LINE + 1)) == [b"x" * (MAX_LINE + 1)]
    assert splitter.last() == []


def test_progress_counts_changes_and_lists_running_ones() -> None:
    progress = Progress()

    progress.observe([
        new_event("resource.create.started", resource="a"),
        new_event("resource.create.completed", resource="a"),
        new_event("resource.delete.started", resource="b"),
        new_event("resource.update.failed", resource="c"),
        new_event("resource.read.completed", resource="d"),
    ])  # fmt: skip

    assert progress.counts == {"added": 1, "changed": 0, "destroyed": 0, "failed": 1}
    assert progress.current == ["delete b"]


def test_progress_of_a_tool_without_resources_counts_its_events() -> None:
    progress = Progress()
    progress.observe([new_event("deployment.log"), new_event("deployment.log")])

    shown = render_progress(progress, 1, has_changes=False).renderables

    assert [str(line) for line in shown] == ["2 events  1 waiting to be sent"]


def test_the_spool_is_in_the_state_directory_of_the_platform() -> None:
    home = Path("/home/alice")

    assert spool_directory({}, home) == home / ".local/state/deploylog/spool"
    assert spool_directory({"XDG_STATE_HOME": "/s"}, home) == Path("/s/deploylog/spool")


def test_parameters_omit_options_that_are_not_given() -> None:
    given = params(resource_type=["a", "b"], limit=5, since=None)

    assert given == [("resourcetype", "a"), ("resourcetype", "b"), ("limit", "5")]


def test_control_characters_are_replaced() -> None:
    assert (
        plain("a\x1b[2Jb\x9bc\nd") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\nd"
    )


def test_brackets_in_a_message_are_no_markup():
    event = LoggedEvent(
        id="1",
        source="s",
        type="deployment.log",
        time=datetime(2026, 11, 21, tzinfo=UTC),
        message="formatting [/dev/sdb] [red]done [id=7]",
    )
    console = screen()

    with console.capture() as shown:
        event_table([(event, Place())]).print(console)

    assert "formatting [/dev/sdb] [red]done [id=7]" in shown.get()
