"""A header that changes what a request does is signed, or the request is refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.encryption import make_encryption_key
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.awsclients import Credentials, asked, cloudformation
from support.servers import EVENTS, LINES, ONE, STREAM, Answer, Local, running
from support.signing import add_key_pair, send, signed_by_botocore, signed_by_huawei
from support.waiting import PATIENCE

BODY = b'{"type":"a.b","source":"x","scopes":"project/acme"}'
BINARY = {
    "ce-specversion": "1.0", "ce-id": "1", "ce-source": "x", "ce-type": "stack.deleted",
    "ce-scopes": "project/acme",
}  # fmt: skip

#: Signs a request with these headers, as a vendor's client does.
Sign = Callable[..., dict[str, str]]


@pytest.fixture(params=["aws", "huawei"])
async def signed(
    request: pytest.FixtureRequest, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Local, Sign]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    key, file = make_encryption_key(), tmp_path / "sealing"
    file.write_text(key)
    pair = await add_key_pair(store, key, request.param)
    async with running(store, secret_key_file=str(file), max_failures_per_minute=0) as server:

        def sign(method: str, path: str, body: bytes, **headers: str) -> dict[str, str]:
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            url = server.url + path
            if request.param == "aws":
                return signed_by_botocore(pair, method, url, body=body, headers=headers)
            named = {"Content-Type": "application/json"} | headers
            return signed_by_huawei(pair, method, url, body=body, **named)

        yield server, sign


async def ask(server: Local, method: str, path: str, headers: Any, body: bytes) -> Answer:
    return await asyncio.to_thread(send, method, server.url + path, headers, body)


@pytest.mark.parametrize(
    ("method", "path", "body", "added"),
    [
        ("POST", EVENTS, b"{}", BINARY),
        ("POST", EVENTS, BODY, {"Idempotency-Key": "k"}),
        ("POST", EVENTS, BODY, {"Content-Encoding": "gzip"}),
        ("POST", EVENTS, b"", BINARY),
        ("GET", STREAM, b"", {"Last-Event-ID": "0190cbb1-0000-7000-8000-000000000001"}),
    ],
)
async def test_a_header_that_acts_cannot_be_added_to_a_signed_request(
    signed: tuple[Local, Sign],
    store: Store,
    method: str,
    path: str,
    body: bytes,
    added: dict[str, str],
):
    server, sign = signed
    headers = sign(method, path, body, Content_Type="application/json")

    answer = await ask(server, method, path, headers | added, body)

    assert answer.status == 401
    assert await store.log.read(Query()) == []


async def test_a_content_type_that_a_client_left_unsigned_is_refused(store: Store, tmp_path: Path):
    key, file = make_encryption_key(), tmp_path / "sealing"
    file.write_text(key)
    pair = await add_key_pair(store, key, "aws")
    async with running(store, secret_key_file=str(file)) as server:
        headers = signed_by_botocore(pair, "POST", server.url + EVENTS, body=BODY)

        answer = await ask(server, "POST", EVENTS, headers | {"Content-Type": LINES}, BODY)

    assert answer.status == 401
    assert await store.log.read(Query()) == []


async def test_the_same_headers_act_once_they_are_signed(signed: tuple[Local, Sign], store: Store):
    server, sign = signed
    how = {"Content_Type": "application/json", "Idempotency_Key": "k"}
    headers = sign("POST", EVENTS, b"{}", **how, **BINARY)

    answer = await ask(server, "POST", EVENTS, headers, b"{}")

    assert answer.status == 201
    [event] = await store.log.read(Query())
    assert event.type == "stack.deleted"


async def test_what_does_not_act_need_not_be_signed(signed: tuple[Local, Sign]):
    server, sign = signed
    headers = sign("GET", EVENTS, b"", Content_Type="application/json")
    added = {"Accept": "*/*", "X-Language": "en", "Client-Request-Id": "x", "Cache-Control": "a"}

    answer = await ask(server, "GET", EVENTS, headers | added, b"")

    assert answer.status == 200


@pytest.mark.parametrize("media", [LINES, ONE])
async def test_curl_posts_with_the_content_type_that_it_signs(
    store: Store, tmp_path: Path, media: str
):
    key, file = make_encryption_key(), tmp_path / "sealing"
    file.write_text(key)
    id, secret = await add_key_pair(store, key, "aws")
    body = json.dumps(json.loads(BODY) | {"specversion": "1.0", "id": "1"})
    async with running(store, secret_key_file=str(file)) as server:
        status = await curl(
            f"{id}:{secret}", "execute-api", "-H", f"Content-Type: {media}", "--data-binary", body,
            server.url + EVENTS,
        )  # fmt: skip

    assert status == "201"


async def test_forms_of_curl_and_boto3_are_taken(store: Store, tmp_path: Path):
    key, file = make_encryption_key(), tmp_path / "sealing"
    file.write_text(key)
    id, secret = await add_key_pair(store, key, "aws")
    async with running(store, secret_key_file=str(file)) as server:
        status = await curl(
            f"{id}:{secret}", "cloudformation", "-d", "Action=ListStacks&Version=2010-05-15",
            f"{server.url}/",
        )  # fmt: skip
        credentials = Credentials(access_key=id, secret_key=secret, session_token=None)
        listed = await asked(cloudformation(server, credentials).list_stacks)

    assert (status, listed["StackSummaries"]) == ("200", [])


async def curl(user: str, service: str, *arguments: str) -> str:
    """The status that curl gets."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}",
        "--aws-sigv4", f"aws:amz:eu-west-1:{service}", "--user", user, *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    return said.decode()
