"""Slack end to end: real runs, a real service that is restarted, and a Slack with limits."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.cli import APPLY, FAILING, Cli
from support.fake_slack import CHANNEL, TOKEN, FakeSlack, fake_slack
from support.forked import Forked
from support.servers import DEPLOYMENTS, Running, line, spawned
from support.subscribers import LOOPBACK, caught_up, encryption_key_file, standing, subscribe
from support.waiting import PATIENCE, until

BOT: dict[str, Any] = {
    "kind": "slack", "token": TOKEN, "channel": CHANNEL, "scopes": ["project/acme"],
}  # fmt: skip

#: Seconds for a minute of messages, at one per second.
LONG = 60


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack(is_strict=True) as slack:
        yield slack


@pytest.fixture
def options(tmp_path: Path, slack: FakeSlack) -> dict[str, Any]:
    return {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
        "slack_api_url": slack.api_url,
    }


def about(slack: FakeSlack, stack: str) -> list[dict[str, Any]]:
    """The messages in the channel about a deployment of the stack."""
    return [each for each in slack.roots if each["text"].startswith(f"Deployment of {stack}:")]


def calls(slack: FakeSlack, method: str) -> list[dict[str, Any]]:
    return [payload for name, payload in slack.requests if name == method]


@pytest.mark.parametrize("order", ["per_deployment", "strict"])
async def test_each_run_has_one_message_with_its_failures_in_the_thread(
    store_url: str, tmp_path: Path, slack: FakeSlack, options: dict[str, Any], order: str
):
    async with spawned(store_url, **options) as service:
        bot = await subscribe(service, order=order, **BOT)
        cli = Cli(tmp_path, service.url)
        good = await cli("ingest", "terraform", APPLY, "--quiet", "--stack", "good")
        bad = await cli("ingest", "terraform", FAILING, "--quiet", "--stack", "bad")
        await caught_up(service, bot["id"], seconds=LONG)
        failed = await deployment(service, "bad")

    assert (good.code, bad.code) == (0, 0)
    [shown_good], [shown_bad] = about(slack, "good"), about(slack, "bad")
    assert re.search(r"good: completed after .*, 9 added", shown_good["text"])
    assert re.search(
        rf"bad: failed after .*, {failed['counts']['failed']} failed", shown_bad["text"]
    )
    others = [root["text"] for root in slack.roots if "Deployment of" not in root["text"]]
    assert others == [
        "stack.created good: Stack good created",
        "stack.created bad: Stack bad created",
    ]
    [reply] = slack.replies
    assert slack.messages[reply["thread_ts"]] is shown_bad
    assert reply["text"].startswith("resource.create.failed terraform_data.failing[0]:")


async def test_a_restarted_service_edits_the_same_message(
    store_url: str, tmp_path: Path, slack: FakeSlack, options: dict[str, Any]
):
    lines = FAILING.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2

    async with spawned(store_url, **options) as service:
        port = service.port
        bot = await subscribe(service, **BOT)
        run = await Cli(tmp_path, service.url).start("ingest", "terraform", "--quiet")
        await feed(run, lines[:half])
        await until(lambda: about(slack, "web"))
        edits = len(calls(slack, "chat.update"))
        code, _ = await service.end()
    async with spawned(store_url, port=port, **options) as service:
        await feed(run, lines[half:])
        async with asyncio.timeout(PATIENCE):
            run.stdin.close()
            _, errors = await run.communicate()
        await caught_up(service, bot["id"], seconds=LONG)

    assert (code, run.returncode) == (0, 0), errors
    [message] = about(slack, "web")
    assert message["text"].startswith("Deployment of web: failed after")
    assert len(calls(slack, "chat.update")) > edits
    assert all(slack.messages[edit["ts"]] is message for edit in calls(slack, "chat.update"))
    assert [reply["thread_ts"] for reply in slack.replies] == [calls(slack, "chat.update")[0]["ts"]]


async def test_a_storm_becomes_a_few_messages_and_nothing_is_lost(
    store_url: str, slack: FakeSlack, options: dict[str, Any]
):
    async with spawned(store_url, **options) as service:
        made = await subscribe(
            service, slack.webhook_url, kind="slack", scopes=["project/acme"], name="storm",
            filter={"type": ["resource.*"]},
        )  # fmt: skip
        for _ in range(30):
            await service.append([line(subject=f"s{n}", message="m") for n in range(10)])
        await caught_up(service, made["id"], seconds=LONG)
        attempts = await service.get(f"/log/v1/subscriptions/{made['id']}/attempts?limit=1000")
        stands = await standing(service, made["id"])

    results = [attempt["result"] for attempt in attempts.json["attempts"]]
    limited = [each for each in attempts.json["attempts"] if each["status"] == 429]
    assert sum(map(events_in, slack.messages.values())) == 300
    assert 2 <= len(slack.messages) <= 8
    assert results.count("delivered") == 300
    assert stands["dead_lettered"] == 0
    # The service honored each Retry-After: no message was refused more than once.
    assert limited
    assert len(slack.requests) < 2 * len(slack.messages)


async def feed(run: Forked, lines: list[bytes]) -> None:
    run.stdin.writelines(lines)
    await run.stdin.drain()


async def deployment(service: Running, stack: str) -> Any:
    """The deployment of the stack."""
    page = await service.get(f"{DEPLOYMENTS}?stack={stack}&project=acme")
    [found] = page.json["deployments"]
    return found


def events_in(message: dict[str, Any]) -> int:
    """How many events a message has."""
    digest = re.match(r"(\d+) events, ", message["text"])
    return int(digest[1]) if digest else 1
