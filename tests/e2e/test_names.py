"""The command line finds deployments and events by the names that people use."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.cli import Cli, line_with
from support.servers import EVENTS, Local, running


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    async with running(store) as service:
        yield service


@pytest.fixture
def cli(service: Local, tmp_path: Path) -> Cli:
    return Cli(tmp_path, service.url)


@pytest.fixture
async def web(service: Local) -> Any:
    """A completed deployment of web to prod."""
    deployment = await service.open(
        environment="prod", version="1.4.2", actor="alice", tool="helm", operation="upgrade",
        commits=[{"sha": "4be3708830794b57"}],
    )  # fmt: skip
    end = {"type": "deployment.completed", "source": "helm", "message": "done"}
    await service.append([end], f"{EVENTS}?deployment={deployment['id']}")
    return deployment


async def test_what_is_deployed_is_shown_by_name(cli: Cli, service: Local, web: Any) -> None:
    await service.open("api", environment="prod")

    current = await cli("deployments", "--current")
    running = await cli("deployments", "--status", "running", "--since", "2h", "--json")

    header, row = current.out.splitlines()
    assert header.split() == [
        "STACK", "ENVIRONMENT", "VERSION", "COMMIT", "ACTOR", "SINCE", "OPERATION", "ID", "PROJECT",
    ]  # fmt: skip
    words = row.split()
    assert words[:5] == ["web", "prod", "1.4.2", "4be37088", "alice"]
    assert words[-3:] == ["upgrade", web["id"][:8], "acme"]
    assert [json.loads(line)["stack"] for line in running.out.splitlines()] == ["api"]


async def test_a_narrow_terminal_keeps_what_matters(cli: Cli, web: Any) -> None:
    listed = await cli("deployments", "--version", "1.4.2")

    assert listed.out.splitlines()[1].split()[:6] == [
        web["id"][:8], "web", "prod", "1.4.2", "4be37088", "completed",
    ]  # fmt: skip


async def test_events_show_the_names_of_their_stack(cli: Cli, service: Local, web: Any) -> None:
    plain = await service.open("db")

    listed = await cli("events", "--project", "acme", "--type", "deployment.started")

    db, first = listed.out.splitlines()[1:]
    assert "  db  " in db
    assert db.split()[-1] == plain["id"][:8]
    assert first.split()[3:6] == ["web", "prod", "1.4.2"]


async def test_a_tail_names_stack_environment_and_deployment(
    cli: Cli, service: Local, web: Any
) -> None:
    process = await cli.start("tail", "--stack", "web", "--from", "start")
    try:
        line = await line_with(process.stdout, "deployment.completed")
    finally:
        process.terminate()
        await process.communicate()

    assert line.endswith(f"deployment.completed  web 1.4.2 prod {web['id'][:8]}  done\n")


async def test_a_deployment_is_waited_for_by_names_or_a_short_id(cli: Cli, web: Any) -> None:
    by_name = await cli("wait", "--stack", "web", "--environment", "prod", "--commit", "4be3708")
    by_id = await cli("wait", web["id"][:8])
    by_nothing = await cli("wait")
    by_other = await cli("wait", "--version", "9")
    unknown = await cli("wait", "00000000")

    assert (by_name.code, by_id.code) == (0, 0)
    assert by_name.out == by_id.out
    assert (by_nothing.code, by_other.code, unknown.code) == (2, 2, 2)
    assert by_other.err == "deploylog: no deployment matches\n"
    assert unknown.err == "deploylog: there is no deployment '00000000'\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("deployments", "--stack", "wbe"), 1, "there is no stack 'wbe': did you mean 'web'?"),
        (
            ("events", "--environment", "prd"),
            1,
            "no deployment has the environment 'prd': did you mean 'prod'?",
        ),
        (
            ("deployments", "--project", "amce"),
            0,
            "there is no project 'amce': did you mean 'acme'?",
        ),
        (
            ("events", "--count", "--project", "amce"),
            0,
            "there is no project 'amce': did you mean 'acme'?",
        ),
        (
            ("events", "--top", "type", "--project", "amce"),
            0,
            "there is no project 'amce': did you mean 'acme'?",
        ),
        (
            ("wait", "--project", "amce"),
            2,
            "there is no project 'amce': did you mean 'acme'?",
        ),
        (
            ("events", "--type", "deployment.complete"),
            0,
            "Deploylog knows no event type 'deployment.complete': did you mean"
            " 'deployment.completed'?",
        ),
    ],
)
async def test_a_misspelt_name_is_said_so(
    cli: Cli, web: Any, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = await cli(*arguments)

    assert result.code == code
    assert said in result.err


async def test_dora_shows_what_is_known_and_why_the_rest_is_not(cli: Cli, web: Any) -> None:
    shown = await cli("dora", "--project", "acme", "--environment", "prod", "--window", "12h")
    plain = await cli("dora", "--json")

    header, lead, often, *_ = shown.out.splitlines()
    assert header.split()[:3] == ["METRIC", "VALUE", "KNOWN"]
    assert lead.split()[3] == "unknown"
    reason = "change lead time: 1 of 1 deployments name no commit with its time"
    assert reason in shown.out.splitlines()
    assert "2 a day" in often
    assert web["id"][:8] in often
    assert "1 deployments counted" in shown.err
    assert json.loads(plain.out)["change_fail_rate"]["rate"] is None
