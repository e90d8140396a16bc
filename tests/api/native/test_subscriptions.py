"""Subscriptions over the native API, as ``docs/reference/native-api.md`` says it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import make_encryption_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.signing import make_secret
from support.backends import store_url_at
from support.factories import now
from support.receivers import receiving, status
from support.servers import Answer, Local, Running, line, running, spawned
from support.waiting import until

SUBSCRIPTIONS = "/log/v1/subscriptions"
JSON = "application/json"

#: An id that nothing has.
NOBODYS = "5c5ecbb0-6d2c-4f1f-9d0c-0d6f5f6d3c11"

#: What must be told nowhere.
SECRET = make_secret()
PATH = "T0PATH/B0PATH/very-secret-path"
TOKEN = "xoxb-very-secret-token"

WEBHOOK = {"name": "ops", "kind": "webhook", "url": f"https://hooks.example.com:8443/{PATH}"}
BOT = {"name": "bot", "kind": "slack", "token": TOKEN, "channel": "#deploys"}


@pytest.fixture
def sealing(tmp_path: Path) -> str:
    file = tmp_path / "sealing"
    file.write_text(make_encryption_key())
    return str(file)


@pytest.fixture
async def server(store: Store, sealing: str) -> AsyncIterator[Local]:
    async with running(store, secret_key_file=sealing) as server:
        yield server


@pytest.fixture
async def near(store: Store, sealing: str) -> AsyncIterator[Local]:
    """A service that may call receivers of this machine."""
    networks = "127.0.0.0/8"
    async with running(
        store, secret_key_file=sealing, delivery_allowed_networks=networks
    ) as server:
        yield server


#: With this answer, Slack has an event given up.
REFUSED = status(400, body=b"invalid_payload")


async def key(
    store: Store, name: str, *grants: str, groups: tuple[str, ...] = ()
) -> dict[str, str]:
    """The headers of a new key."""
    stored, text = make_key(
        name=name, groups=groups, grants=[parse_grant(grant) for grant in grants], now=now()
    )
    await store.credentials.add(stored)
    return {"Authorization": f"Bearer {text}"}


async def create(server: Running, body: object, **how: Any) -> Answer:
    return await server.post(body, JSON, SUBSCRIPTIONS, **how)


async def created(server: Running, body: object = WEBHOOK, **how: Any) -> Any:
    answer = await create(server, body, **how)
    assert answer.status == 201, answer.body
    return answer.json


async def act(server: Running, id: str, action: str, body: object = b"", **how: Any) -> Answer:
    return await server.post(body, JSON, f"{SUBSCRIPTIONS}/{id}/{action}", **how)


def assert_problem(answer: Answer, status: int, kind: str, field: str | None = None) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:deploylog:problem:{kind}")
    assert answer.json.get("field") == field


async def told_until(server: Running, id: str, **what: object) -> Any:
    """The subscription, once it says this of itself."""

    async def is_so() -> Any:
        told = (await server.get(f"{SUBSCRIPTIONS}/{id}")).json
        return told if what.items() <= told.items() else None

    return await until(is_so)


# Creating


async def test_a_subscription_is_answered_with_all_that_may_be_told(server: Local):
    [_, last] = await server.append([line(), line()])
    body = WEBHOOK | {
        "format": "escape", "order": "per_deployment", "from": last,
        "scopes": ["project/acme/", "state/a b"],
        "filter": {"type": ["state.deployment.*"], "actor": ["ann", "bob.*"]},
    }  # fmt: skip

    answer = await create(server, body)

    told = answer.json
    assert answer.status == 201
    assert answer.headers["location"] == f"{SUBSCRIPTIONS}/{told['id']}"
    secret, [term] = told.pop("secret"), told.pop("secrets")
    assert secret.startswith("whsec_")
    assert term["expires"] is None
    assert term["created"].endswith("Z")
    types = told["filter"].pop("type")
    assert types
    assert all(type.startswith("state.deployment.") for type in types)
    assert told.pop("created").endswith("Z")
    assert told == {
        "id": told["id"], "name": "ops", "kind": "webhook", "format": "escape",
        "target": "https://hooks.example.com:8443/…", "scopes": ["project/acme", "state/a%20b"],
        "filter": {"actor": ["ann", "bob.*"]}, "order": "per_deployment", "state": "active",
        "reason": None,
        "owner": "anonymous", "checkpoint": "2", "lag": 0, "failing_since": None, "pending": 0,
        "dead_lettered": 0, "next_try": None,
    }  # fmt: skip


async def test_what_is_left_out_is_everything_in_strict_order_from_now_on(server: Local):
    await server.append([line()])

    told = await created(server)

    assert (told["format"], told["order"], told["checkpoint"]) == ("cloudevents", "strict", "1")
    assert (told["scopes"], told["filter"]) == ([], {})


async def test_a_secret_is_told_once(server: Local):
    told = await created(server)
    given = await created(server, WEBHOOK | {"secret": SECRET})
    bot = await created(server, BOT)

    again = await server.get(f"{SUBSCRIPTIONS}/{told['id']}")
    listed = await server.get(SUBSCRIPTIONS)

    assert told.pop("secret").startswith("whsec_")
    assert again.json == told
    assert listed.json["subscriptions"] == [told, given, bot]
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
        ({"from": "yesterday"}, "invalid-cursor", "from"),
        ({"colour": "red"}, "invalid-subscription", "colour"),
        ({"scope": ["project/acme"]}, "invalid-subscription", "scope"),
    ],
)
async def test_a_wrong_field_is_named(server: Local, wrong: dict[str, Any], kind: str, field: str):
    answer = await create(server, WEBHOOK | wrong)

    assert_problem(answer, 400, kind, field)
    assert b"very-secret" not in answer.body
    assert (await server.get(SUBSCRIPTIONS)).json == {"subscriptions": []}


@pytest.mark.parametrize("missing", ["name", "kind", "url"])
async def test_a_missing_field_is_named(server: Local, missing: str):
    body = {name: value for name, value in WEBHOOK.items() if name != missing}

    assert_problem(await create(server, body), 400, "invalid-subscription", missing)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"7", b'{"name":"\xff"}', b"[" * 10_000])
async def test_a_body_that_is_no_object_is_refused(server: Local, body: bytes):
    assert_problem(await create(server, body), 400, "invalid-subscription")


async def test_no_operation_takes_a_parameter_that_it_does_not_know(server: Local):
    told = await created(server)
    one = f"{SUBSCRIPTIONS}/{told['id']}"

    answers = [
        await server.post(WEBHOOK, JSON, f"{SUBSCRIPTIONS}?x=1"),
        await server.get(f"{SUBSCRIPTIONS}?x=1"),
        await server.get(f"{one}?x=1"),
        await server.ask("PATCH", f"{one}?x=1", data=b"{}"),
        await server.ask("DELETE", f"{one}?x=1"),
        await server.get(f"{one}/attempts?x=1"),
        await server.get(f"{one}/dead-letters?x=1"),
        *[await act(server, told["id"], f"{what}?x=1") for what in ("pause", "resume", "test")],
    ]

    for answer in answers:
        assert_problem(answer, 400, "invalid-input", "x")
    assert (await server.get(one)).json["state"] == "active"


async def test_without_a_sealing_key_there_are_no_subscriptions(store: Store):
    async with running(store) as server:
        answer = await create(server, WEBHOOK)
        listed = await server.get(SUBSCRIPTIONS)

    assert_problem(answer, 409, "no-encryption-key")
    assert "secret_key_file" in answer.json["detail"]
    assert listed.json == {"subscriptions": []}


# Who may


async def test_each_sees_its_own_and_administrators_see_it_too(server: Local, store: Store):
    owner = await key(store, "owner", "read:project/acme")
    other = await key(store, "other", "read:project/acme")
    admin = await key(store, "admin", "admin:project/acme")
    told = await created(server, WEBHOOK | {"scopes": ["project/acme"]}, headers=owner)
    one, rename = f"{SUBSCRIPTIONS}/{told['id']}", {"data": b'{"name": "x"}'}

    listed = [
        len((await server.get(SUBSCRIPTIONS, headers=who)).json["subscriptions"])
        for who in (owner, other, admin)
    ]

    assert told["owner"] == "owner"
    assert listed == [1, 0, 1]
    assert_problem(await server.get(one, headers=other), 404, "subscription-not-found")
    assert_problem(await server.ask("PATCH", one, headers=admin, **rename), 403, "forbidden")
    assert_problem(await act(server, told["id"], "rotate-secret", headers=admin), 403, "forbidden")
    assert (await act(server, told["id"], "pause", headers=admin)).json["state"] == "paused"
    assert (await server.ask("PATCH", one, headers=owner, **rename)).json["name"] == "x"


async def test_one_may_not_subscribe_to_what_one_may_not_see(server: Local, store: Store):
    who = await key(store, "ci", "write:project/acme")

    answer = await create(server, WEBHOOK | {"scopes": ["project/acme"]}, headers=who)

    assert_problem(answer, 403, "forbidden")


# Changing


async def test_a_change_is_answered_with_what_it_is_now(server: Local):
    told = await created(server)
    body = {
        "name": "all", "url": "http://other.example/x", "order": "per_deployment",
        "scopes": ["project/b"],
        "filter": {"type": ["x.*"]},
    }  # fmt: skip

    answer = await server.ask("PATCH", f"{SUBSCRIPTIONS}/{told['id']}", data=json.dumps(body))

    assert answer.status == 200
    changed = answer.json
    assert changed["target"] == "http://other.example/…"
    for name in ("name", "order", "scopes", "filter"):
        assert changed[name] == body[name]
    assert "secret" not in changed


@pytest.mark.parametrize("field", ["kind", "secret", "from", "id", "state", "owner"])
async def test_what_cannot_be_changed_is_named(server: Local, field: str):
    told = await created(server)

    answer = await server.ask("PATCH", f"{SUBSCRIPTIONS}/{told['id']}", json={field: "x"})

    assert_problem(answer, 400, "invalid-subscription", field)


async def test_a_subscription_waits_goes_on_and_ends(server: Local):
    told = await created(server)
    one = f"{SUBSCRIPTIONS}/{told['id']}"

    paused = (await act(server, told["id"], "pause")).json
    resumed = (await act(server, told["id"], "resume")).json
    deleted = await server.ask("DELETE", one)

    assert (paused["state"], paused["reason"]) == ("paused", "paused by anonymous")
    assert (resumed["state"], resumed["reason"]) == ("active", None)
    assert (deleted.status, deleted.body) == (204, b"")
    assert_problem(await server.get(one), 404, "subscription-not-found")


async def test_a_secret_is_replaced(server: Local):
    told = await created(server)

    drawn = (await act(server, told["id"], "rotate-secret")).json
    given = (await act(server, told["id"], "rotate-secret", {"secret": SECRET})).json
    alone = (await act(server, told["id"], "rotate-secret", {"overlap": 0})).json

    assert drawn["secret"] != told["secret"]
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
async def test_a_wrong_replacement_is_refused(server: Local, body: object, field: str):
    told = await created(server)

    answer = await act(server, told["id"], "rotate-secret", body)

    assert_problem(answer, 400, "invalid-subscription", field)


# Deliveries


async def test_what_became_of_deliveries_is_told(near: Local):
    async with receiving(REFUSED) as receiver:
        told = await created(near, {"name": "ops", "kind": "slack", "url": receiver.url})
        [event] = await near.append([line()])
        told = await told_until(near, told["id"], dead_lettered=1, lag=0)
    one = f"{SUBSCRIPTIONS}/{told['id']}"

    attempts = (await near.get(f"{one}/attempts")).json
    dead_letters = (await near.get(f"{one}/dead-letters")).json

    assert (told["checkpoint"], told["lag"], told["pending"]) == ("1", 0, 0)
    [attempted], [given_up] = attempts["attempts"], dead_letters["dead_letters"]
    assert attempted.pop("started").endswith("Z")
    assert 0 <= attempted.pop("latency_ms") < 20_000
    assert attempted == {
        "event": event, "position": "1", "result": "dead_lettered", "status": 400,
        "error": "Slack answers 400: invalid_payload", "response": "invalid_payload",
        "next_try": None,
    }  # fmt: skip
    assert given_up.pop("first_try").endswith("Z")
    assert given_up == {
        "event": event, "position": "1", "tries": 1, "error": "Slack answers 400: invalid_payload",
    }  # fmt: skip


async def test_attempts_and_dead_letters_are_paged(near: Local):
    async with receiving(REFUSED, REFUSED, REFUSED) as receiver:
        told = await created(near, {"name": "ops", "kind": "slack", "url": receiver.url})
        await near.append([line() for _ in range(3)])
        await told_until(near, told["id"], dead_lettered=3)

    for what, name, order in (("attempts", "before", "321"), ("dead_letters", "after", "123")):
        path = f"{SUBSCRIPTIONS}/{told['id']}/{what.replace('_', '-')}?limit=2"
        first = (await near.get(path)).json
        second = (await near.get(f"{path}&{name}={first['next']}")).json
        assert [each["position"] for each in first[what] + second[what]] == list(order)
        assert "next" not in second


async def test_an_event_is_sent_again(near: Local):
    async with receiving(REFUSED, REFUSED) as receiver:
        told = await created(near, {"name": "ops", "kind": "slack", "url": receiver.url})
        [first, _] = await near.append([line(), line()])
        await told_until(near, told["id"], dead_lettered=2)

        one = await act(near, told["id"], "redeliver", {"event": first})
        await told_until(near, told["id"], dead_lettered=1, pending=0)
        later = await act(near, told["id"], "redeliver", {"since": "2100-01-01T00:00:00Z"})
        all_ = await act(near, told["id"], "redeliver", {"since": "-1h"})
        await told_until(near, told["id"], dead_lettered=0, pending=0)

    assert [answer.status for answer in (one, later, all_)] == [202] * 3
    assert [answer.json["events"] for answer in (one, later, all_)] == [1, 0, 1]
    assert len(receiver.requests) == 4


async def test_a_test_is_delivered_at_once(near: Local):
    async with receiving(status(204), status(500, body=b"broken"), status(204)) as receiver:
        told = await created(near, WEBHOOK | {"url": f"{receiver.url}/x"})
        escape = await created(near, WEBHOOK | {"url": f"{receiver.url}/x", "format": "escape"})

        good = await act(near, told["id"], "test")
        bad = await act(near, told["id"], "test")
        other = await act(near, escape["id"], "test")

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
async def test_what_cannot_be_sent_again_is_refused(
    server: Local, body: object, code: int, kind: str, field: str | None
):
    told = await created(server)

    answer = await act(server, told["id"], "redeliver", body)

    assert_problem(answer, code, kind, field)


@pytest.mark.parametrize("id", ["x", "a%20b", NOBODYS, "x" * 1000])
async def test_there_is_nothing_of_what_there_is_not(server: Local, id: str):
    one = f"{SUBSCRIPTIONS}/{id}"

    answers = [
        await server.get(one),
        await server.ask("PATCH", one, data=b"{}"),
        await server.ask("DELETE", one),
        await server.get(f"{one}/attempts"),
        await server.get(f"{one}/dead-letters"),
        *[await act(server, id, what) for what in ("pause", "resume", "rotate-secret", "test")],
        await act(server, id, "redeliver", {"since": "-1h"}),
    ]

    for answer in answers:
        assert_problem(answer, 404, "subscription-not-found")


# Secrets


async def test_a_secret_is_nowhere_but_in_the_one_answer(tmp_path: Path, sealing: str):
    folder = tmp_path / "store"
    folder.mkdir()
    options = {"secret_key_file": sealing, "log_level": "debug"}

    async with spawned(store_url_at(folder / "log.db"), **options) as service:
        told = await created(service)
        drawn = told.pop("secret")
        given = await created(service, WEBHOOK | {"secret": SECRET})
        bot = await created(service, BOT)
        wrong = await create(service, BOT | {"url": WEBHOOK["url"]})
        said = [wrong.body, json.dumps([told, given, bot]).encode()]
        for each in (told, given, bot):
            one = f"{SUBSCRIPTIONS}/{each['id']}"
            said.append((await service.ask("PATCH", one, json={"name": "x"})).body)
            paths = (one, f"{one}/attempts", f"{one}/dead-letters")
            said += [(await service.get(path)).body for path in paths]
            said += [(await act(service, each["id"], what)).body for what in ("pause", "resume")]
        paths = (SUBSCRIPTIONS, "/log/v1/events", "/metrics")
        said += [(await service.get(path)).body for path in paths]
        kept = b"".join(file.read_bytes() for file in folder.iterdir())
        _, log = await service.end()
    kept += b"".join(file.read_bytes() for file in folder.iterdir())

    assert told["id"].encode() in kept
    for secret in (drawn, SECRET, PATH, TOKEN, "very-secret"):
        for form in (secret.encode(), secret.removeprefix("whsec_").encode()):
            assert form not in b"".join(said)
            assert form not in kept
            assert form not in log.encode()
