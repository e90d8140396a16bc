"""EscapeKit's subscriptions over a real server: put as a whole, read by whom, and delivered how."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.api.escape.subscriptions import parse_collection, parse_subscriptions
from deploylog.api.escape.wire import SHOWN, render_delivery
from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import make_encryption_key
from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from deploylog.subscriptions.reconcile import DesiredSubscription
from deploylog.subscriptions.subscription import EndpointPatch, Subscription
from support.factories import event, new_event, now
from support.fake_slack import fake_slack
from support.receivers import receiving
from support.servers import Answer, Local, running

ROOT = "/api/v1/events/subscriptions/project"
HOOK = {"type": "webhook", "url": "https://hooks.example.com/very-secret"}
CHAT = {
    "type": "slack", "url": "https://chat.example.com/T0/very-secret", "slack_icon": ":rocket:",
    "slack_username": "Escape",
}  # fmt: skip


@pytest.fixture
def sealing(tmp_path: Path) -> str:
    file = tmp_path / "sealing"
    file.write_text(make_encryption_key())
    return str(file)


def test_an_event_that_escapekit_has_no_form_for_is_refused():
    with pytest.raises(InvalidEvent, match="has no escape format"):
        render_delivery(event(type="resource.create.started"))


@pytest.fixture
async def server(store: Store, sealing: str) -> AsyncIterator[Local]:
    async with running(store, secret_key_file=sealing) as server:
        yield server


async def key(store: Store, name: str, *grants: str) -> dict[str, str]:
    """The headers of a new key, as EscapeKit's clients send it."""
    stored, text = make_key(
        name=name, groups=(), grants=[parse_grant(grant) for grant in grants], now=now()
    )
    await store.credentials.add(stored)
    return {"X-Escape-Token": text}


async def put(server: Local, body: object, project: str = "acme", **how: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return await server.ask("PUT", f"{ROOT}/{project}/", data=data, **how)


async def has_put(server: Local, body: object, project: str = "acme", **how: Any) -> None:
    answer = await put(server, body, project, **how)
    assert (answer.status, answer.body) == (200, b"{}\n"), answer


async def got(server: Local, project: str = "acme", **how: Any) -> Any:
    answer = await server.get(f"{ROOT}/{project}/", **how)
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.endswith(b"}\n")
    return answer.json


async def kept(store: Store) -> dict[str, Subscription]:
    return {each.name: each for each in await store.subscriptions.list()}


# What is put


async def test_what_is_put_is_what_there_is(server: Local):
    await has_put(server, {"s1": HOOK, "s2": CHAT | {"id": "s2"}})
    first = await got(server)
    await has_put(server, {"s3": HOOK})
    second = await got(server)
    await has_put(server, {})

    assert first == {"s1": HOOK | {"id": "s1"}, "s2": CHAT | {"id": "s2"}}
    assert second == {"s3": HOOK | {"id": "s3"}}
    assert await got(server) == {}


async def test_an_array_is_taken_and_ids_are_given(server: Local):
    await has_put(server, [HOOK, CHAT | {"id": "s2"}, CHAT | {"id": ["s3"]}, HOOK | {"id": None}])

    found = await got(server)

    assert {"s2", "s3"} < found.keys()
    assert len(found) == 4
    assert all(each["id"] == id for id, each in found.items())
    await has_put(server, list(found.values()))
    assert await got(server) == found


async def test_projects_have_sets_of_their_own(server: Local):
    await has_put(server, {"s1": HOOK}, "acme")
    await has_put(server, {"s1": CHAT}, "other")
    await has_put(server, {}, "acme")

    assert await got(server, "acme") == {}
    assert list(await got(server, "other")) == ["s1"]
    assert await got(server, "unknown") == {}


async def test_they_are_ordinary_subscriptions(server: Local, store: Store):
    await server.append([{"type": "x", "source": "t", "scopes": "project/acme"}])

    await has_put(server, {"s1": HOOK, "s2": CHAT})

    [hook, chat] = (await server.get("/log/v1/subscriptions")).json["subscriptions"]
    assert [hook["name"], hook["kind"], chat["kind"]] == ["s1", "webhook", "slack"]
    assert (hook["format"], hook["order"], hook["checkpoint"]) == ("escape", "strict", "1")
    assert hook["scopes"] == ["inventory/acme", "state/acme"]
    assert hook["filter"] == {"type": list(SHOWN.all_of[0].values)}
    assert (hook["target"], hook["secrets"]) == ("https://hooks.example.com/…", [])
    assert (await kept(store))["s1"].collection == "escape:acme"


async def test_one_of_a_set_is_not_renamed_alone(server: Local, store: Store):
    await has_put(server, {"s1": HOOK})
    one = f"/log/v1/subscriptions/{(await kept(store))['s1'].id}"

    renamed = await server.ask("PATCH", one, json={"name": "s2"})
    reordered = await server.ask("PATCH", one, json={"name": "s1", "order": "per_deployment"})

    assert (renamed.status, reordered.status) == (409, 200)
    assert list(await got(server)) == ["s1"]


async def test_what_stays_the_same_keeps_all_that_it_has(server: Local, store: Store):
    owner = await key(store, "owner", "admin:state/acme")
    other = await key(store, "other", "admin:state/acme")
    await has_put(server, {"s1": HOOK, "s2": HOOK, "s3": HOOK}, headers=owner)
    before = await kept(store)

    changed = HOOK | {"url": "https://other.example/"}
    spelled = HOOK | {"url": "https://HOOKS.example.com/very-secret", "slack_icon": ""}
    await has_put(server, {"s1": spelled, "s2": changed, "s4": CHAT}, headers=other)

    after = await kept(store)
    assert after.keys() == {"s1", "s2", "s4"}
    assert after["s1"] == before["s1"]
    assert [after[name].owner.name for name in ("s1", "s2", "s4")] == ["owner", "other", "other"]
    assert after["s2"].id == before["s2"].id
    assert after["s2"].shown == "https://other.example/…"


async def test_what_has_no_id_is_known_by_what_it_is(server: Local, store: Store):
    await has_put(server, [HOOK, CHAT])
    before = await kept(store)

    await has_put(server, [CHAT, HOOK, HOOK])

    after = await kept(store)
    assert before.items() <= after.items()
    assert len(after) == 3


@pytest.mark.parametrize("type", ["slack", "SLACK", "Slack"])
async def test_a_type_is_read_in_any_case(server: Local, type: str):
    await has_put(server, {"s1": CHAT | {"type": type}})

    assert (await got(server))["s1"]["type"] == "slack"


INVALID: list[tuple[object, str | None]] = [
    (b"[", "Invalid JSON"),
    (b"7", "Invalid JSON"),
    (b"", "Invalid JSON"),
    (b'{"s1": "\xff"}', "Invalid JSON"),
    (b"[" * 10_000, "Invalid JSON"),
    ({"s1": HOOK | {"type": "sms"}}, "Unknown hook type 'sms'"),
    ({"s1": {"url": HOOK["url"]}}, "Unknown hook type ''"),
    ({"s1": HOOK | {"bogus": "x"}}, "Unknown  hook configuration key 'bogus'"),
    ({"s1": {"type": "webhook"}}, "Missing 'url'"),
    ({"s1": HOOK | {"url": ""}}, "Missing 'url'"),
    ({"s1": HOOK | {"url": "ftp://x.example/"}}, "'url' is not an http or https address"),
    ({"s1": HOOK | {"url": 7}}, "'url' is not a string"),
    ({"s1": HOOK | {"url": "http://127.0.0.1/"}}, None),
    ({"s1": HOOK | {"url": "http://"}}, None),
    ({"s1": CHAT | {"slack_icon": "rocket"}}, None),
    ({"s1": HOOK | {"id": "s2"}}, "'s1' has another id"),
    ({"s1": HOOK | {"id": ["a", "b"]}}, "'id' is not a string"),
    ({"s1": []}, "A subscription is an object"),
    ([HOOK | {"id": "a"}, HOOK | {"id": "a"}], "'a' is listed twice"),
    ([HOOK] * 101, "at most 100 subscriptions are allowed"),
    ({"x" * 129: HOOK}, None),
]


@pytest.mark.parametrize(("body", "text"), INVALID)
async def test_what_is_wrong_is_said_and_changes_nothing(
    server: Local, body: object, text: str | None
):
    await has_put(server, {"s1": CHAT})

    answer = await put(server, body)

    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert text is None or answer.body.decode() == text
    assert b"very-secret" not in answer.body
    assert await got(server) == {"s1": CHAT | {"id": "s1"}}


def test_only_slack_has_an_icon_and_a_name():
    body = json.dumps({"a": CHAT, "b": CHAT | {"type": "webhook"}}).encode()

    assert parse_subscriptions(body) == [
        DesiredSubscription(
            name="a", kind="slack",
            endpoint=EndpointPatch(url=CHAT["url"], username="Escape", icon=":rocket:"),
        ),
        DesiredSubscription(name="b", kind="webhook", endpoint=EndpointPatch(url=CHAT["url"])),
    ]  # fmt: skip


# Who may


@pytest.mark.parametrize(
    ("grants", "read", "written"),
    [
        (["admin:/"], 200, 200),
        (["admin:state/acme"], 200, 200),
        (["admin:inventory/acme"], 200, 200),
        (["write:state/acme"], 403, 200),
        (["write:inventory/acme"], 403, 200),
        (["read:state/acme", "write:inventory/acme"], 200, 200),
        (["read:state/acme"], 200, 403),
        (["read:inventory/acme"], 200, 403),
        (["read:state/acme/prod"], 403, 403),
        (["admin:state/acme2"], 403, 403),
        (["admin:project/acme"], 403, 403),
        ([], 403, 403),
    ],
)
async def test_one_reads_and_writes_what_one_has_the_project_for(
    server: Local, store: Store, grants: list[str], read: int, written: int
):
    who = await key(store, "who", *grants)

    answers = [
        await server.get(f"{ROOT}/acme/", headers=who),
        await put(server, {"s1": HOOK}, headers=who),
    ]

    assert [answer.status for answer in answers] == [read, written]
    assert all(answer.body == b"" for answer in answers if answer.status == 403)


async def test_who_may_only_read_sees_no_secret(server: Local, store: Store):
    reader = await key(store, "reader", "read:state/acme")
    writer = await key(store, "writer", "admin:state/acme")
    await has_put(server, {"s1": HOOK, "s2": CHAT}, headers=writer)

    assert (await got(server, headers=writer))["s1"]["url"] == HOOK["url"]
    seen = await got(server, headers=reader)
    assert seen["s1"]["url"] == "https://hooks.example.com/…"
    assert seen["s2"]["url"] == "https://chat.example.com/…"


@pytest.mark.parametrize("project", ["x", "_x", "a b", "-a", "%C3%A9t%C3%A9"])
async def test_there_is_nothing_of_a_project_that_cannot_be(
    server: Local, store: Store, project: str
):
    who = await key(store, "who")

    assert await got(server, project, headers=who) == {}
    assert (await put(server, {}, project, headers=who)).status == 400


async def test_no_credential_and_no_such_method_are_answered_without_a_body(
    server: Local, store: Store
):
    await key(store, "who", "admin:/")

    unknown = await server.get(f"{ROOT}/acme/")
    posted = await server.ask("POST", f"{ROOT}/acme/")
    unrouted = await server.get(f"{ROOT}/")

    assert (unknown.status, unknown.body) == (401, b"")
    assert (posted.status, posted.body) == (405, b"")
    assert (unrouted.status, unrouted.body) == (404, b"404 page not found\n")


async def test_without_a_sealing_key_nothing_is_put(store: Store):
    async with running(store) as server:
        answer = await put(server, {"s1": HOOK})
        found = await got(server)
        await has_put(server, {})

    assert answer.status == 409
    assert b"secret_key_file" in answer.body
    assert found == {}


async def test_the_path_is_the_same_without_its_last_slash(server: Local):
    await has_put(server, {"s1": HOOK})

    assert (await server.get(f"{ROOT}/acme")).json == await got(server)


# What is delivered


async def test_a_receiver_is_told_of_the_projects_events(store: Store, sealing: str):
    networks = "127.0.0.0/8"
    async with (
        receiving() as receiver,
        running(store, secret_key_file=sealing, delivery_allowed_networks=networks) as server,
    ):
        await has_put(server, {"s1": {"type": "webhook", "url": f"{receiver.url}/escape"}})
        for project in ("other", "acme"):
            created = {
                "type": "CREATE_STATE_ENVIRONMENT", "state_project": project,
                "state_environment": "ci", "allowed_groups": ["*"], "username": "ann",
            }  # fmt: skip
            answer = await server.ask("POST", "/internal/create-event", json=created)
            assert answer.status == 200
        await server.until(lambda: receiver.requests)
        [shown, _] = (await server.get("/api/v1/events/query/")).json

    [(head, body)] = receiver.requests
    assert head.startswith(b"POST /escape ")
    assert b"application/json" in head
    assert json.loads(body) == {
        name: value for name, value in shown.items() if not name.startswith("allowed_")
    }


async def test_a_channel_is_told_in_escapekits_words(store: Store, sealing: str):
    async with (
        fake_slack() as slack,
        running(store, secret_key_file=sealing, delivery_allowed_networks="127.0.0.0/8") as server,
    ):
        chat = {"type": "slack", "url": slack.webhook_url, "slack_username": "Escape"}
        await has_put(server, {"s1": chat})
        created = {
            "type": "CREATE_STATE_ENVIRONMENT", "state_project": "acme", "state_environment": "ci",
            "username": "ann",
        }  # fmt: skip
        answer = await server.ask("POST", "/internal/create-event", json=created)
        assert answer.status == 200
        await server.until(lambda: slack.roots)
        [member] = (await server.get("/log/v1/subscriptions")).json["subscriptions"]
        tested = await server.post(
            b"", "application/json", f"/log/v1/subscriptions/{member['id']}/test"
        )

    message, test = slack.roots
    assert tested.json["result"] == "delivered"
    assert message["text"] == "CREATE_STATE_ENVIRONMENT state/acme/ci"
    assert "`CREATE_STATE_ENVIRONMENT` `state/acme/ci` by `ann`" in json.dumps(message["blocks"])
    assert test["text"].startswith("SUBSCRIPTION_TEST s1: ")
    assert "state.environment" not in json.dumps(slack.roots)


def test_a_receiver_is_not_told_who_may_see_the_event():
    delivered = render_delivery(
        event(
            7,
            type="state.deployment.updated",
            scopes=("state/acme/prod/web", "inventory/acme"),
            groups=("ops",),
            actor="ann",
            time=5,
            data={"a": 1},
        )
    )

    assert json.loads(delivered) == {
        "id": "7", "type": "UPDATE_STATE_DEPLOYMENT", "timestamp": 5, "username": "ann",
        "inventory_project": "acme", "inventory_namespace": "acme", "state_project": "acme",
        "state_environment": "prod", "state_deployment": "web", "data": {"a": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("type", "scopes", "wanted"),
    [
        ("state.deployment.updated", ("state/acme/prod/web",), True),
        ("inventory.release.uploaded", ("inventory/acme/app",), True),
        ("state.deployment.updated", ("state/other",), False),
        ("resource.create.completed", ("state/acme",), False),
    ],
)
def test_a_project_is_told_of_what_it_has(type: str, scopes: tuple[str, ...], wanted: bool):
    collection = parse_collection("acme")

    assert collection is not None
    assert collection.filter.matches(new_event(type, scopes=scopes)) is wanted


def test_what_is_no_project_has_no_set():
    assert parse_collection("a b") is None
    with pytest.raises(InvalidInput):
        parse_subscriptions(b"null")
