"""``listen``: events at a server on this machine, signed, also after a restart of the service."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from deploylog.client.forwarding import open_forwarder, parse_target
from deploylog.errors import OperatorError
from support.cli import Cli
from support.receivers import receiving, reset, status
from support.servers import line, spawned
from support.subscribers import headers_of
from support.waiting import until


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:9000", "http://localhost:9000"),
        ("localhost:9000/hook?a=b", "http://localhost:9000/hook?a=b"),
        ("9000", "http://localhost:9000"),
        ("https://dev.example/x", "https://dev.example/x"),
        ("[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_address_may_be_short(text: str, url: str):
    assert parse_target(text) == url


@pytest.mark.parametrize("text", ["", "ftp://x", "localhost:x", "localhost:0", "http://", "[::1"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(OperatorError, match="is not an address"):
        parse_target(text)


def unsigned(id: str, body: bytes) -> dict[str, str]:
    return {"webhook-id": id}


async def test_each_answer_is_returned_and_no_error_ends_it():
    async with (
        receiving(status(204), status(500), status(302), reset) as receiver,
        open_forwarder(receiver.url, unsigned) as forwarder,
    ):
        answers = [await forwarder.forward("e1", b"{}") for _ in range(4)]
    async with open_forwarder(receiver.url, unsigned) as forwarder:
        answers.append(await forwarder.forward("e1", b"{}"))

    assert [answer.status for answer in answers] == [204, 500, 302, None, None]
    assert [answer.error is None for answer in answers] == [True, True, True, False, False]
    assert answers[-1].error == "connection refused"


@pytest.mark.process
async def test_events_are_forwarded_signed_across_a_restart_until_ctrl_c(
    store_url: str, tmp_path: Path
):
    async with receiving() as receiver:
        async with spawned(store_url) as service:
            port = int(service.url.rpartition(":")[2])
            cli = Cli(tmp_path, service.url)
            process = await cli.start(
                "listen", "--forward-to", receiver.url, "--from", "start", "--type", "resource.*",
                "--json",
            )  # fmt: skip
            said = (await process.stderr.readline()).decode()
            await service.append([line()])
            await until(lambda: len(receiver.requests) == 1)
        async with spawned(store_url, port=port) as service:
            await service.append([line(), line(type="build.finished"), line()])
            await until(lambda: len(receiver.requests) == 3)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            shown, _ = await process.communicate()

    secret = re.search(r"whsec_\S+", said)
    assert secret is not None
    ids = [verified(secret[0], request) for request in receiver.requests]
    lines = [json.loads(text) for text in shown.splitlines()]
    assert [each["event"] for each in lines] == ids
    assert [each["status"] for each in lines] == [200, 200, 200]
    assert process.returncode == 0


def verified(secret: str, request: tuple[bytes, bytes]) -> str:
    """The id of an event; fails unless its request is signed."""
    head, body = request
    headers = headers_of(head)
    event = Webhook(secret).verify(body, headers)
    assert headers["content-type"] == "application/cloudevents+json"
    assert event["id"] == headers["webhook-id"]
    return str(event["id"])
