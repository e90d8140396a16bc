"""``deploylog run`` of any command, recorded into a real service while it runs."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.cli import Cli
from support.forked import Forked
from support.servers import DEPLOYMENTS, EVENTS, Local, running
from support.waiting import until


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    async with running(store) as service:
        yield service


@pytest.fixture
def cli(service: Local, tmp_path: Path) -> Cli:
    return Cli(tmp_path, service.url)


async def only(service: Local) -> dict[str, Any]:
    """The one deployment that there is, once it is there."""

    async def found() -> Any:
        return (await service.get(DEPLOYMENTS)).json["deployments"]

    [deployment] = await until(found)
    return dict(deployment)


async def messages(service: Local, type: str = "deployment.log") -> list[str]:
    page = await service.get(EVENTS, params={"type": type, "order": "oldest", "limit": 1000})
    return [event["message"] for event in page.json["events"]]


async def test_a_command_is_seen_while_it_runs_and_ends_with_its_code(
    cli: Cli, service: Local, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    script = "echo building; read line < gate; echo broken >&2; exit 3"
    process = await cli.start("run", "--environment", "prod", "--", "sh", "-c", script)

    running = await only(service)
    (tmp_path / "gate").write_text("\n")
    out, err = await process.communicate()
    ended = await only(service)

    assert (process.returncode, out) == (3, b"building\n")
    assert b"broken\n" in err
    assert (running["status"], running["tool"], running["ended"]) == ("running", "sh", None)
    assert (ended["status"], ended["started"]) == ("failed", running["started"])
    assert ended["ended"] > ended["started"]
    assert ended["message"] == "sh ended with exit code 3: broken"
    assert sorted(await messages(service)) == ["broken", "building"]


async def test_a_command_that_is_terminated_ends(cli: Cli, service: Local) -> None:
    # The shell dies, and what it runs holds its pipes open.
    script = "echo ready; sleep 600; echo never"
    process = await cli.start("run", "--", "sh", "-c", script)
    await ready(process)

    process.send_signal(signal.SIGTERM)
    await process.communicate()

    ended = await only(service)
    assert process.returncode == 143
    assert ended["status"] == "failed"
    assert ended["message"] == "sh was ended by SIGTERM (exit code 143)"


async def ready(process: Forked) -> None:
    assert await process.stdout.readline() == b"ready\n"


async def test_what_is_given_wins_over_what_ci_says(cli: Cli, service: Local) -> None:
    cli.environ |= {
        "GITHUB_ACTIONS": "true", "GITHUB_SHA": "4be3708830794b57b2c7cad331fc094b00000000",
        "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/web",
        "GITHUB_RUN_ID": "17", "GITHUB_ACTOR": "octocat", "GITHUB_REF": "refs/tags/v1",
    }  # fmt: skip

    result = await cli(
        "run", "--tool", "helm", "--operation", "upgrade", "--version", "1.4.2",
        "--label", "team=shop", "--label", "empty=", "--approver", "bob", "--approver", "carol",
        "--production", "--", "true",
    )  # fmt: skip

    found = await only(service)
    assert result.code == 0
    assert (found["tool"], found["operation"], found["version"]) == ("helm", "upgrade", "1.4.2")
    assert (found["labels"], found["approvers"]) == (
        {"team": "shop", "empty": ""},
        ["bob", "carol"],
    )
    assert (found["production"], found["actor"]) == (True, "octocat")
    assert found["url"] == "https://github.com/acme/web/actions/runs/17"
    assert found["commits"] == [
        {
            "sha": "4be3708830794b57b2c7cad331fc094b00000000",
            "repository": "https://github.com/acme/web",
        }
    ]


async def test_nothing_is_detected_without_being_wanted(cli: Cli, service: Local) -> None:
    cli.environ |= {"CI": "true", "GIT_COMMIT": "4be3708", "CI_ACTOR": "octocat"}

    await cli("run", "--no-detect", "--actor", "ann", "--", "true")

    found = await only(service)
    assert (found["commits"], found["actor"]) == ([], "ann")


async def test_secrets_are_not_recorded(cli: Cli, service: Local) -> None:
    cli.environ["SLACK_TOKEN"] = "correct-horse"
    script = "echo password=hunter2; echo correct-horse; echo order 66 shipped"

    await cli("run", "--redact", r"order (\d+)", "--", "sh", "-c", script)

    assert await messages(service) == [
        "password=(sensitive value)", "(sensitive value)", "order (sensitive value) shipped",
    ]  # fmt: skip


async def test_output_is_not_recorded_without_being_wanted(cli: Cli, service: Local) -> None:
    result = await cli("run", "--no-output", "--", "sh", "-c", "echo out; echo err >&2; exit 1")

    assert (result.code, result.out) == (1, "out\n")
    assert await messages(service) == []
    assert (await only(service))["message"] == "sh ended with exit code 1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label", "team"), "--label team: write NAME=VALUE"),
        (("--url", "ftp://x"), "url must be a URL that starts with https:// or http://"),
        (("--commit", "main"), "commits.0.sha must be 7 to 64 lower-case hexadecimal digits"),
    ],
)
async def test_an_option_that_is_not_valid_is_refused_before_the_command_runs(
    cli: Cli, service: Local, options: tuple[str, ...], said: str
) -> None:
    result = await cli("run", *options, "--", "echo", "ran")

    assert (result.code, result.out, result.err) == (2, "", f"deploylog: {said}\n")
