"""Subscriptions over the native API, as documented in ``docs/reference/native-api.md``."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.standard_webhooks import make_secret
from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.backends import store_url_at
from support.factories import unique
from support.problems import assert_problem
from support.receivers import receiving, status
from support.servers import Answer, Local, Running, line, running, spawned
from support.subscribers import encryption_key_file
from support.waiting import until

SUBSCRIPTIONS = "/log/v1/subscriptions"
JSON = "application/json"

#: An id that nothing has.
NOBODYS = "5c5ecbb0-6d2c-4f1f-9d0c-0d6f5f6d3c11"

#: Secrets that no response may contain.
SECRET = make_secret()
PATH = "T0PATH/B0PATH/very-secret-path"
TOKEN = "xoxb-very-secret-token"

WEBHOOK = {"name": "ops", "kind": "webhook", "url": f"https://hooks.example.com:8443/{PATH}"}
#: Any event, not only the ends of deployments.
SLACK = {"name": "ops", "kind": "slack", "filter": {"type": ["resource.*"]}}
BOT = {"name": "bot", "kind": "slack", "token": TOKEN, "channel": "#deploys"}


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    return encryption_key_file(tmp_path)


@pytest.fixture
def options(key_file: str) -> dict[str, Any]:
    return {"secret_key_file": key_file}


@pytest.fixture
async def local_server(store: Store, key_file: str) -> AsyncIterator[Local]:
    """A service that may call receivers of this machine."""
    networks = "127.0.0.0/8"
    async with running(
        store, secret_key_file=key_file, delivery_allowed_networks=networks
    ) as server:
        yield server


#: A response of Slack that makes an event a dead letter.
REFUSED = status(400, body=b"invalid_payload")


async def create(server: Running, body: object, **how: Any) -> Answer:
    return await server.post(body, JSON, SUBSCRIPTIONS, **how)


async def created(server: Running, body: dict[str, Any] = WEBHOOK, **how: Any) -> Any:
    """The subscription, under a name that no other has."""
    response = await create(server, body | {"name": unique(body["name"])}, **how)
    assert response.status == 201, response.body
    return response.json


async def act(server: Running, id: str, action: str, body: object = b"", **how: Any) -> Answer:
    return await server.post(body, JSON, f"{SUBSCRIPTIONS}/{id}/{action}", **how)


async def wait_for_state(server: Running, id: str, **what: object) -> Any:
    """The subscription, once it has these values."""

    async def is_so() -> Any:
        result = (await server.get(f"{SUBSCRIPTIONS}/{id}")).json
        return result if what.items() <= result.items() else None

    return await until(is_so)


# Creating


async def test_creating_a_subscription_returns_all_but_its_secrets(server: Local):
    [_, last] = await server.append([line(), line()])
    body = WEBHOOK | {
        "format": "escape", "order": "per_deployment", "from": last,
        "scopes": ["project/acme/", "state/a b"],
        "filter": {"type": ["state.deployment.*"], "actor": ["ann", "bob.*"]},
    }  # fmt: skip

    response = await create(server, body)

    result = response.json
    assert response.status == 201
    assert response.headers["location"] == f"{SUBSCRIPTIONS}/{result['id']}"
    secret, [term] = result.pop("secret"), result.pop("secrets")
    assert secret.startswith("whsec_")
    assert term["expires"] is None
    assert term["created"].endswith("Z")
    types = result["filter"].pop("type")
    assert types
    assert all(type.startswith("state.deployment.") for type in types)
    assert result.pop("created").endswith("Z")
    assert result == {
        "id": result["id"], "name": "ops", "kind": "webhook", "format": "escape",
        "target": "https://hooks.example.com:8443/…", "scopes": ["project/acme", "state/a%20b"],
        "project": None, "stack": [], "environment": [], "version": [], "commit": [], "label": {},
        "filter": {"actor": ["ann", "bob.*"]}, "order": "per_deployment", "state": "active",
        "reason": None,
        "owner": "anonymous", "checkpoint": "2", "lag": 1, "failing_since": None, "pending": 0,
        "dead_lettered": 0, "next_try": None,
    }  # fmt: skip


async def test_the_defaults_are_all_events_in_strict_order_from_now_on(server: Local):
    await server.append([line()])

    result = await created(server)

    assert (result["format"], result["order"], result["checkpoint"]) == (
        "cloudevents",
        "strict",
        "2",
    )
    assert (result["scopes"], result["filter"]) == ([], {})


#: Every kind of condition that a filter has.
WHOLE_FILTER = {
    "type": ["resource.*"],
    "resourceaddress": ["aws_instance.web"],
    "resourceid": ["i-0abc"],
    "resource": ["aws_instance.web"],
    "q": 'timeout "access denied" sg-0*',
    "not": {"type": ["resource.create.*"], "actor": ["ci"]},
}


async def test_a_filter_is_returned_as_it_was_asked_for(server: Local):
    result = await created(server, WEBHOOK | {"filter": WHOLE_FILTER})
    other = await created(server)

    path = f"{SUBSCRIPTIONS}/{other['id']}"
    changed = await server.ask("PATCH", path, json={"filter": result["filter"]})
    cleared = await server.ask("PATCH", path, json={"filter": {}})

    assert result["filter"] == WHOLE_FILTER
    assert changed.json["filter"] == WHOLE_FILTER
    assert cleared.json["filter"] == {}


async def test_what_deployments_carry_is_returned_as_it_was_asked_for(server: Local):
    carried = {"version": ["1.4", "1.5"], "commit": ["4f2a9c"], "label": {"team": "web"}}

    result = await created(server, WEBHOOK | carried | {"commit": ["4F2A9C"]})

    assert {name: result[name] for name in carried} == carried
    assert result["scopes"] == []


async def test_types_that_are_excluded_are_not_in_a_format(server: Local):
    escape = WEBHOOK | {"format": "escape"}
    excluded = {"type": ["state.deployment.*"]}

    result = await created(server, escape | {"filter": {"type": ["state.*"], "not": excluded}})
    nothing = await create(server, escape | {"filter": {**excluded, "not": excluded}})

    assert result["filter"]["type"]
    assert not any(each.startswith("state.deployment.") for each in result["filter"]["type"])
    assert_problem(nothing, 400, "invalid-subscription", "filter.type")


async def test_a_secret_is_returned_once(server: Local):
    nothing = {"filter": {"type": ["x"]}}
    result = await created(server, WEBHOOK | nothing)
    given = await created(server, WEBHOOK | nothing | {"secret": SECRET})
    bot = await created(server, BOT | nothing)

    again = await server.get(f"{SUBSCRIPTIONS}/{result['id']}")
    listed = await server.get(SUBSCRIPTIONS)

    assert result.pop("secret").startswith("whsec_")
    progress = dict.fromkeys(("checkpoint", "lag"))
    assert again.json | progress == result | progress
    assert [each | progress for each in listed.json["subscriptions"]] == [
        each | progress for each in (result, given, bot)
    ]
    assert "secret" not in given
    assert (bot["secrets"], bot["target"]) == ([], "slack #deploys")


@pytest.mark.parametrize(
    ("wrong", "kind", "field"),
    [
        ({"name": None}, "invalid-subscription", "name"),
        ({"name": ""}, "invalid-subscription", "name"),
        ({"kind": "sms"}, "invalid-subscription", "kind"),
        ({"url": 7}, "invalid-subscription", "url"),
        ({"url": "http://127.0.0.1:9/x"}, "invalid-subscription", "url"),
        ({"url": "http://localhost/x"}, "invalid-subscription", "url"),
        ({"channel": "#x"}, "invalid-subscription", "channel"),
        ({"secret": "x"}, "invalid-subscription", "secret"),
        ({"format": "xml"}, "invalid-subscription", "format"),
        ({"order": "none"}, "invalid-subscription", "order"),
        ({"scopes": "project/acme"}, "invalid-subscription", "scopes"),
        ({"scopes": ["a//b"]}, "invalid-subscription", "scopes"),
        ({"filter": {"type": ["*.x"]}}, "invalid-subscription", "filter.type"),
        ({"filter": {"actor": "ann"}}, "invalid-subscription", "filter.actor"),
        ({"filter": {"actor": ["x"] * 101}}, "invalid-subscription", "filter.actor"),
        ({"filter": {"colour": ["x"]}}, "invalid-subscription", "filter.colour"),
        ({"filter": {"q": '"open'}}, "invalid-subscription", "filter.q"),
        ({"filter": {"q": ["x"]}}, "invalid-subscription", "filter.q"),
        ({"filter": {"not": {"type": ["*.x"]}}}, "invalid-subscription", "filter.not.type"),
        ({"filter": {"not": {"q": "x"}}}, "invalid-subscription", "filter.not.q"),
        ({"filter": {"resource": ["x"] * 101}}, "invalid-subscription", "filter.resource"),
        ({"version": "1.4"}, "invalid-subscription", "version"),
        ({"version": [""]}, "invalid-subscription", "version"),
        ({"commit": ["main"]}, "invalid-subscription", "commit"),
        ({"label": ["team=web"]}, "invalid-subscription", "label"),
        ({"label": {"a b": "c"}}, "invalid-subscription", "label"),
        ({"label": {"team": "web"}, "scopes": ["a"]}, "invalid-subscription", "scopes"),
        ({"from": "yesterday"}, "invalid-cursor", "from"),
        ({"colour": "red"}, "invalid-subscription", "colour"),
        ({"scope": ["project/acme"]}, "invalid-subscription", "scope"),
    ],
)
async def test_an_invalid_field_is_named(
    server: Local, wrong: dict[str, Any], kind: str, field: str
):
    response = await create(server, WEBHOOK | wrong)

    assert_problem(response, 400, kind, field)
    assert b"very-secret" not in response.body
    assert (await server.get(SUBSCRIPTIONS)).json == {"subscriptions": []}


@pytest.mark.parametrize("missing", ["name", "kind", "url"])
async def test_a_missing_field_is_named(server: Local, missing: str):
    body = {name: value for name, value in WEBHOOK.items() if name != missing}

    assert_problem(await create(server, body), 400, "invalid-subscription", missing)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"7", b'{"name":"\xff"}', b"[" * 10_000])
async def test_a_body_must_be_an_object(server: Local, body: bytes):
    assert_problem(await create(server, body), 400, "invalid-subscription")


async def test_every_operation_refuses_unknown_parameters(server: Local):
    result = await created(server)
    one = f"{SUBSCRIPTIONS}/{result['id']}"

    responses = [
        await server.post(WEBHOOK, JSON, f"{SUBSCRIPTIONS}?x=1"),
        await server.get(f"{SUBSCRIPTIONS}?x=1"),
        await server.get(f"{one}?x=1"),
        await server.ask("PATCH", f"{one}?x=1", data=b"{}"),
        await server.ask("DELETE", f"{one}?x=1"),
        await server.get(f"{one}/attempts?x=1"),
        await server.get(f"{one}/dead-letters?x=1"),
        *[await act(server, result["id"], f"{what}?x=1") for what in ("pause", "resume", "test")],
    ]

    for response in responses:
        assert_problem(response, 400, "invalid-input", "x")
    assert (await server.get(one)).json["state"] == "active"


async def test_without_an_encryption_key_there_are_no_subscriptions(store: Store):
    async with running(store) as server:
        response = await create(server, WEBHOOK)
        listed = await server.get(SUBSCRIPTIONS)

    assert_problem(response, 409, "no-encryption-key")
    assert "secret_key_file" in response.json["detail"]
    assert listed.json == {"subscriptions": []}


# Access


async def test_subscriptions_are_visible_to_owner_and_administrators(server: Local, store: Store):
    owner = await key_headers(store, "read:project/acme", name="owner")
    other = await key_headers(store, "read:project/acme", name="other")
    admin = await key_headers(store, "admin:project/acme", name="admin")
    result = await created(server, WEBHOOK | {"scopes": ["project/acme"]}, headers=owner)
    one, rename = f"{SUBSCRIPTIONS}/{result['id']}", {"data": b'{"name": "x"}'}

    listed = [
        len((await server.get(SUBSCRIPTIONS, headers=headers)).json["subscriptions"])
        for headers in (owner, other, admin)
    ]

    assert result["owner"] == "owner"
    assert listed == [1, 0, 1]
    assert_problem(await server.get(one, headers=other), 404, "subscription-not-found")
    assert_problem(await server.ask("PATCH", one, headers=admin, **rename), 403, "forbidden")
    assert_problem(
        await act(server, result["id"], "rotate-secret", headers=admin), 403, "forbidden"
    )
    assert (await act(server, result["id"], "pause", headers=admin)).json["state"] == "paused"
    assert (await server.ask("PATCH", one, headers=owner, **rename)).json["name"] == "x"


async def test_subscribing_requires_read_access(server: Local, store: Store):
    headers = await key_headers(store, "write:project/acme", name="ci")

    response = await create(server, WEBHOOK | {"scopes": ["project/acme"]}, headers=headers)

    assert_problem(response, 403, "forbidden")


# Changing


async def test_a_change_returns_the_changed_subscription(server: Local):
    result = await created(server)
    body = {
        "name": "all", "url": "http://other.example/x", "order": "per_deployment",
        "scopes": ["project/b"],
        "filter": {"type": ["x.*"]},
    }  # fmt: skip

    response = await server.ask("PATCH", f"{SUBSCRIPTIONS}/{result['id']}", data=json.dumps(body))

    assert response.status == 200
    changed = response.json
    assert changed["target"] == "http://other.example/…"
    for name in ("name", "order", "scopes", "filter"):
        assert changed[name] == body[name]
    assert "secret" not in changed


@pytest.mark.parametrize("field", ["kind", "secret", "from", "id", "state", "owner"])
async def test_an_immutable_field_is_named(server: Local, field: str):
    result = await created(server)

    response = await server.ask("PATCH", f"{SUBSCRIPTIONS}/{result['id']}", json={field: "x"})

    assert_problem(response, 400, "invalid-subscription", field)


async def test_a_subscription_is_paused_resumed_and_deleted(server: Local):
    result = await created(server)
    one = f"{SUBSCRIPTIONS}/{result['id']}"

    paused = (await act(server, result["id"], "pause")).json
    resumed = (await act(server, result["id"], "resume")).json
    deleted = await server.ask("DELETE", one)

    assert (paused["state"], paused["reason"]) == ("paused", "paused by anonymous")
    assert (resumed["state"], resumed["reason"]) == ("active", None)
    assert (deleted.status, deleted.body) == (204, b"")
    assert_problem(await server.get(one), 404, "subscription-not-found")


async def test_a_secret_is_rotated(server: Local):
    result = await created(server)

    drawn = (await act(server, result["id"], "rotate-secret")).json
    given = (await act(server, result["id"], "rotate-secret", {"secret": SECRET})).json
    alone = (await act(server, result["id"], "rotate-secret", {"overlap": 0})).json

    assert drawn["secret"] != result["secret"]
    assert [term["expires"] is None for term in drawn["secrets"]] == [True, False]
    assert "secret" not in given
    assert len(given["secrets"]) == 3
    assert len(alone["secrets"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"overlap": -1}, "overlap"),
        ({"overlap": 2_592_001}, "overlap"),
        ({"overlap": "1h"}, "overlap"),
        ({"secret": ""}, "secret"),
        ({"x": 1}, "x"),
    ],
)
async def test_an_invalid_rotation_is_refused(server: Local, body: object, field: str):
    result = await created(server)

    response = await act(server, result["id"], "rotate-secret", body)

    assert_problem(response, 400, "invalid-subscription", field)


# Deliveries


async def test_deliveries_are_listed_with_their_results(local_server: Local):
    async with receiving(REFUSED) as receiver:
        result = await created(local_server, SLACK | {"url": receiver.url})
        [event] = await local_server.append([line()])
        result = await wait_for_state(local_server, result["id"], dead_lettered=1, lag=0)
    one = f"{SUBSCRIPTIONS}/{result['id']}"

    attempts = (await local_server.get(f"{one}/attempts")).json
    dead_letters = (await local_server.get(f"{one}/dead-letters")).json

    assert (result["checkpoint"], result["lag"], result["pending"]) == ("2", 0, 0)
    [attempted], [given_up] = attempts["attempts"], dead_letters["dead_letters"]
    assert attempted.pop("started").endswith("Z")
    assert 0 <= attempted.pop("latency_ms") < 20_000
    assert attempted.pop("request").startswith('{"text":')
    assert attempted == {
        "event": event, "position": "2", "result": "dead_lettered", "status": 400,
        "error": "Slack responded with 400: invalid_payload", "response": "invalid_payload",
        "next_try": None,
    }  # fmt: skip
    assert given_up.pop("first_try").endswith("Z")
    assert given_up == {
        "event": event, "position": "2", "tries": 1,
        "error": "Slack responded with 400: invalid_payload",
    }  # fmt: skip


async def test_a_deployment_says_what_was_sent_of_it(local_server: Local):
    opened = {"project": "acme", "stack": "web"}
    async with receiving() as receiver:
        result = await created(local_server, WEBHOOK | {"url": receiver.url})
        deployment = (await local_server.ask("POST", "/log/v1/deployments", json=opened)).json["id"]
        await until(lambda: receiver.requests)
        await wait_for_state(local_server, result["id"], lag=0)

    answer = await local_server.get(f"/log/v1/deployments/{deployment}/deliveries")
    unknown = await local_server.get(f"/log/v1/deployments/{NOBODYS}/deliveries")
    page = await local_server.get(f"/ui/deployments/{deployment}")

    [summary] = answer.json["deliveries"]
    assert (summary["subscription"], summary["name"], summary["target"]) == (
        result["id"], result["name"], result["target"],
    )  # fmt: skip
    assert summary["events"] == summary["delivered"] >= 1
    assert (summary["result"], summary["error"]) == ("delivered", None)
    assert_problem(unknown, 404, "deployment-not-found")
    assert b"Notified subscriptions" in page.body
    assert f"subscriptions/{result['id']}".encode() in page.body


async def test_attempts_and_dead_letters_are_paged(local_server: Local):
    async with receiving(REFUSED, REFUSED, REFUSED) as receiver:
        result = await created(local_server, SLACK | {"url": receiver.url})
        await local_server.append([line() for _ in range(3)])
        await wait_for_state(local_server, result["id"], dead_lettered=3)

    for what, name, order in (("attempts", "before", "432"), ("dead_letters", "after", "234")):
        path = f"{SUBSCRIPTIONS}/{result['id']}/{what.replace('_', '-')}?limit=2"
        first = (await local_server.get(path)).json
        second = (await local_server.get(f"{path}&{name}={first['next']}")).json
        assert [each["position"] for each in first[what] + second[what]] == list(order)
        assert "next" not in second


async def test_an_event_is_redelivered(local_server: Local):
    async with receiving(REFUSED, REFUSED) as receiver:
        result = await created(local_server, SLACK | {"url": receiver.url})
        [first, _] = await local_server.append([line(), line()])
        await wait_for_state(local_server, result["id"], dead_lettered=2)

        one = await act(local_server, result["id"], "redeliver", {"event": first})
        await wait_for_state(local_server, result["id"], dead_lettered=1, pending=0)
        later = await act(
            local_server, result["id"], "redeliver", {"since": "2100-01-01T00:00:00Z"}
        )
        all_ = await act(local_server, result["id"], "redeliver", {"since": "-1h"})
        await wait_for_state(local_server, result["id"], dead_lettered=0, pending=0)

    assert [response.status for response in (one, later, all_)] == [202] * 3
    assert [response.json["events"] for response in (one, later, all_)] == [1, 0, 1]
    assert len(receiver.requests) == 4


async def test_a_test_event_is_delivered_at_once(local_server: Local):
    async with receiving(status(204), status(500, body=b"broken"), status(204)) as receiver:
        endpoint = {"url": f"{receiver.url}/x", "filter": {"type": ["x"]}}
        result = await created(local_server, WEBHOOK | endpoint)
        escape = await created(
            local_server, WEBHOOK | {"url": f"{receiver.url}/x", "format": "escape"}
        )

        good = await act(local_server, result["id"], "test")
        bad = await act(local_server, result["id"], "test")
        other = await act(local_server, escape["id"], "test")

    assert (good.status, good.json["result"], good.json["status"]) == (200, "delivered", 204)
    assert (bad.status, bad.json["result"], bad.json["status"]) == (200, "failed", 500)
    assert bad.json["response"] == "broken"
    assert all(head.startswith(b"POST /x ") for head, _ in receiver.requests)
    assert other.json["result"] == "delivered"
    assert json.loads(receiver.requests[2][1])["type"] == "SUBSCRIPTION_TEST"


@pytest.mark.parametrize(
    ("body", "code", "kind", "field"),
    [
        ({}, 400, "invalid-subscription", "event"),
        ({"event": "x", "since": "-1h"}, 400, "invalid-subscription", "since"),
        ({"since": "soon"}, 400, "invalid-subscription", "since"),
        ({"event": "x"}, 400, "invalid-cursor", "event"),
        ({"event": NOBODYS}, 400, "invalid-cursor", "event"),
    ],
)
async def test_an_impossible_redelivery_is_refused(
    server: Local, body: object, code: int, kind: str, field: str | None
):
    result = await created(server)

    response = await act(server, result["id"], "redeliver", body)

    assert_problem(response, code, kind, field)


@pytest.mark.parametrize("id", ["x", "a%20b", NOBODYS, "x" * 1000])
async def test_an_unknown_subscription_is_not_found(server: Local, id: str):
    one = f"{SUBSCRIPTIONS}/{id}"

    responses = [
        await server.get(one),
        await server.ask("PATCH", one, data=b"{}"),
        await server.ask("DELETE", one),
        await server.get(f"{one}/attempts"),
        await server.get(f"{one}/dead-letters"),
        *[await act(server, id, what) for what in ("pause", "resume", "rotate-secret", "test")],
        await act(server, id, "redeliver", {"since": "-1h"}),
    ]

    for response in responses:
        assert_problem(response, 404, "subscription-not-found")


# Secrets


async def test_a_secret_is_only_in_the_one_response(tmp_path: Path, key_file: str):
    folder = tmp_path / "store"
    folder.mkdir()
    options: dict[str, Any] = {"secret_key_file": key_file, "log_level": "debug"}

    async with spawned(store_url_at(folder / "log.db"), **options) as service:
        result = await created(service)
        drawn = result.pop("secret")
        given = await created(service, WEBHOOK | {"secret": SECRET})
        bot = await created(service, BOT)
        wrong = await create(service, BOT | {"url": WEBHOOK["url"]})
        recorded = [wrong.body, json.dumps([result, given, bot]).encode()]
        for each in (result, given, bot):
            one = f"{SUBSCRIPTIONS}/{each['id']}"
            recorded.append((await service.ask("PATCH", one, json={"name": "x"})).body)
            paths = (one, f"{one}/attempts", f"{one}/dead-letters")
            recorded += [(await service.get(path)).body for path in paths]
            recorded += [
                (await act(service, each["id"], what)).body for what in ("pause", "resume")
            ]
        paths = (SUBSCRIPTIONS, "/log/v1/events", "/metrics")
        recorded += [(await service.get(path)).body for path in paths]
        stored = b"".join(file.read_bytes() for file in folder.iterdir())
        _, log = await service.end()
    stored += b"".join(file.read_bytes() for file in folder.iterdir())

    assert result["id"].encode() in stored
    for secret in (drawn, SECRET, PATH, TOKEN, "very-secret"):
        for form in (secret.encode(), secret.removeprefix("whsec_").encode()):
            assert form not in b"".join(recorded)
            assert form not in stored
            assert form not in log.encode()
