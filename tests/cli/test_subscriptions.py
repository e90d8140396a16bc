"""``deploylog subscriptions`` and ``deliveries``, against the real service."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from deploylog.auth.encryption import make_encryption_key, read_encryptor
from deploylog.cli.subscriptions import Kind
from deploylog.cli.terminal.formatting import attempt_table, screen
from deploylog.client import AttemptState
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.store import Backlog
from support.cli import NOWHERE, Cli, Result
from support.fake_server import FakeServer, fake_server
from support.receivers import receiving, status
from support.servers import Local, line, running
from support.waiting import until

URL = "https://hooks.example.com/very-secret"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "encryption.key"
    file.write_text(make_encryption_key())
    return file


@pytest.fixture
async def server(store: Store, key_file: Path) -> AsyncIterator[Local]:
    async with running(store, secret_key_file=str(key_file)) as server:
        yield server


@pytest.fixture
def cli(server: Local, tmp_path: Path) -> Cli:
    return Cli(tmp_path, server.url)


async def added(cli: Cli, *options: str) -> str:
    """The id of a new subscription."""
    result = await cli("subscriptions", "add", "ops", "--json", *(options or ("--url", URL)))
    assert result.code == 0, result.err
    return str(json.loads(result.out)["id"])


async def subscription_of(cli: Cli, id: str) -> dict[str, object]:
    result = await cli("subscriptions", "show", id, "--json")
    assert result.code == 0, result.err
    return dict(json.loads(result.out))


def test_the_command_line_has_every_kind():
    assert [kind.value for kind in Kind] == list(KINDS)


async def test_a_template_and_its_headers_are_read_from_files(cli: Cli, tmp_path: Path):
    template, headers = tmp_path / "body.json", tmp_path / "headers"
    template.write_text('{"type": {{ event.type | tojson }}}')
    headers.write_text("Authorization: Bearer a:b\n\nX-Team: ops\n")

    id = await added(
        cli, "--kind", "template", "--url", URL, "--template-file", str(template),
        "--headers-file", str(headers),
    )  # fmt: skip

    assert (await subscription_of(cli, id))["kind"] == "template"


async def test_a_mistake_in_a_template_is_shown_with_its_line(cli: Cli, tmp_path: Path):
    template = tmp_path / "body.json"
    template.write_text("{\n{{ evnt.type }}\n}")

    result = await cli(
        "subscriptions", "add", "ops", "--kind", "template", "--url", URL,
        "--template-file", str(template),
    )  # fmt: skip

    assert result.code == 1
    assert "template: line 2: there is no 'evnt'" in result.err


async def until_dead_lettered(store: Store, id: str, number: int) -> None:
    """Wait until ``number`` events are dead letters, and none is pending."""

    async def has_settled() -> bool:
        backlog = (await store.deliveries.backlogs(id)).get(id, Backlog())
        return (backlog.dead_lettered, backlog.pending) == (number, 0)

    await until(has_settled)


async def test_a_subscription_is_about_what_deployments_carry(cli: Cli, server: Local):
    await cli(
        "subscriptions", "add", "ops", "--url", URL,
        "--version", "1.4", "--commit", "4f2a", "--label", "team=web",
    )  # fmt: skip

    subscription, shown = (
        await subscription_of(cli, "ops"),
        await cli("subscriptions", "show", "ops"),
    )
    assert (subscription["version"], subscription["commit"]) == (["1.4"], ["4f2a"])
    assert subscription["label"] == {"team": "web"}
    assert "version=1.4 commit=4f2a label=team=web" in " ".join(shown.out.replace(",", " ").split())


async def test_a_subscription_is_added_and_its_secret_printed_once(cli: Cli, server: Local):
    result = await cli(
        "subscriptions", "add", "ops", "--url", URL, "--format", "cloudevents",
        "--order", "per_deployment",
        "--scope", "project/acme", "--scope", "state/acme", "--type", "deployment.*",
        "--resource-name", "web", "--from", "start",
    )  # fmt: skip

    id, secret = re.fullmatch(r"id: (\S+)\nsecret: (whsec_\S+)\n", result.out).groups()  # type: ignore[union-attr]
    subscription = await subscription_of(cli, id)
    listed = await cli("subscriptions")
    again = await cli("subscriptions", "show", id)
    assert (result.code, result.err) == (0, "")
    assert (subscription["order"], subscription["scopes"]) == (
        "per_deployment",
        ["project/acme", "state/acme"],
    )
    assert subscription["filter"] == {"type": ["deployment.*"], "resourcename": ["web"]}
    assert re.search(
        rf"{id} +ops +active +https://hooks.example.com/… +anonymous +1 +0 +0", listed.out
    )
    assert "kind          webhook\ntarget        https://hooks.example.com/…\n" in again.out
    assert "filter        type=deployment.* resourcename=web\n" in again.out
    assert "state         active\n" in again.out
    for output in (listed.out, again.out, json.dumps(subscription)):
        assert secret not in output
        assert "very-secret" not in output


async def test_secrets_are_read_from_files(cli: Cli, store: Store, key_file: Path):
    folder = key_file.parent
    (folder / "token").write_text("xoxb-1\n")
    (folder / "own").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")

    bot = await cli(
        "subscriptions", "add", "bot", "--kind", "slack", "--token-file", "token", "--channel",
        "#deploys", "--icon", ":rocket:", "--username", "Log",
    )  # fmt: skip
    given = await cli(
        "subscriptions", "add", "own", "--url-file", "-", "--secret-file", "own",
        stdin=f"{URL}\n".encode(),
    )  # fmt: skip

    encryptor = read_encryptor(str(key_file))
    assert encryptor is not None
    [first, second] = await store.subscriptions.list()
    assert (bot.code, given.code) == (0, 0), (bot.err, given.err)
    assert bot.out == f"id: {first.id}\n"
    assert given.out == f"id: {second.id}\n"
    endpoint = json.loads(encryptor.decrypt(first.target))
    assert {name: value for name, value in endpoint.items() if value} == {
        "token": "xoxb-1", "channel": "#deploys", "username": "Log", "icon": ":rocket:",
    }  # fmt: skip
    assert json.loads(encryptor.decrypt(second.target))["url"] == URL
    assert encryptor.decrypt(second.secrets[0].sealed).startswith("whsec_MfKQ")
    assert first.shown == "slack #deploys"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "specify --url, --url-file or --token-file"),
        (("--url", URL, "--url-file", "-"), "specify either --url or --url-file"),
        (("--url-file", "missing"), "cannot read missing: No such file or directory"),
        (("--url-file", "-"), "standard input is empty"),
        (("--url", URL, "--kind", "sms"), "'sms' is not one of 'webhook', 'slack', "),
        (("--url", URL, "--order", "x"), "'x' is not one of 'strict', 'per_deployment'."),
    ],
)
async def test_an_invalid_option_is_a_usage_error(
    cli: Cli, store: Store, options: tuple[str, ...], message: str
):
    result = await cli("subscriptions", "add", "ops", *options)

    assert result.code == 2
    assert message in result.err
    assert await store.subscriptions.list() == []


async def test_a_refusal_of_the_server_is_one_line(cli: Cli):
    result = await cli("subscriptions", "add", "ops", "--url", "http://10.0.0.1/very-secret")
    missing = await cli("subscriptions", "show", "x")

    assert result.code == 1
    assert result.err == (
        "deploylog: the address is not public, and delivery_allowed_networks does not include it\n"
    )
    assert missing.code == 1
    assert missing.err == "deploylog: there is no subscription 'x'\n"


@pytest.mark.parametrize(
    "command",
    [
        ("subscriptions", "show"),
        ("subscriptions", "test"),
        ("deliveries", "list"),
        ("wait",),
    ],
)
async def test_an_empty_id_is_a_usage_error(cli: Cli, command: tuple[str, ...]):
    result = await cli(*command, "")

    assert result.code == 2
    assert "must not be empty" in result.err


async def test_a_subscription_is_changed_paused_resumed_and_deleted(cli: Cli, server: Local):
    id = await added(cli, "--url", URL, "--type", "a", "--scope", "project/acme")

    changed = await cli(
        "subscriptions", "change", id, "--name", "all", "--url", "https://other.example/x",
        "--type", "b", "--order", "per_deployment",
    )  # fmt: skip
    after = await subscription_of(cli, id)
    paused = await cli("subscriptions", "pause", id)
    waiting = await cli("subscriptions", "show", id)
    resumed = await cli("subscriptions", "resume", id)
    active = await subscription_of(cli, id)
    deleted = await cli("subscriptions", "delete", id)
    left = await cli("subscriptions", "list", "--json")

    assert [e.code for e in (changed, paused, resumed, deleted, left)] == [0] * 5
    assert "name          all\n" in changed.out
    assert (after["target"], after["order"]) == ("https://other.example/…", "per_deployment")
    assert (after["filter"], after["scopes"]) == ({"type": ["b"]}, ["project/acme"])
    assert "state         paused: paused by anonymous\n" in waiting.out
    assert active["state"] == "active"
    assert left.out == ""


async def test_a_secret_is_rotated_and_printed_once(cli: Cli):
    id = await added(cli)

    drawn = await cli("subscriptions", "rotate-secret", id, "--overlap", "60")
    alone = await cli("subscriptions", "rotate-secret", id, "--overlap", "0", "--json")
    shown = await cli("subscriptions", "show", id)

    assert re.fullmatch(rf"id: {id}\nsecret: whsec_\S+\n", drawn.out)
    assert json.loads(alone.out)["secret"].startswith("whsec_")
    assert len(json.loads(alone.out)["secrets"]) == 1
    assert re.search(r"signed +since 2\S+ \S+Z\n", shown.out)
    assert "whsec_" not in shown.out


async def test_deliveries_are_listed_and_events_redelivered(
    store: Store, key_file: Path, tmp_path: Path
):
    networks, refused = "127.0.0.0/8", status(400, body=b"no_text")
    async with (
        receiving(refused, refused) as receiver,
        running(store, secret_key_file=str(key_file), delivery_allowed_networks=networks) as server,
    ):
        cli = Cli(tmp_path, server.url)
        id = await added(cli, "--kind", "slack", "--url", receiver.url, "--type", "resource.*")
        [event, other] = await server.append([line(), line()])
        await until_dead_lettered(store, id, 2)

        table = await cli("deliveries", "list", id, "--limit", "1")
        lines = await cli("deliveries", "list", id, "--before", "2", "--json")
        dead_lettered = await cli("deliveries", "dead-letters", id)
        later = await cli("deliveries", "dead-letters", id, "--after", "2", "--json")
        one = await cli("deliveries", "redeliver", id, "--event", event)
        await until_dead_lettered(store, id, 1)
        all_ = await cli("deliveries", "redeliver", id, "--since", "-1h")
        await until_dead_lettered(store, id, 0)
        left = await cli("deliveries", "dead-letters", id, "--json")

    [_, row] = table.out.splitlines()
    assert re.search(
        rf"Z +{other} +dead_lettered +400 +\d+ +Slack responded with 400: no_text", row
    )
    assert [json.loads(text)["event"] for text in lines.out.splitlines()] == [event]
    assert re.search(rf"{event} +2 +1 .*Z +Slack responded with 400: no_text", dead_lettered.out)
    assert [json.loads(text)["position"] for text in later.out.splitlines()] == ["3"]
    assert (one.out, all_.out, left.out) == ("redelivering 1\n", "redelivering 1\n", "")


def test_a_response_of_an_endpoint_cannot_control_the_terminal():
    attempt = AttemptState(
        event="e", position="1", started=datetime.now(UTC), latency_ms=1, result="failed",
        error="no\x1b[2J",
    )  # fmt: skip

    with (console := screen()).capture() as shown:
        attempt_table([attempt]).print(console)

    assert "no\ufffd[2J" in shown.get()


@pytest.mark.parametrize(
    ("attempt", "result"),
    [
        ({"result": "delivered", "status": 204}, Result(0, "delivered: 204 after 12 ms\n", "")),
        (
            {"result": "failed", "status": 500},
            Result(1, "", "deploylog: not delivered: the endpoint returned 500\n"),
        ),
        (
            {"result": "failed", "error": "connection refused"},
            Result(1, "", "deploylog: not delivered: connection refused\n"),
        ),
    ],
)
async def test_a_test_event_reports_its_result(
    tmp_path: Path, attempt: dict[str, object], result: Result
):
    async def tested(server: FakeServer, request: web.Request) -> web.Response:
        assert request.path == "/log/v1/subscriptions/s1/test"
        fixed = {"event": "e", "position": "0", "started": "2026-11-26T00:00:00Z"}
        return web.json_response(fixed | {"latency_ms": 12} | attempt)

    async with fake_server() as server:
        server.script.append(tested)

        assert await Cli(tmp_path, server.url)("subscriptions", "test", "s1") == result


@pytest.mark.parametrize("options", [(), ("--event", "x", "--since", "-1h")])
async def test_redelivery_needs_either_an_event_or_a_time(cli: Cli, options: tuple[str, ...]):
    result = await cli("deliveries", "redeliver", "x", *options)

    assert result.code == 2
    assert "specify either --event or --since" in result.err


@pytest.mark.parametrize(
    "command",
    [
        ("subscriptions",),
        ("subscriptions", "add", "ops", "--url", URL),
        ("subscriptions", "test", "x"),
        ("deliveries", "list", "x"),
    ],
)
async def test_without_a_response_the_exit_code_is_75(tmp_path: Path, command: tuple[str, ...]):
    result = await Cli(tmp_path, NOWHERE)(*command)

    assert result.code == 75
