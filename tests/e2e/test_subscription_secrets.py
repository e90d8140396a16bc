"""Secrets of subscriptions: addresses, tokens and what signs are told to nobody but the target."""

import base64
from pathlib import Path
from typing import Any

from support.cli import Cli
from support.fake_slack import fake_slack
from support.receivers import receiving, reset, status
from support.servers import EVENTS, Spawned, line, spawned
from support.subscribers import LOOPBACK, SUBSCRIPTIONS, encryption_key_file, standing, subscribe
from support.waiting import until

PATH = "planted-path"
TOKEN = "xoxb-planted-token"
KEY = b"planted key of 24 bytes."
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"

FORMS = tuple(
    form.encode()
    for form in (PATH, "planted", SECRET, SECRET.removeprefix("whsec_"), KEY.decode(), KEY.hex())
)

#: Refused, but not without a word.
BAD = (
    {"name": "a", "kind": "webhook", "url": f"http://10.0.0.1/{PATH}"},
    {"name": "a", "kind": "webhook", "url": f"ftp://example.com/{PATH}"},
    {"name": "a", "kind": "webhook", "url": f"https://user:{PATH}@example.com/"},
    {"name": "a", "kind": "webhook", "url": "https://example.com/", "secret": f"whsec_{PATH}"},
    {"name": "a", "kind": "slack", "token": f"{TOKEN} {PATH}", "channel": "#a"},
    {"name": "a", "kind": "webhook", "url": "https://example.com/", "token": TOKEN},
)


async def made(service: Spawned, *urls: str) -> list[str]:
    """Webhooks to each address, and a Slack bot."""
    signed: dict[str, Any] = {"secret": SECRET, "scopes": ["project/acme"]}
    ids = [(await subscribe(service, url, **signed))["id"] for url in urls]
    bot: dict[str, Any] = {"kind": "slack", "token": TOKEN, "channel": "C1"}
    return [*ids, (await subscribe(service, scopes=["project/acme"], **bot))["id"]]


async def answers(service: Spawned, ids: list[str]) -> bytes:
    """Everything that the API says of the subscriptions."""
    said = []
    for id in ids:
        one = f"{SUBSCRIPTIONS}/{id}"
        said += [await service.get(one + rest) for rest in ("", "/attempts", "/dead-letters")]
        for what in ("/test", "/pause", "/resume"):
            said.append(await service.post(b"", "application/json", one + what))
        said.append(await service.ask("PATCH", one, json={"name": "other"}))
    for body in BAD:
        said.append(await service.post(body, "application/json", SUBSCRIPTIONS))
        assert said[-1].status == 400, said[-1].body
    rotated = f"{SUBSCRIPTIONS}/{ids[0]}/rotate-secret"
    said.append(await service.post({"secret": SECRET}, "application/json", rotated))
    said += [
        await service.get(path)
        for path in (SUBSCRIPTIONS, f"{EVENTS}?limit=1000", "/metrics", "/openapi.json")
    ]
    return b"".join(answer.body for answer in said)


async def printed(cli: Cli, id: str) -> str:
    """What the command line prints of it."""
    said = ""
    for command in (
        "subscriptions", "subscriptions --json", f"subscriptions show {id}",
        f"subscriptions show {id} --json", f"subscriptions test {id}", f"deliveries list {id}",
        f"deliveries list {id} --json", f"deliveries dead_lettered {id}",
    ):  # fmt: skip
        ended = await cli(*command.split())
        said += ended.out + ended.err
    return said


def kept_in(folder: Path) -> bytes:
    """Everything in the store's files."""
    return b"".join(file.read_bytes() for file in folder.glob("log.db*"))


async def test_targets_and_secrets_are_nowhere(store_url: str, tmp_path: Path):
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
        "log_level": "debug",
    }
    async with (
        receiving() as good,
        receiving(*[status(500, body=b"no")] * 9) as bad,
        receiving(*[reset] * 9) as torn,
        receiving(status(410)) as gone,
        fake_slack() as slack,
        spawned(store_url, slack_api_url=slack.api_url, **options) as service,
    ):
        urls = [f"{each.url}/{PATH}?key={PATH}" for each in (good, bad, torn, gone)]
        ids = await made(service, *urls, f"http://127.0.0.1:1/{PATH}", f"https://no.example/{PATH}")
        await service.append([line(message="hello")])
        await until(lambda: all(each.requests for each in (good, bad, torn, gone, slack)))
        await until(lambda: _are_tried(service, ids))
        said = await answers(service, ids)
        shown = await printed(Cli(tmp_path, service.url), ids[1])
        kept = kept_in(tmp_path)
        _, log = await service.end()
    kept += kept_in(tmp_path)

    assert PATH.encode() in good.requests[0][0]
    assert b"subscription.disabled" in said
    assert b"127.0.0.1" in said
    assert "500" in shown
    assert ids[0].encode() in kept
    for form in FORMS:
        assert form not in said
        assert form not in shown.encode()
        assert form not in kept
        assert form not in log.encode()


async def _are_tried(service: Spawned, ids: list[str]) -> bool:
    """Whether each has had its first attempt, and that is recorded."""
    for id in ids:
        attempts = await service.get(f"{SUBSCRIPTIONS}/{id}/attempts")
        if not attempts.json["attempts"]:
            return False
    return (await standing(service, ids[-1]))["state"] == "disabled"
