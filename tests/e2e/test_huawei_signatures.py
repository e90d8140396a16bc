"""Huawei Cloud's own SDK signs with AK/SK, or shows a token, to a running service."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import make_encryption_key
from deploylog.auth.request_signing import WINDOW
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.servers import DEPLOYMENTS, EVENTS, LINES, Answer, Local, line, running
from support.signing import add_key_pair, send, signed_by_huawei
from support.waiting import PATIENCE

CHINESE = "测试-stack_1"
BODY_LIMIT = 10_000

Pair = tuple[str, str]
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Importing the SDK writes into the home directory.
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def sealing_key() -> str:
    return make_encryption_key()


@pytest.fixture
async def pair(store: Store, sealing_key: str) -> Pair:
    return await add_key_pair(store, sealing_key, "huawei")


@pytest.fixture
async def server(
    store: Store, sealing_key: str, pair: Pair, tmp_path: Path
) -> AsyncIterator[Local]:
    """One that knows the pair, and has two stacks."""
    file = tmp_path / "sealing"
    file.write_text(sealing_key)
    options: dict[str, Any] = {"secret_key_file": str(file), "max_body_bytes": BODY_LIMIT}
    async with running(store, **options) as server:
        for stack in ("web", CHINESE):
            await open_signed(server, pair, stack)
        yield server


@pytest.fixture
def ask(server: Local) -> Ask:
    """Ask through the SDK, in a thread, with a pair and headers that are preset."""
    from huaweicloudsdkaos.v1 import AosClient, ListStackEventsRequest
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    async def ask(
        pair: Pair, stack_name: str = "web", *, preset: dict[str, str] | None = None, **asked: Any
    ) -> Any:
        builder = AosClient.new_builder().with_credentials(BasicCredentials(*pair, "acme"))
        client = builder.with_endpoint(server.url).build()
        client.preset_headers = preset or {}
        request = ListStackEventsRequest(
            client_request_id=str(uuid.uuid4()), stack_name=stack_name, **asked
        )
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(client.list_stack_events, request)

    return ask


async def refusal(asked: Any) -> str:
    """What the SDK's exception says, of a 401 of the gateway."""
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as raised:
        await asked
    assert (raised.value.status_code, raised.value.error_code) == (401, "APIGW.0301")
    assert raised.value.request_id
    return raised.value.error_msg.removeprefix("Incorrect IAM authentication information: ")


def dated(seconds: float) -> dict[str, str]:
    """A date that the SDK signs instead of its own."""
    date = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"X-Sdk-Date": date.strftime("%Y%m%dT%H%M%SZ")}


async def test_with_the_right_secret_the_events_come(ask: Ask, pair: Pair):
    answer = await ask(pair)

    assert [event.event_type for event in answer.stack_events] == ["LOG"]


async def test_names_filters_and_markers_are_signed_however_they_are_spelt(
    server: Local, ask: Ask, pair: Pair
):
    async def listed(**asked: Any) -> Any:
        condition = "event_type==LOG|event_type==ERROR,resource_name==vpc_1"
        return await ask(pair, CHINESE, filter=condition, field="resource_name", **asked)

    opened = await open_signed(server, pair, CHINESE)
    of_vpc = {"resourcetype": "huaweicloud_vpc", "resourcename": "vpc_1"}
    event = {"type": "deployment.log", "source": "terraform", **of_vpc}
    path = f"{EVENTS}?deployment={opened['id']}"
    for _ in range(3):
        answer = await post(server, pair, path, json.dumps(event).encode(), type=LINES)
        assert answer.status == 201

    first = await listed(limit=2)
    second = await listed(limit=2, marker=first.page_info.next_marker)

    assert (len(first.stack_events), len(second.stack_events)) == (2, 1)


async def test_what_is_wrong_with_a_signature_is_said(ask: Ask, pair: Pair):
    id, secret = pair
    early, late = dated(-WINDOW - 60), dated(WINDOW + 60)

    assert await refusal(ask((id, "wrong"))) == "verify aksk signature fail"
    assert await refusal(ask(("NOBODY", secret))) == "Get secretKey failed,err:ak not exist"
    for preset in (early, late):
        said = await refusal(ask(pair, preset=preset))
        assert said == "verify aksk signature fail,signature expired"
    for skew in (60 - WINDOW, WINDOW - 60):
        assert await ask(pair, preset=dated(skew))


async def test_a_token_that_is_preset_opens_whatever_signs(store: Store, ask: Ask, pair: Pair):
    stored, key = make_key(name="ci", groups=(), grants=[parse_grant("read:/")], now=now())
    await store.credentials.add(stored)

    answer = await ask(("ak", "sk"), preset={"X-Auth-Token": key})

    assert len(answer.stack_events) == 1
    assert await refusal(ask(("ak", "sk"), preset={"X-Auth-Token": "a"})) == "decrypt token fail"
    assert await ask(pair, preset={"X-Auth-Token": "a"}), "the signature is good, the token is not"


async def test_a_principal_sees_what_it_is_granted(
    store: Store, sealing_key: str, ask: Ask, pair: Pair
):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    other = await add_key_pair(store, sealing_key, "huawei", "read:project/other")

    with pytest.raises(ClientRequestException) as raised:
        await ask(other)

    assert (raised.value.status_code, raised.value.error_code) == (403, "RF.10012507")


async def post(
    server: Local,
    pair: Pair,
    path: str,
    body: bytes,
    *,
    sent: bytes | None = None,
    type: str = "application/json",
) -> Answer:
    """Post, signed by the SDK's signer; ``sent`` is what is sent instead of what was signed."""
    url = f"{server.url}{path}"
    headers = signed_by_huawei(pair, "POST", url, body=body, Content_Type=type)
    return await asyncio.to_thread(send, "POST", url, headers, body if sent is None else sent)


async def open_signed(server: Local, pair: Pair, stack: str) -> Any:
    """A deployment, opened with a signature."""
    body = json.dumps({"project": "acme", "stack": stack}).encode()
    answer = await post(server, pair, DEPLOYMENTS, body)
    assert answer.status == 201, answer.body
    return answer.json


async def test_a_body_is_read_once_for_the_signature_and_again_by_its_endpoint(
    server: Local, pair: Pair
):
    body = json.dumps({"project": "acme", "stack": "x" * 100}).encode()

    opened = await post(server, pair, DEPLOYMENTS, body)
    changed = await post(server, pair, DEPLOYMENTS, body, sent=body.replace(b"x", b"y"))
    large = await post(server, pair, DEPLOYMENTS, body + b" " * BODY_LIMIT)

    assert [answer.status for answer in (opened, changed, large)] == [201, 401, 413]
    assert changed.json["detail"] == "Valid credentials are required."


async def test_a_body_that_the_sdk_leaves_unsigned_is_taken(server: Local, pair: Pair):
    recorded = await post(server, pair, EVENTS, json.dumps(line()).encode(), type=LINES)

    assert recorded.status == 201


async def test_a_get_may_have_a_signed_body(server: Local, pair: Pair):
    first, second = [await open_signed(server, pair, "web") for _ in range(2)]
    url = f"{server.url}/v1/acme/stacks/web/events"
    body = json.dumps({"deployment_id": first["id"], "stack_id": second["stack_id"]}).encode()
    headers = signed_by_huawei(
        pair, "GET", url, body=body, Content_Type="application/json",
        Client_Request_Id=str(uuid.uuid4()),
    )  # fmt: skip

    whole = await asyncio.to_thread(send, "GET", url, headers, body)
    emptied = await asyncio.to_thread(send, "GET", url, headers)

    assert len(whole.json["stack_events"]) == 1
    assert emptied.status == 401


async def test_a_stream_ends_when_its_key_is_revoked(server: Local, store: Store, pair: Pair):
    headers = signed_by_huawei(pair, "GET", f"{server.url}{EVENTS}/stream")

    async with server.stream(headers=headers) as stream:
        await store.credentials.revoke(pair[0], now())
        while await stream.block() is not None:
            pass
    again = await server.get(EVENTS, headers=signed_by_huawei(pair, "GET", server.url + EVENTS))

    assert again.status == 401
