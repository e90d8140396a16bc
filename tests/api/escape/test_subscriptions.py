"""EscapeKit's subscriptions over a real server: put as a whole, read by whom, and delivered how."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploylog.api.escape.subscriptions import parse_collection, parse_subscriptions
from deploylog.api.escape.wire import VISIBLE, render_delivery
from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.store.contract import Store
from deploylog.subscriptions.reconcile import DesiredSubscription
from deploylog.subscriptions.subscription import EndpointPatch, Subscription
from support.api_keys import key_headers
from support.factories import event, new_event
from support.fake_slack import fake_slack
from support.receivers import receiving
from support.servers import Answer, Local, running
from support.subscribers import encryption_key_file

ROOT = "/api/v1/events/subscriptions/project"
HOOK = {"type": "webhook", "url": "https://hooks.example.com/very-secret"}
CHAT = {
    "type": "slack", "url": "https://chat.example.com/T0/very-secret", "slack_icon": ":rocket:",
    "slack_username": "Escape",
}  # fmt: skip


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    return encryption_key_file(tmp_path)


def test_an_event_without_an_escapekit_form_is_refused():
    with pytest.raises(InvalidEvent, match="has no escape format"):
        render_delivery(event(type="resource.create.started"))


@pytest.fixture
def options(key_file: str) -> dict[str, Any]:
    return {"secret_key_file": key_file}


async def put(server: Local, body: object, project: str = "acme", **how: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return await server.ask("PUT", f"{ROOT}/{project}/", data=data, **how)


async def put_all(server: Local, body: object, project: str = "acme", **how: Any) -> None:
    response = await put(server, body, project, **how)
    assert (response.status, response.body) == (200, b"{}\n"), response


async def get_all(server: Local, project: str = "acme", **how: Any) -> Any:
    response = await server.get(f"{ROOT}/{project}/", **how)
    assert response.status == 200, response
    assert response.headers["content-type"] == "application/json"
    assert response.body.endswith(b"}\n")
    return response.json


async def stored_subscriptions(store: Store) -> dict[str, Subscription]:
    return {each.name: each for each in await store.subscriptions.list()}


# Replacing subscriptions


async def test_a_put_replaces_all_subscriptions(server: Local):
    await put_all(server, {"s1": HOOK, "s2": CHAT | {"id": "s2"}})
    first = await get_all(server)
    await put_all(server, {"s3": HOOK})
    second = await get_all(server)
    await put_all(server, {})

    assert first == {"s1": HOOK | {"id": "s1"}, "s2": CHAT | {"id": "s2"}}
    assert second == {"s3": HOOK | {"id": "s3"}}
    assert await get_all(server) == {}


async def test_an_array_is_accepted_and_gets_ids(server: Local):
    await put_all(server, [HOOK, CHAT | {"id": "s2"}, CHAT | {"id": ["s3"]}, HOOK | {"id": None}])

    found = await get_all(server)

    assert {"s2", "s3"} < found.keys()
    assert len(found) == 4
    assert all(each["id"] == id for id, each in found.items())
    await put_all(server, list(found.values()))
    assert await get_all(server) == found


async def test_each_project_has_its_own_subscriptions(server: Local):
    await put_all(server, {"s1": HOOK}, "acme")
    await put_all(server, {"s1": CHAT}, "other")
    await put_all(server, {}, "acme")

    assert await get_all(server, "acme") == {}
    assert list(await get_all(server, "other")) == ["s1"]
    assert await get_all(server, "unknown") == {}


async def test_they_are_ordinary_subscriptions(server: Local, store: Store):
    await server.append([{"type": "x", "source": "t", "scopes": "project/acme"}])

    await put_all(server, {"s1": HOOK, "s2": CHAT})

    [hook, chat] = (await server.get("/log/v1/subscriptions")).json["subscriptions"]
    assert [hook["name"], hook["kind"], chat["kind"]] == ["s1", "webhook", "slack"]
    assert (hook["format"], hook["order"], hook["checkpoint"]) == ("escape", "strict", "1")
    assert hook["scopes"] == ["inventory/acme", "state/acme"]
    assert hook["filter"] == {"type": list(VISIBLE.all_of[0].values)}
    assert (hook["target"], hook["secrets"]) == ("https://hooks.example.com/…", [])
    assert (await stored_subscriptions(store))["s1"].collection == "escape:acme"


async def test_a_member_of_a_group_cannot_be_renamed_alone(server: Local, store: Store):
    await put_all(server, {"s1": HOOK})
    one = f"/log/v1/subscriptions/{(await stored_subscriptions(store))['s1'].id}"

    renamed = await server.ask("PATCH", one, json={"name": "s2"})
    reordered = await server.ask("PATCH", one, json={"name": "s1", "order": "per_deployment"})

    assert (renamed.status, reordered.status) == (409, 200)
    assert list(await get_all(server)) == ["s1"]


async def test_an_unchanged_subscription_keeps_its_state(server: Local, store: Store):
    owner = await key_headers(store, "admin:state/acme", name="owner", header="X-Escape-Token")
    other = await key_headers(store, "admin:state/acme", name="other", header="X-Escape-Token")
    await put_all(server, {"s1": HOOK, "s2": HOOK, "s3": HOOK}, headers=owner)
    before = await stored_subscriptions(store)

    changed = HOOK | {"url": "https://other.example/"}
    spelled = HOOK | {"url": "https://HOOKS.example.com/very-secret", "slack_icon": ""}
    await put_all(server, {"s1": spelled, "s2": changed, "s4": CHAT}, headers=other)

    after = await stored_subscriptions(store)
    assert after.keys() == {"s1", "s2", "s4"}
    assert after["s1"] == before["s1"]
    assert [after[name].owner.name for name in ("s1", "s2", "s4")] == ["owner", "other", "other"]
    assert after["s2"].id == before["s2"].id
    assert after["s2"].shown == "https://other.example/…"


async def test_a_subscription_without_an_id_is_matched_by_its_content(server: Local, store: Store):
    await put_all(server, [HOOK, CHAT])
    before = await stored_subscriptions(store)

    await put_all(server, [CHAT, HOOK, HOOK])

    after = await stored_subscriptions(store)
    assert before.items() <= after.items()
    assert len(after) == 3


@pytest.mark.parametrize("type", ["slack", "SLACK", "Slack"])
async def test_a_type_is_case_insensitive(server: Local, type: str):
    await put_all(server, {"s1": CHAT | {"type": type}})

    assert (await get_all(server))["s1"]["type"] == "slack"


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
    ({"s1": []}, "A subscription must be an object"),
    ([HOOK | {"id": "a"}, HOOK | {"id": "a"}], "'a' is listed twice"),
    ([HOOK] * 101, "at most 100 subscriptions are allowed"),
    ({"x" * 129: HOOK}, None),
]


@pytest.mark.parametrize(("body", "text"), INVALID)
async def test_an_invalid_put_has_a_message_and_changes_nothing(
    server: Local, body: object, text: str | None
):
    await put_all(server, {"s1": CHAT})

    response = await put(server, body)

    assert response.status == 400
    assert response.headers["content-type"].startswith("text/plain")
    assert text is None or response.body.decode() == text
    assert b"very-secret" not in response.body
    assert await get_all(server) == {"s1": CHAT | {"id": "s1"}}


def test_only_slack_has_an_icon_and_a_name():
    body = json.dumps({"a": CHAT, "b": CHAT | {"type": "webhook"}}).encode()

    assert parse_subscriptions(body) == [
        DesiredSubscription(
            name="a", kind="slack",
            endpoint=EndpointPatch(url=CHAT["url"], username="Escape", icon=":rocket:"),
        ),
        DesiredSubscription(name="b", kind="webhook", endpoint=EndpointPatch(url=CHAT["url"])),
    ]  # fmt: skip


# Access


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
async def test_access_to_subscriptions_follows_from_access_to_the_project(
    server: Local, store: Store, grants: list[str], read: int, written: int
):
    headers = await key_headers(store, *grants, name="who", header="X-Escape-Token")

    responses = [
        await server.get(f"{ROOT}/acme/", headers=headers),
        await put(server, {"s1": HOOK}, headers=headers),
    ]

    assert [response.status for response in responses] == [read, written]
    assert all(response.body == b"" for response in responses if response.status == 403)


async def test_read_access_reveals_no_secret(server: Local, store: Store):
    reader = await key_headers(store, "read:state/acme", name="reader", header="X-Escape-Token")
    writer = await key_headers(store, "admin:state/acme", name="writer", header="X-Escape-Token")
    await put_all(server, {"s1": HOOK, "s2": CHAT}, headers=writer)

    assert (await get_all(server, headers=writer))["s1"]["url"] == HOOK["url"]
    seen = await get_all(server, headers=reader)
    assert seen["s1"]["url"] == "https://hooks.example.com/…"
    assert seen["s2"]["url"] == "https://chat.example.com/…"


@pytest.mark.parametrize("project", ["x", "_x", "a b", "-a", "%C3%A9t%C3%A9"])
async def test_an_impossible_project_has_no_subscriptions(
    server: Local, store: Store, project: str
):
    headers = await key_headers(store, name="who", header="X-Escape-Token")

    assert await get_all(server, project, headers=headers) == {}
    assert (await put(server, {}, project, headers=headers)).status == 400


async def test_missing_credentials_and_unknown_methods_have_an_empty_body(
    server: Local, store: Store
):
    await key_headers(store, "admin:/", name="who", header="X-Escape-Token")

    unknown = await server.get(f"{ROOT}/acme/")
    posted = await server.ask("POST", f"{ROOT}/acme/")
    unrouted = await server.get(f"{ROOT}/")

    assert (unknown.status, unknown.body) == (401, b"")
    assert (posted.status, posted.body) == (405, b"")
    assert (unrouted.status, unrouted.body) == (404, b"404 page not found\n")


async def test_without_an_encryption_key_a_put_is_refused(store: Store):
    async with running(store) as server:
        response = await put(server, {"s1": HOOK})
        found = await get_all(server)
        await put_all(server, {})

    assert response.status == 409
    assert b"secret_key_file" in response.body
    assert found == {}


async def test_the_path_is_the_same_without_its_last_slash(server: Local):
    await put_all(server, {"s1": HOOK})

    assert (await server.get(f"{ROOT}/acme")).json == await get_all(server)


# Deliveries


async def test_a_receiver_gets_the_projects_events(store: Store, key_file: str):
    networks = "127.0.0.0/8"
    async with (
        receiving() as receiver,
        running(store, secret_key_file=key_file, delivery_allowed_networks=networks) as server,
    ):
        await put_all(server, {"s1": {"type": "webhook", "url": f"{receiver.url}/escape"}})
        for project in ("other", "acme"):
            created = {
                "type": "CREATE_STATE_ENVIRONMENT", "state_project": project,
                "state_environment": "ci", "allowed_groups": ["*"], "username": "ann",
            }  # fmt: skip
            response = await server.ask("POST", "/internal/create-event", json=created)
            assert response.status == 200
        await server.until(lambda: receiver.requests)
        [visible, _] = (await server.get("/api/v1/events/query/")).json

    [(head, body)] = receiver.requests
    assert head.startswith(b"POST /escape ")
    assert b"application/json" in head
    assert json.loads(body) == {
        name: value for name, value in visible.items() if not name.startswith("allowed_")
    }


async def test_a_channel_gets_events_under_escapekits_names(store: Store, key_file: str):
    async with (
        fake_slack() as slack,
        running(store, secret_key_file=key_file, delivery_allowed_networks="127.0.0.0/8") as server,
    ):
        chat = {"type": "slack", "url": slack.webhook_url, "slack_username": "Escape"}
        await put_all(server, {"s1": chat})
        created = {
            "type": "CREATE_STATE_ENVIRONMENT", "state_project": "acme", "state_environment": "ci",
            "username": "ann",
        }  # fmt: skip
        response = await server.ask("POST", "/internal/create-event", json=created)
        assert response.status == 200
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


def test_a_delivery_leaves_out_the_events_groups():
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
def test_a_projects_subscriptions_get_its_events(type: str, scopes: tuple[str, ...], wanted: bool):
    collection = parse_collection("acme")

    assert collection is not None
    assert collection.filter.matches(new_event(type, scopes=scopes)) is wanted


def test_an_invalid_project_has_no_group():
    assert parse_collection("a b") is None
    with pytest.raises(InvalidInput):
        parse_subscriptions(b"null")
