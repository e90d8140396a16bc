"""Large bodies: refused early, or accepted without delaying other requests."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.http.body import DOCUMENT_BYTES
from deploylog.errors import InvalidInput
from deploylog.events.cloudevents import MAX_EVENT_BYTES, STEP_BYTES, Defaults, batch, parse_batch
from deploylog.events.cloudevents.attributes import parse_attributes
from deploylog.events.event import NewEvent
from deploylog.events.scope import parse_scope
from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.servers import BATCH, EVENTS, LINES, ONE, Answer, Local, event, line

WRITES = {
    "events": ("POST", EVENTS),
    "a deployment": ("POST", "/log/v1/deployments"),
    "a change set": ("POST", "/log/v1/changesets?project=acme"),
    "an event of EventBridge": ("POST", "/log/v1/ingest/eventbridge?project=acme"),
    "a plan of Bluelink": ("POST", "/v1/deployments/changes"),
    "an event of Escape": ("POST", "/internal/create-event"),
    "subscriptions of Escape": ("PUT", "/api/v1/events/subscriptions/project/acme/"),
}


async def send(server: Local, body: bytes, type: str) -> Answer:
    """Post a large body."""
    return await server.ask("POST", EVENTS, data=io.BytesIO(body), headers={"Content-Type": type})


@pytest.mark.parametrize("case", WRITES)
async def test_a_principal_without_write_access_is_refused_before_the_body_is_read(
    store: Store, server: Local, case: str
):
    method, path = WRITES[case]
    key = await key_headers(store, "read:/", header="X-API-Key")

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with server.http.request(method, path, data=never(), headers=key) as response:
        status = response.status

    assert status == 403


LIMITED = {
    "a form": ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}),
    "a list of RFS": ("GET", "/v1/p/stacks/s/events", {"Client-Request-Id": "a" * 36}),
    "a subscription": ("POST", "/log/v1/subscriptions", {}),
    "a deployment": ("POST", "/log/v1/deployments", {}),
    "a plan of Bluelink": ("POST", "/v1/deployments/changes", {}),
    "subscriptions of Escape": ("PUT", "/api/v1/events/subscriptions/project/acme/", {}),
    "an event of Escape": ("POST", "/internal/create-event", {}),
}


@pytest.mark.parametrize("case", LIMITED)
async def test_a_document_is_smaller_than_a_batch(server: Local, case: str):
    method, path, headers = LIMITED[case]
    body = gzip.compress(b" " * (4 * 1024 * 1024))

    response = await server.ask(
        method, path, data=body, headers={**headers, "Content-Encoding": "gzip"}
    )

    assert 400 <= response.status < 500
    assert b"decompresses to more than" in response.body or b"long" in response.body.lower()


async def test_the_number_of_form_fields_is_limited(server: Local):
    form = b"&".join(b"a=b" for _ in range(DOCUMENT_BYTES // 4 - 10))

    response = await server.post(form, "application/x-www-form-urlencoded", "/")

    assert response.status == 400
    assert b"at most 1000 parameters" in response.body


async def test_a_body_decompresses_to_at_most_200_times_its_size(server: Local):
    body = gzip.compress(b" " * (16 * 1024 * 1024))
    assert 5_000 < len(body) < 20_000

    response = await server.post(body, LINES, headers={"Content-Encoding": "gzip"})

    assert response.status == 413
    assert f"more than {200 * len(body)} bytes".encode() in response.body


async def test_a_small_body_with_a_high_ratio_is_accepted(server: Local):
    events = [line(message="again")] * 4_000
    packed = gzip.compress("\n".join(map(json.dumps, events)).encode())

    response = await server.post(packed, LINES, headers={"Content-Encoding": "gzip"})

    assert response.status == 201


BOMBS = {
    "numbers": b"[" + b"0," * 2_000_000 + b"0]",
    "empty objects": b"[" + b"{}," * 1_000_000 + b"{}]",
    "arrays in arrays": b"[" + b"[]," * 1_000_000 + b"[]]",
    "one object of many": b'[{"type":"a","data":[' + b"0," * 2_000_000 + b"0]}]",
    "a text without an end": b'[{"type":"' + b"a" * 3_000_000,
    "events": b"[" + b'{"type":"a"},' * 300_000 + b'{"type":"a"}]',
    "no array": b" " * 3_000_000,
}


@pytest.mark.parametrize("case", BOMBS)
async def test_little_of_a_bomb_is_parsed(
    server: Local, case: str, monkeypatch: pytest.MonkeyPatch
):
    parsed: list[int] = []

    def count(body: bytes, defaults: Defaults) -> NewEvent:
        parsed.append(1)
        return parse_attributes(body, defaults)

    monkeypatch.setattr(batch, "parse_attributes", count)

    response = await send(server, BOMBS[case], BATCH)

    assert response.status in (400, 413), response.body
    assert len(parsed) <= 5_000


@pytest.mark.parametrize("type", [ONE, BATCH, LINES])
async def test_one_event_is_limited_before_it_is_parsed(server: Local, type: str):
    large = json.dumps(event(data="a" * (MAX_EVENT_BYTES + STEP_BYTES)))

    response = await send(server, (f"[{large}]" if type == BATCH else large).encode(), type)

    assert response.status in (400, 413)
    assert b"longer than" in response.body


@pytest.mark.parametrize("type", [BATCH, LINES])
async def test_a_large_body_is_recorded_in_its_order(server: Local, type: str):
    events = [
        line(id=str(n), message='[{"\\' + "a" * 400, data={"a": [n, {}]}, extra="x")
        for n in range(1_500)
    ]
    texts = list(map(json.dumps, events))
    body = "\n".join(texts) if type == LINES else f" [ {' , '.join(texts)} ] "
    assert len(body) > 2 * STEP_BYTES

    response = await server.post(body, type)

    assert response.status == 201
    page = (await server.get(f"{EVENTS}?order=oldest&limit=1000")).json
    assert [each["producerid"] for each in page["events"]] == [str(n) for n in range(1_000)]
    assert page["events"][7]["data"] == {"a": [7, {}]}


@pytest.mark.parametrize("type", [BATCH, LINES])
async def test_a_large_body_names_its_invalid_event(server: Local, type: str):
    events = [line(message="a" * 400) for _ in range(1_500)]
    del events[1_233]["type"]
    texts = list(map(json.dumps, events))

    response = await server.post(
        "\n".join(texts) if type == LINES else f"[{','.join(texts)}]", type
    )

    assert (response.status, response.json["line"], response.json["field"]) == (400, 1_234, "type")


DEFAULTS = Defaults(time=1, source="a", scopes=(parse_scope("project/acme"),))
JSON = st.recursive(
    st.text() | st.integers(0, 9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(
    st.lists(st.dictionaries(st.just("data"), JSON, min_size=1), min_size=1),
    st.sampled_from([None, 1]),
)
def test_a_large_array_is_split_as_by_the_decoder(items: list[dict[str, Any]], indent: int | None):
    body = json.dumps([{"type": "a", **each} for each in items], indent=indent).encode()

    split = [json.loads(each) for _, each in batch._split(body)]

    assert split == json.loads(body)
    assert parse_batch(body, DEFAULTS, limit=1000) == batch._one_by_one(
        batch._split(body), DEFAULTS, 1000
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"{}", b"[{}", b"[{},", b"[{},]", b"[{}]]", b"[{}] {}", b"[{} {}]", b"[,{}]"],
)
def test_other_json_is_not_split(body: bytes):
    with pytest.raises(InvalidInput):
        list(batch._split(body))
