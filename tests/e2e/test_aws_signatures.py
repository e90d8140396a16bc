"""AWS's own signer for Python signs what is sent to a running service."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.encryption import make_encryption_key
from deploylog.auth.request_signing import WINDOW
from deploylog.store.contract import Store
from support.factories import now
from support.paths import ROOT
from support.servers import EVENTS, Answer, Local, line, running
from support.signing import add_key_pair, send, signed_by_botocore
from support.waiting import PATIENCE

Pair = tuple[str, str]


@pytest.fixture
def sealing_key() -> str:
    return make_encryption_key()


@pytest.fixture
async def pair(store: Store, sealing_key: str) -> Pair:
    return await add_key_pair(store, sealing_key, "aws")


@pytest.fixture
async def server(
    store: Store, sealing_key: str, pair: Pair, tmp_path: Path
) -> AsyncIterator[Local]:
    """One that knows the pair."""
    file = tmp_path / "sealing"
    file.write_text(sealing_key)
    options: dict[str, Any] = {"secret_key_file": str(file), "base_paths": "/prod"}
    async with running(store, **options) as server:
        yield server


async def ask(
    server: Local, pair: Pair, method: str, target: str, body: bytes = b"", **how: Any
) -> Answer:
    """The answer to a request that is signed and sent."""
    url = server.url + target
    headers = signed_by_botocore(pair, method, url, body=body, **how)
    return await asyncio.to_thread(send, method, url, headers, body)


@pytest.mark.parametrize("service", ["execute-api", "cloudformation"])
@pytest.mark.parametrize("region", ["eu-west-1", "0"])
@pytest.mark.parametrize("token", [None, "a session's token"])
async def test_a_signed_request_is_let_in(
    server: Local, pair: Pair, service: str, region: str, token: str | None
):
    answer = await ask(server, pair, "GET", EVENTS, service=service, region=region, token=token)

    assert answer.status == 200


@pytest.mark.parametrize(
    "target",
    [
        f"{EVENTS}?type=resource.*&source=a+b&source=a%20b&scope=project/acme",
        f"{EVENTS}?type=&limit=5&subject=%E6%B5%8B~.-_%2F",
        f"/prod{EVENTS}?limit=1",
    ],
)
async def test_a_query_is_signed_however_it_is_spelt(server: Local, pair: Pair, target: str):
    assert (await ask(server, pair, "GET", target)).status == 200


async def test_a_signed_body_is_recorded_and_a_changed_one_is_not(server: Local, pair: Pair):
    url, body = server.url + EVENTS, json.dumps(line()).encode()
    headers = signed_by_botocore(
        pair, "POST", url, body=body, headers={"Content-Type": "application/x-ndjson"}
    )

    recorded = await asyncio.to_thread(send, "POST", url, headers, body)
    changed = await asyncio.to_thread(send, "POST", url, headers, body.replace(b"acme", b"evil"))

    assert recorded.status == 201
    assert changed.status == 401


async def test_what_is_wrong_is_not_said(
    server: Local, store: Store, sealing_key: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    id, secret = pair
    huawei = await add_key_pair(store, sealing_key, "huawei")
    answers = [
        await ask(server, (id, secret[::-1]), "GET", EVENTS),
        await ask(server, ("AKIANOBODY", secret), "GET", EVENTS),
        await ask(server, huawei, "GET", EVENTS),
        await ask(server, pair, "GET", EVENTS, service="s3"),
    ]
    for skew in (-WINDOW - 60, WINDOW + 60):
        skewed = datetime.now(UTC) + timedelta(seconds=skew)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda skewed=skewed: skewed)
        answers.append(await ask(server, pair, "GET", EVENTS))

    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


async def test_a_stream_ends_when_its_key_is_revoked(server: Local, store: Store, pair: Pair):
    headers = signed_by_botocore(pair, "GET", f"{server.url}{EVENTS}/stream")

    async with server.stream(headers=headers) as stream:
        await store.credentials.revoke(pair[0], now())
        while await stream.block() is not None:
            pass

    assert (await ask(server, pair, "GET", EVENTS)).status == 401


async def test_an_idempotent_request_may_be_tried_again_with_the_same_signature(
    server: Local, pair: Pair
):
    url, body = server.url + EVENTS, json.dumps(line()).encode()
    headers = signed_by_botocore(
        pair, "POST", url, body=body,
        headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": secrets.token_hex(8)},
    )  # fmt: skip

    answers = [await asyncio.to_thread(send, "POST", url, headers, body) for _ in range(2)]

    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].ids == answers[1].ids


async def test_the_example_in_the_documentation_runs(server: Local, pair: Pair, tmp_path: Path):
    page = (ROOT / "docs" / "how-to" / "authenticate.md").read_text()
    [example] = [text for text in page.split("```") if "SigV4Auth(" in text]
    program = example.removeprefix("python\n").replace("http://127.0.0.1:8325", server.url)
    environment = {
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AWS_ACCESS_KEY_ID": pair[0],
        "AWS_SECRET_ACCESS_KEY": pair[1],
    }

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()

    assert process.returncode == 0
    assert said.startswith(b'b\'{"events":[]')
