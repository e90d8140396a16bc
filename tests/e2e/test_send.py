"""``deploylog send``: a script of any kind reports its deployment and its events."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploylog.store.contract import Store
from support.cli import NOWHERE, Cli
from support.servers import DEPLOYMENTS, EVENTS, Local, running


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    async with running(store) as service:
        yield service


@pytest.fixture
def cli(service: Local, tmp_path: Path) -> Cli:
    return Cli(tmp_path, service.url)


async def newest(service: Local) -> dict[str, Any]:
    event: dict[str, Any] = (await service.get(f"{EVENTS}?limit=1")).json["events"][0]
    return event


async def test_a_script_reports_a_deployment_from_start_to_finish(cli: Cli, service: Local) -> None:
    started = await cli(
        "send", "start", "--environment", "prod", "--tool", "rsync", "--operation", "sync",
        "--version", "1.4.2", "--label", "team=shop", "--actor", "ann",
    )  # fmt: skip
    id = started.out.strip()
    said = await cli("send", "event", "deployment.log", "--deployment", id[:8], "--message", "warm")
    log = await newest(service)
    ended = await cli(
        "send", "finish", id[:8], "--status", "failed", "--message", "health check failed",
        "--version", "9", "--url", "https://ci.example/1",
    )  # fmt: skip
    again = await cli("send", "finish", id)

    found = (await service.get(f"{DEPLOYMENTS}/{id}")).json
    assert (started.code, said.code, ended.code, again.code) == (0, 0, 0, 0)
    assert (log["id"], log["message"], log["actor"]) == (said.out.strip(), "warm", "ann")
    assert (found["tool"], found["operation"], found["labels"]) == (
        "rsync",
        "sync",
        {"team": "shop"},
    )
    assert (found["status"], found["message"]) == ("failed", "health check failed")
    assert (found["version"], found["url"]) == ("1.4.2", "https://ci.example/1")


async def test_a_retry_records_nothing_twice(cli: Cli, service: Local) -> None:
    id = str(uuid4())

    opened = [await cli("send", "start", "--id", id) for _ in range(2)]
    sent = [
        await cli("send", "event", "note", "--deployment", id, "--id", "1", "--data", '{"a": 1}')
        for _ in range(2)
    ]

    assert {each.out for each in opened} == {f"{id}\n"}
    assert len({each.out for each in sent}) == 1
    assert (await newest(service))["data"] == {"a": 1}


async def test_an_event_outside_a_deployment_has_a_scope(cli: Cli, service: Local) -> None:
    await cli("send", "event", "freeze.started", "--scope", "project/acme", "--subject", "prod")

    event = await newest(service)
    assert (event["scopes"], event["subject"], event["source"]) == (
        "project/acme",
        "prod",
        "deploylog-client",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("event", "note"), 2, "name a deployment or a scope"),
        (("event", "note", "--scope", "a", "--data", "{"), 2, "--data is not JSON"),
        (("event", "note", "--deployment", "00000000"), 1, "there is no deployment '00000000'"),
        (("finish", "00000000"), 1, "there is no deployment '00000000'"),
        (("start", "--label", "x"), 2, "write NAME=VALUE"),
        (("start", "--id", "x"), 1, "'x' is not a UUID"),
    ],
)
async def test_what_is_wrong_is_said(
    cli: Cli, service: Local, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = await cli("send", *arguments)

    assert result.code == code
    assert said in result.err


async def test_a_server_that_is_down_is_retried_for_as_long_as_is_wanted(tmp_path: Path) -> None:
    result = await Cli(tmp_path, NOWHERE)("send", "start", "--retry-timeout", "1")

    assert result.code == 75
    assert "retrying" in result.err
