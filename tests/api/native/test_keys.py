"""Keys over HTTP: an admin gives no more than it has, and every change is an event."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import EVENTS, Answer, Local, running
from support.subscribers import add_key

KEYS = "/log/v1/keys"
JSON = "application/json"

ACME = {"name": "ci", "grants": ["write:project/acme"]}


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def make(server: Local, headers: Any = None, **fields: object) -> Answer:
    return await server.post({**ACME, **fields}, JSON, KEYS, headers=headers or {})


async def listed(server: Local, headers: Any) -> list[str]:
    """The names of the keys."""
    answer = await server.get(KEYS, headers=headers)
    assert answer.status == 200, answer.body
    return [key["name"] for key in answer.json["keys"]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_the_first_key_is_made_and_ends_anonymous_access(server: Local):
    made = await make(server, grants=["admin:/"], groups=["ops", "dev"])

    key = made.json["key"]
    assert made.status == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.json["groups"] == ["dev", "ops"]
    assert (await server.get(KEYS, headers=bearer(key))).status == 200


async def test_a_secret_is_shown_once_and_the_key_works(server: Local, store: Store):
    _, admin = await add_key(store, "admin:/", name="admin")

    made = (await make(server, admin)).json

    assert made["key"].startswith(f"dlk_{made['id']}_")
    assert (made["kind"], made["name"], made["revoked"]) == ("key", "ci", None)
    event = {"type": "x", "project": "acme"}
    used = await server.post(event, JSON, headers=bearer(made["key"]))
    assert used.status == 201
    seen = await server.get(KEYS, headers=admin)
    log = await server.get(EVENTS, headers=admin)
    secret = made["key"].rpartition("_")[2].encode()
    assert secret not in seen.body + log.body
    assert all(key.secret != secret for key in await store.credentials.list())


async def test_a_revoked_key_is_refused(server: Local, store: Store):
    _, admin = await add_key(store, "admin:/", name="admin")
    made = (await make(server, admin)).json

    revoked = await server.ask("DELETE", f"{KEYS}/{made['id']}", headers=admin)
    again = await server.ask("DELETE", f"{KEYS}/{made['id']}", headers=admin)

    assert (revoked.status, again.status) == (204, 204)
    [_, key] = (await server.get(KEYS, headers=admin)).json["keys"]
    assert key["revoked"] is not None
    refused = await server.get(EVENTS, headers=bearer(made["key"]))
    assert_problem(refused, 401, "unauthenticated")


async def test_each_change_is_an_event(server: Local, store: Store):
    _, admin = await add_key(store, "admin:/", name="admin")
    made = (await make(server, admin, groups=[])).json
    for _ in range(2):
        await server.ask("DELETE", f"{KEYS}/{made['id']}", headers=admin)

    events = (await server.get(f"{EVENTS}?order=oldest", headers=admin)).json["events"]

    assert [(event["type"], event["actor"]) for event in events] == [
        ("key.created", "admin"),
        ("key.revoked", "admin"),
    ]
    assert events[0]["scopes"] == f"key/{made['id']}"
    assert events[0]["data"] == {
        "id": made["id"], "kind": "key", "name": "ci", "grants": ["write:project/acme"],
        "groups": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "grants",
    [["admin:/"], ["read:/"], ["read:project/acme", "read:project/beta"], ["write:project"]],
)
async def test_a_grant_beyond_the_admins_own_is_refused(
    server: Local, store: Store, grants: list[str]
):
    _, admin = await add_key(store, "admin:project/acme", "read:/", name="acme admin")

    answer = await make(server, admin, grants=grants)

    assert_problem(answer, 403, "forbidden")
    assert len(await store.credentials.list()) == 1


async def test_an_admin_gives_what_lies_in_its_own_scope(server: Local, store: Store):
    _, admin = await add_key(store, "admin:project/acme", groups=("ops",), name="acme admin")

    made = await make(
        server, admin, grants=["admin:project/acme", "read:project/acme/stack/1"], groups=["ops"]
    )

    assert made.status == 201
    assert made.json["grants"] == ["admin:project/acme", "read:project/acme/stack/1"]


async def test_a_group_that_the_admin_is_not_in_is_refused(server: Local, store: Store):
    _, admin = await add_key(store, "admin:/", groups=("ops",), name="admin")

    answer = await make(server, admin, groups=["dev"])

    assert_problem(answer, 403, "forbidden")


@pytest.mark.parametrize("grant", ["read:/", "write:project/acme"])
async def test_who_administers_nothing_is_refused(server: Local, store: Store, grant: str):
    owner, headers = await add_key(store, grant, name="ci")

    answers = [
        await make(server, headers),
        await server.get(KEYS, headers=headers),
        await server.ask("DELETE", f"{KEYS}/{owner.id}", headers=headers),
    ]

    for answer in answers:
        assert_problem(answer, 403, "forbidden")


async def test_wider_keys_are_hidden_from_a_narrow_admin(server: Local, store: Store):
    root, everything = await add_key(store, "admin:/", name="root")
    await add_key(store, "read:project/acme", "read:project/beta", name="wide")
    await add_key(store, "read:project/acme", name="inside")
    _, narrow = await add_key(store, "admin:project/acme", name="narrow")

    refused = await server.ask("DELETE", f"{KEYS}/{root.id}", headers=narrow)
    absent = await server.ask("DELETE", f"{KEYS}/{'0' * 16}", headers=narrow)

    assert await listed(server, everything) == ["root", "wide", "inside", "narrow"]
    assert await listed(server, narrow) == ["inside", "narrow"]
    assert_problem(refused, 404, "key-not-found")
    assert refused.json["detail"].replace(root.id, "0" * 16) == absent.json["detail"]
    assert (await server.get(EVENTS, headers=narrow)).json["events"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " ci"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 7}, "name"),
        ({"grants": []}, "grants"),
        ({"grants": "admin:/"}, "grants"),
        ({"grants": ["read:a", "own:a"]}, "grants.1"),
        ({"grants": ["read:"]}, "grants.0"),
        ({"groups": ["ops", ""]}, "groups.1"),
        ({"kind": "aws"}, "kind"),
    ],
)
async def test_what_is_wrong_is_named(server: Local, fields: dict[str, object], field: str):
    answer = await make(server, **fields)

    assert answer.status == 400, answer.body
    assert answer.json["field"] == field
