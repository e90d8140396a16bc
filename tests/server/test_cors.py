"""Browsers of other origins: only those that the setting names, and never with credentials."""

from typing import Any

import pytest

from deploylog.errors import InvalidSettings
from deploylog.server.cors import parse_origins
from deploylog.store.contract import Store
from support.servers import EVENTS, LINES, STREAM, Local, event, running
from support.subscribers import add_key

ORIGIN = "https://portal.example"

PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def cors(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


async def test_without_the_setting_no_origin_is_allowed(store: Store):
    async with running(store) as server:
        listed = await server.get(EVENTS, headers={"Origin": "http://localhost:3000"})
        asked = await server.ask("OPTIONS", EVENTS, headers=PREFLIGHT)

    assert cors(listed.headers) == cors(asked.headers) == {}


async def test_an_origin_of_the_setting_may_read_and_append(store: Store):
    async with running(store, cors_origins=f"{ORIGIN},https://other.example:8443") as server:
        asked = await server.ask("OPTIONS", EVENTS, headers=PREFLIGHT)
        answers = await every_kind(server, ORIGIN)

    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"]
    for headers in (asked.headers, *answers):
        assert headers["access-control-allow-origin"] == ORIGIN
        assert "origin" in headers["vary"].lower()
        assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin", ["https://portal.example.evil", "http://portal.example", f"{ORIGIN}:8443", "null"]
)
async def test_any_other_origin_is_not_allowed(store: Store, origin: str):
    async with running(store, cors_origins=ORIGIN) as server:
        asked = await server.ask("OPTIONS", EVENTS, headers={**PREFLIGHT, "Origin": origin})
        answers = await every_kind(server, origin)

    assert asked.status == 400
    for headers in (asked.headers, *answers):
        assert "access-control-allow-origin" not in headers
        assert "access-control-allow-credentials" not in headers


async def test_every_origin_is_allowed_without_credentials(store: Store):
    async with running(store, cors_origins="*") as server:
        answers = await every_kind(server, "https://any.example")

    for headers in answers:
        assert headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in headers


async def test_the_handshake_of_webhooks_is_no_preflight(store: Store):
    async with running(store, cors_origins=ORIGIN) as server:
        asked = await server.ask(
            "OPTIONS", EVENTS, headers={"WebHook-Request-Origin": "events.example"}
        )

    assert asked.status == 200
    assert asked.headers["webhook-allowed-origin"] == "events.example"


async def every_kind(server: Local, origin: str) -> list[dict[str, str]]:
    """The headers of an append, a page, errors and a stream, for a page of this origin."""
    _, key = await add_key(server.store, "admin:/")
    headers: Any = {"Origin": origin, **key}
    refused = await server.get(EVENTS, headers={"Origin": origin})
    appended = await server.post(event(scopes="a"), LINES, headers=headers)
    page = await server.get(EVENTS, headers=headers)
    error = await server.get(f"{EVENTS}?limit=x", headers=headers)
    async with server.http.get(STREAM, headers=headers) as stream:
        streamed = {name.lower(): value for name, value in stream.headers.items()}
    statuses = [each.status for each in (refused, appended, page, error)]
    assert statuses == [401, 201, 200, 400]
    return [appended.headers, page.headers, error.headers, refused.headers, streamed]


@pytest.mark.parametrize(
    "text", ["portal.example", "https://portal.example/", "https://a.example/x", "https://", "*.b"]
)
def test_what_is_no_origin_is_refused(text: str):
    with pytest.raises(InvalidSettings, match="cors_origins"):
        parse_origins(text)
