"""CloudEvents 1.0.2 in: the JSON format, the HTTP binding, and the handshake of web hooks."""

import base64
import json
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.paths import SAMPLES
from support.servers import BATCH, EVENTS, LINES, ONE, Answer, Local, event, running
from support.subscribers import add_key

CASES = SAMPLES / "cases"

AT = f"{EVENTS}?scope=project/acme"


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


async def only_event(server: Local) -> Any:
    """The only event in the log."""
    [event] = (await server.get(EVENTS)).json["events"]
    return event


async def assert_refused(response: Answer, server: Local, field: str) -> None:
    assert response.status == 400, response.body
    assert response.json["field"] == field
    assert (await server.get(EVENTS)).json["events"] == []


def binary(**attributes: str) -> dict[str, str]:
    known = {"specversion": "1.0", "id": "1", "source": "/ci", "type": "build.completed"}
    return {f"ce-{name}": value for name, value in (known | attributes).items()}


# Null


@pytest.mark.parametrize("media", [ONE, BATCH, LINES])
async def test_an_attribute_that_is_null_is_unset(server: Local, media: str):
    body = case("ce-null-extension.json")

    response = await server.post(b"[" + body + b"]" if media == BATCH else body, media, AT)

    assert response.status == 201
    assert not {"subject", "traceparent"} & (await only_event(server)).keys()


@pytest.mark.parametrize("name", ["specversion", "id", "type", "source"])
async def test_a_required_attribute_that_is_null_is_missing(server: Local, name: str):
    await assert_refused(await server.post(event() | {name: None}, ONE), server, name)


async def test_every_other_attribute_may_be_null(server: Local):
    names = (
        "subject", "time", "datacontenttype", "dataschema", "data_base64", "groups", "actor",
        "message", "elapsedms", "resourcetype", "resourcename", "resourcekey", "extension",
    )  # fmt: skip

    response = await server.post(event(data={"a": None}) | dict.fromkeys(names), ONE)

    assert response.status == 201
    stored = await only_event(server)
    assert not (set(names) - {"time"}) & stored.keys()
    assert stored["data"] == {"a": None}


async def test_data_that_is_null_is_data(server: Local):
    await server.post(event(data=None), ONE)

    assert (await only_event(server))["data"] is None


# Data


async def test_a_body_of_bytes_is_stored_as_base64(server: Local):
    body = case("body.bin")

    response = await server.post(body, "application/octet-stream", AT, headers=binary())

    stored = await only_event(server)
    assert response.status == 201
    assert base64.b64decode(stored["data_base64"]) == body
    assert stored["datacontenttype"] == "application/octet-stream"
    assert "data" not in stored


@pytest.mark.parametrize(
    ("media", "body", "member"),
    [
        ("application/octet-stream", b"plain", "data_base64"),
        ("image/png", b"\x89PNG", "data_base64"),
        ("application/vnd.apache.thrift.binary", b"plain", "data_base64"),
        ("text/plain", b"\xff\xfe", "data_base64"),
        ("text/plain; charset=ISO-8859-1", b"gr\xfc\xdf", "data_base64"),
        ("text/plain; charset=UTF-8", "grüß".encode(), "data"),
        ("application/xml", b"<much wow='xml'/>", "data"),
        ("image/svg+xml", b"<svg/>", "data"),
        ("application/yaml", b"a: 1", "data"),
        ("application/x-thing; charset=utf-8", b"a: 1", "data"),
    ],
)
async def test_text_is_text_and_all_else_is_bytes(
    server: Local, media: str, body: bytes, member: str
):
    response = await server.post(body, media, AT, headers=binary())

    stored = await only_event(server)
    assert response.status == 201
    assert stored["datacontenttype"] == media
    expected = body.decode() if member == "data" else base64.b64encode(body).decode()
    assert stored[member] == expected
    assert len({"data", "data_base64"} & stored.keys()) == 1


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "application/json; charset=utf-8",
        "text/json",
        "model/gltf+json",
        "example/json",
    ],
)
async def test_the_media_type_of_json_is_returned_as_sent(server: Local, media: str):
    await server.post(b'{"n":1}', media, AT, headers=binary())

    stored = await only_event(server)
    assert (stored["datacontenttype"], stored["data"]) == (media, {"n": 1})


async def test_a_vendors_media_type_is_returned_as_sent(server: Local):
    response = await server.post(case("ce-vendor-json.json"), ONE, AT)

    stored = await only_event(server)
    assert response.status == 201
    assert stored["datacontenttype"] == "application/vnd.acme.build.v2+json"
    assert stored["data"] == {"n": 1}


async def test_a_string_of_json_is_not_parsed_again(server: Local):
    await server.post(event(data='{"n":1}', datacontenttype="application/json"), ONE)

    assert (await only_event(server))["data"] == '{"n":1}'


@pytest.mark.parametrize("media", [ONE, BATCH, LINES])
@pytest.mark.parametrize("name", ["ce-data-base64-bad.json", "ce-data-and-base64.json"])
async def test_invalid_base64_or_base64_beside_data_is_refused(
    server: Local, name: str, media: str
):
    body = case(name)

    response = await server.post(b"[" + body + b"]" if media == BATCH else body, media, AT)

    await assert_refused(response, server, "data_base64")


@pytest.mark.parametrize("text", ["AAEC AwQ=", "AAECAw", "AAECAw=", "-_==", "ü", "AAE\nCAw=="])
async def test_only_strict_base64_is_accepted(server: Local, text: str):
    await assert_refused(await server.post(event(data_base64=text), ONE), server, "data_base64")


async def test_base64_beside_data_that_is_null_is_refused(server: Local):
    await assert_refused(
        await server.post(event(data=None, data_base64="AA=="), ONE), server, "data_base64"
    )


async def test_an_empty_batch_is_accepted(server: Local):
    response = await server.post([], BATCH)

    assert (response.status, response.json) == (201, {"events": []})


# Headers


@pytest.mark.parametrize(
    ("sent", "subject"),
    [
        (r'"web \"blue\""', 'web "blue"'),
        (r'"back\\slash"', "back\\slash"),
        ('"a%20b"', "a b"),
        ("Euro%20%E2%82%AC%20%f0%9f%98%80", "Euro \u20ac \U0001f600"),
        ("%2541", "%41"),
        ("100%", "100%"),
        ('5" disk', '5" disk'),
        ('"open', '"open'),
        ('""', ""),
        ("%77eb", "web"),
    ],
)
async def test_a_header_is_unquoted_and_decoded_once(server: Local, sent: str, subject: str):
    response = await server.post(b"", "text/plain", AT, headers=binary(subject=sent))

    assert response.status == 201
    assert (await only_event(server))["subject"] == subject


@pytest.mark.parametrize("sent", ["%C0%A0", "%ff", "a%ED%A0%80", '"%C0%A0"'])
async def test_a_header_that_is_not_utf8_is_refused(server: Local, sent: str):
    response = await server.post(b"", "text/plain", AT, headers=binary(subject=sent))

    await assert_refused(response, server, "subject")


@pytest.mark.parametrize("name", ["datacontenttype", "data", "data_base64"])
async def test_attributes_in_the_body_are_no_headers(server: Local, name: str):
    response = await server.post(b"{}", "application/json", AT, headers=binary(**{name: "AA=="}))

    await assert_refused(response, server, name)


# Time


async def test_a_leap_second_is_accepted(server: Local):
    response = await server.post(event(time="2016-12-31T23:59:60Z"), ONE)

    assert response.status == 201
    assert (await only_event(server))["time"] == "2016-12-31T23:59:59.999999999Z"


# Web hooks


ORIGIN = {"WebHook-Request-Origin": "eventgrid.azure.net"}


async def test_a_handshake_is_granted_at_any_rate(server: Local):
    headers = {**ORIGIN, "WebHook-Request-Rate": "120", "WebHook-Request-Callback": "http://x.y/"}

    response = await server.ask("OPTIONS", AT, headers=headers)

    assert response.status == 200
    assert response.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert response.headers["webhook-allowed-rate"] == "*"
    assert "POST" in response.headers["allow"]


async def test_a_handshake_grants_the_rate_limit_of_requests(store: Store):
    async with running(store, max_requests_per_second=50) as server:
        response = await server.ask("OPTIONS", EVENTS, headers=ORIGIN)

    assert response.headers["webhook-allowed-rate"] == "3000"


async def test_options_without_a_handshake_is_not_allowed(server: Local):
    assert (await server.ask("OPTIONS", EVENTS)).status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"WebHook-Request-Origin": "two words"},
        {"WebHook-Request-Origin": ""},
        {**ORIGIN, "WebHook-Request-Rate": "0"},
        {**ORIGIN, "WebHook-Request-Rate": "often"},
    ],
)
async def test_an_invalid_handshake_is_refused(server: Local, headers: dict[str, str]):
    response = await server.ask("OPTIONS", EVENTS, headers=headers)

    assert response.status == 400
    assert "webhook-allowed-origin" not in response.headers


@pytest.mark.parametrize(
    ("grants", "path", "status"),
    [
        (["read:/"], EVENTS, 403),
        (["read:/"], AT, 403),
        (["write:project/other"], AT, 403),
        (["write:project/other"], EVENTS, 200),
        (["write:project/acme"], AT, 200),
        (["admin:/"], AT, 200),
    ],
)
async def test_a_handshake_requires_write_access(
    server: Local, grants: list[str], path: str, status: int
):
    _, key = await add_key(server.store, *grants)

    response = await server.ask("OPTIONS", path, headers={**ORIGIN, **key})

    assert response.status == status
    assert ("webhook-allowed-origin" in response.headers) == (status == 200)


async def test_a_handshake_without_a_credential_is_refused(server: Local):
    await add_key(server.store, "admin:/")

    response = await server.ask("OPTIONS", EVENTS, headers=ORIGIN)

    assert response.status == 401
    assert "webhook-allowed-origin" not in response.headers


async def test_an_event_sent_in_binary_mode_is_returned_as_json(server: Local):
    await server.post(b"\x00\x01", "image/png", AT, headers=binary(subject='"a b"'))

    stored = await only_event(server)
    again = {name: stored[name] for name in stored if name not in ("position", "recordedtime")}
    response = await server.post(json.dumps({**again, "id": "2"}), ONE)

    assert response.status == 201
    assert (await server.get(f"{EVENTS}/{response.ids[0]}")).json["data_base64"] == "AAE="
