"""Escape's routes over a real server: queries, access, and posted events."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.api_keys import new_key
from support.factories import new_event
from support.servers import LINES, Answer, Local, line, running

QUERY = "/api/v1/events/query"
CREATE = "/internal/create-event"
SECRET = "correct-horse"

UPLOAD = (
    b'{"downstream_hooks":[],"event":"NEW_UPLOAD","project":"test","project_hooks":{},'
    b'"release":"test/my-app-v1.0","unit":"my-app","unit_hooks":{},"username":"","version":"v1.0"}'
)


@pytest.fixture
async def guarded(store: Store, tmp_path: Path) -> AsyncIterator[Local]:
    """A service with a secret for services."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    async with running(store, escape_secret_file=str(file)) as server:
        yield server


async def create(server: Local, **fields: object) -> None:
    response = await server.ask("POST", CREATE, data=json.dumps(fields))
    assert (response.status, response.body) == (200, b""), response


async def listed(server: Local, path: str = "/", **how: Any) -> list[Any]:
    response = await server.get(QUERY + path, **how)
    assert response.status == 200, response
    assert response.headers["content-type"] == "application/json"
    assert response.body.endswith(b"]\n")
    return list(response.json)


def users(events: list[Any]) -> list[str]:
    return [event["username"] for event in events]


INVENTORY = {"type": "UPLOAD_INVENTORY_APPLICATION"}
STATE = {"type": "UPDATE_STATE_DEPLOYMENT"}

#: By user name, so that a row of a table can name the events it expects.
EVENTS: dict[str, dict[str, Any]] = {
    "i": INVENTORY | {"inventory_project": "ip"},
    "ia": INVENTORY | {"inventory_project": "ip", "inventory_application": "ia"},
    "iv": INVENTORY
    | {"inventory_project": "ip", "inventory_application": "ia", "inventory_version": "v1.0"},
    "j": INVENTORY | {"inventory_project": "jp", "inventory_application": "ia"},
    "s": STATE | {"state_project": "sp"},
    "se": STATE | {"state_project": "sp", "state_environment": "se"},
    "sd": STATE | {"state_project": "sp", "state_environment": "se", "state_deployment": "a/b"},
    "t": STATE | {"state_project": "tp", "state_environment": "se"},
    "both": STATE | {"inventory_project": "ip", "state_project": "sp"},
    "u": {"type": "USER_SIGNUP"},
}

ALL = "i ia iv j s se sd t both u"


@pytest.fixture
async def filled(server: Local) -> Local:
    for user, fields in EVENTS.items():
        await create(server, username=user, **fields)
    await server.append([line("resource.create.started"), line("state.unknown", scopes="state/sp")])
    return server


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ALL),
        ("/?inventory_project=ip", "i ia iv both"),
        ("/?inventory_project=ip&inventory_application=ia", "ia iv"),
        ("/?inventory_project=ip&inventory_application=ia&inventory_version=1.0", "iv"),
        ("/?inventory_project=ip&inventory_application=ia&inventory_version=v1.0", "iv"),
        ("/?inventory_project=ip&inventory_application=ia&inventory_version=2", ""),
        ("/?inventory_project=ip&inventory_version=1.0", "i ia iv both"),
        ("/?inventory_application=ia", ALL),
        ("/?inventory_version=1.0", ALL),
        ("/?inventory_application=ia&inventory_version=1.0", ALL),
        (
            "/?inventory_project=ip&state_project=tp&state_environment=se&state_deployment=x",
            "i ia iv both",
        ),
        ("/?inventory_application=ia&state_project=sp&state_environment=se", "se sd"),
        ("/?state_project=sp", "s se sd both"),
        ("/?state_project=sp&state_environment=se", "se sd"),
        ("/?state_project=sp&state_environment=se&state_deployment=a/b", "sd"),
        ("/?state_project=sp&state_environment=se&state_deployment=a", ""),
        ("/?state_project=sp&state_deployment=a/b", "s se sd both"),
        ("/?state_environment=se&state_deployment=a/b", ALL),
        ("/?inventory_project=&state_project=sp", "s se sd both"),
        ("/?inventory_project=IP", ""),
        ("/?inventory_project=nobody", ""),
        ("/inventory/", "i ia iv j both"),
        ("/inventory/ip/", "i ia iv both"),
        ("/inventory/ip/ia/", "ia iv"),
        ("/inventory/ip/ia/1.0/", "iv"),
        ("/inventory/ip/ia/v1.0/", "iv"),
        ("/inventory/ip/ia/1.1/", ""),
        ("/inventory/IP/", ""),
        ("/inventory/ip!/", ""),
        ("/inventory/ip/ia/one/", ""),
        ("/project/", "s se sd t both"),
        ("/project/sp/", "s se sd both"),
        ("/project/sp/se/", "se sd"),
        ("/project/sp/SE/", ""),
        ("/project/sp/se/deployment?deployment=a/b", "sd"),
        ("/project/sp/se/deployment?deployment=a%2Fb", "sd"),
        ("/project/sp/se/deployment?deployment=a", ""),
        ("/project/sp/se/deployment?deployment=1", ""),
        ("/project/sp/?inventory_project=ip", "s se sd both"),
    ],
)
async def test_a_query_finds_matching_events(filled: Local, path: str, expected: str):
    before_query, mark, query = path.partition("?")
    other = before_query.removesuffix("/") if before_query.endswith("/") else f"{before_query}/"

    newest_first = expected.split()[::-1]
    assert users(await listed(filled, path)) == newest_first
    assert users(await listed(filled, other + mark + query)) == newest_first


@pytest.mark.parametrize("query", ["", "?deployment="])
async def test_the_deployment_must_be_named(server: Local, query: str):
    for slash in ("", "/"):
        response = await server.get(f"{QUERY}/project/sp/se/deployment{slash}{query}")

        assert (response.status, response.body) == (400, b"Missing 'deployment' parameter")
        assert response.headers["content-type"].startswith("text/plain")


# Pages


async def ids(server: Local, query: str) -> list[int]:
    return [int(event["id"]) for event in await listed(server, f"/?{query}")]


async def test_pages_reach_the_end_newest_first(store: Store, server: Local):
    uploads = [new_event("inventory.release.uploaded", scopes=("inventory/pp",))] * 125
    await store.log.append(uploads)

    first = await ids(server, "")
    second = await ids(server, f"page_from={first[-1]}")
    third = await ids(server, f"page_from={second[-1]}")
    end = await ids(server, f"page_from={third[-1]}")

    assert (first, second, third) == (
        list(range(125, 75, -1)), list(range(75, 25, -1)), list(range(25, 0, -1)),
    )  # fmt: skip
    assert end == []
    assert await ids(server, "page_from=100&page_size=2") == [99, 98]
    assert len(await ids(server, "page_size=5000")) == 125
    assert await ids(server, "page_from=99999&page_size=1") == [125]


async def test_a_page_is_full_despite_other_events(store: Store, server: Local):
    for _ in range(60):
        visible = new_event("team.created", scopes=("team/ops",))
        await store.log.append([visible, *[new_event("resource.read.started")] * 3])

    assert len(await ids(server, "")) == 50


async def test_the_page_size_is_a_setting(store: Store):
    await store.log.append([new_event("team.created", scopes=("team/ops",))] * 25)

    async with running(store, escape_page_size=7) as server:
        assert await ids(server, "") == [25, 24, 23, 22, 21, 20, 19]
        assert await ids(server, "page_from=19") == [18, 17, 16, 15, 14, 13, 12]


@pytest.mark.parametrize("query", ["page_size=0", "page_size=-1", "page_size=x", "page_from=abc"])
@pytest.mark.parametrize("path", ["/", "/inventory/pp/", "/project/IMPOSSIBLE!/"])
async def test_an_impossible_page_is_refused(server: Local, path: str, query: str):
    response = await server.get(f"{QUERY}{path}?{query}")

    assert response.status == 400
    assert response.headers["content-type"].startswith("text/plain")
    assert query.partition("=")[0].encode() in response.body


# Access


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((), ["open", "all"]),
        (("my-group",), ["mine", "open", "all"]),
        (("other",), ["open", "all"]),
    ],
)
async def test_an_event_is_visible_to_its_groups(
    server: Local, groups: tuple[str, ...], expected: list[str]
):
    created = {"type": "CREATE_INVENTORY_PROJECT", "inventory_project": "test"}
    await create(server, **created, username="all")
    await create(server, **created, username="open", allowed_roles=["*"])
    await create(server, **created, username="mine", allowed_groups=["my-group", "your-group"])
    key = await new_key(server.store, "read:inventory", groups=groups)

    visible = await listed(server, "/", headers={"X-Escape-Token": key})

    assert users(visible) == expected
    mine = [event["allowed_groups"] for event in visible if event["username"] == "mine"]
    assert mine == [["my-group", "your-group"]][: len(mine)]


async def test_a_hidden_project_is_as_empty_as_a_missing_one(server: Local):
    await create(server, type="CREATE_STATE_PROJECT", state_project="secret")
    key = await new_key(server.store, "read:state/other")

    for path in ("/project/secret/", "/project/nothing/", "/", "/project/", "/inventory/"):
        response = await server.get(QUERY + path, headers={"X-Escape-Token": key})
        assert (response.status, response.body) == (200, b"[]\n")


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


async def test_a_token_is_accepted_in_a_header_a_cookie_or_as_a_password(server: Local):
    key = await new_key(server.store, "read:/")

    for headers in (
        {"X-Escape-Token": key},
        {"Cookie": f"a=b; X-Escape-Token={key}; c=d"},
        {"X-Escape-Token": "", "Authorization": basic(key)},
    ):
        assert (await server.get(f"{QUERY}/", headers=headers)).status == 200, headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Escape-Token": ""}, {"X-Escape-Token": "x"}, {"Authorization": "Basic !"},
     {"Authorization": basic("x")}, {"Cookie": "X-Escape-Token=x"}],
)  # fmt: skip
async def test_without_a_valid_token_there_is_only_a_status(server: Local, headers: dict[str, str]):
    await new_key(server.store, "read:/")

    for method, path in (("GET", f"{QUERY}/"), ("POST", CREATE), ("PUT", CREATE)):
        response = await server.ask(method, path, headers=headers)
        assert (response.status, response.body) == (401, b"")
        assert "content-type" not in response.headers


# Posted events


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", [CREATE, f"{CREATE}/"])
async def test_an_event_is_created_and_listed(server: Local, method: str, path: str):
    fields = {
        "type": "CREATE_INVENTORY_PROJECT",
        "inventory_namespace": "test",
        "allowed_roles": ["b", "a"],
        "timestamp": "12343434343434",
        "username": "user",
        "data": {"a": 1},
        "id": "77",
        "unknown": [],
    }

    response = await server.ask(method, path, data=json.dumps(fields))

    assert (response.status, response.body, response.headers["content-length"]) == (200, b"", "0")
    assert await listed(server) == [
        {
            "id": "1",
            "type": "CREATE_INVENTORY_PROJECT",
            "timestamp": 12343434343434,
            "username": "user",
            "allowed_groups": ["a", "b"],
            "allowed_roles": ["a", "b"],
            "inventory_project": "test",
            "inventory_namespace": "test",
            "data": {"a": 1},
        }
    ]


async def post_upload(server: Local, **how: Any) -> Answer:
    """As the Inventory does: without a content type."""
    return await server.ask("POST", CREATE, data=UPLOAD, skip_auto_headers=["Content-Type"], **how)


async def test_an_inventory_may_repeat_an_upload(server: Local):
    responses = [await post_upload(server) for _ in range(3)]

    assert [(each.status, each.body) for each in responses] == [(200, b"")] * 3
    [result] = await listed(server, "/inventory/test/my-app/v1.0/")
    assert result["type"] == "UPLOAD_INVENTORY_APPLICATION"
    assert (result["inventory_version"], result["allowed_groups"]) == ("1.0", ["*"])
    assert "username" not in result


async def test_the_groups_of_uploads_are_a_setting(store: Store):
    async with running(store, escape_upload_groups="ops, devs") as server:
        await post_upload(server)

        [result] = await listed(server)

    assert result["allowed_groups"] == ["devs", "ops"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'{"type":"X"}', b'{"event":"X"}', b"\xff", b"[" * 100_000,
     b'{"type":"TEAM_CREATED","data":[]}', b'{"type":"TEAM_CREATED","timestamp":1e99}',
     b'{"type":"USER_SIGNUP","username":"\\ud800"}',
     b'{"type":"TEAM_CREATED","data":{"a":"' + b"x" * 300_000 + b'"}}'],
    ids=range(12),
)  # fmt: skip
async def test_an_invalid_body_has_a_message(server: Local, body: bytes):
    response = await server.ask("POST", CREATE, data=body)

    assert response.status == 400
    assert response.headers["content-type"].startswith("text/plain")
    assert response.body
    assert await listed(server) == []


async def test_a_body_beyond_the_limit_is_too_large(store: Store):
    async with running(store, max_body_bytes=1024) as server:
        response = await server.ask("POST", CREATE, data=b" " * 2000)

    assert response.status == 413
    assert response.headers["content-type"].startswith("text/plain")


async def test_with_the_secret_a_service_creates_events_and_nothing_else(guarded: Local):
    key = await new_key(guarded.store, "admin:/")
    visible = {"Authorization": f"Bearer {SECRET}"}

    assert (await post_upload(guarded, headers=visible)).status == 200
    assert (await guarded.get(f"{QUERY}/", headers=visible)).status == 401
    assert (await guarded.post(line(), LINES, headers=visible)).status == 401
    assert len(await listed(guarded, headers={"X-Escape-Token": key})) == 1


@pytest.mark.parametrize("expected", [None, "Bearer x", f"Basic {SECRET}", f"Bearer {SECRET}x"])
@pytest.mark.parametrize("has_key", [False, True])
async def test_with_a_secret_no_event_is_created_without_it(
    guarded: Local, expected: str | None, has_key: bool
):
    if has_key:
        await new_key(guarded.store, "admin:/")

    response = await post_upload(guarded, headers={"Authorization": expected} if expected else {})

    assert (response.status, response.body) == (401, b"")
    assert await guarded.store.log.head() == 0


async def test_a_key_that_may_write_every_scope_creates_events(guarded: Local):
    both = {"type": "ADD_BUILD", "inventory_project": "ip", "state_project": "sp"}
    enough = await new_key(guarded.store, "write:inventory/ip", "write:state/sp")
    half = await new_key(guarded.store, "write:inventory/ip", "read:/")

    refused = await guarded.ask(
        "POST", CREATE, data=json.dumps(both), headers={"X-Escape-Token": half}
    )
    taken = await guarded.ask(
        "POST", CREATE, data=json.dumps(both), headers={"Authorization": basic(enough)}
    )

    assert (refused.status, refused.body) == (403, b"")
    assert (taken.status, taken.body) == (200, b"")
    assert await guarded.store.log.head() == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/api/v1/auth/login-methods", 404, b"404 page not found\n"),
        ("GET", "/api/v1/events/query/nothing/", 404, b"404 page not found\n"),
        ("POST", "/internal/other", 404, b"404 page not found\n"),
        ("GET", CREATE, 405, b""),
        ("POST", f"{QUERY}/", 405, b""),
    ],
)
async def test_unknown_paths_have_the_error_of_escapes_services(
    server: Local, method: str, path: str, status: int, body: bytes
):
    response = await server.ask(method, path)

    assert (response.status, response.body) == (status, body)


# Recorded runs


async def record(server: Local, *events: dict[str, Any], **fields: object) -> None:
    """A deployment of ``web`` to ``prod``, as the command line sends it."""
    opened = await server.open("web", environment="prod", actor="ann", **fields)
    sent = [{"source": "terraform", **event, "id": str(n)} for n, event in enumerate(events)]
    await server.append(sent, path=f"/log/v1/events?deployment={opened['id']}")


async def test_runs_to_an_environment_are_listed_as_state_events(server: Local):
    update, end = {"type": "resource.update.completed"}, {"type": "deployment.completed"}
    destroyed = {"type": "deployment.failed", "data": {"operation": "destroy"}}
    await record(server, {"type": "resource.create.completed"}, end, operation="apply")
    await record(server, update, end, operation="apply", groups=["ops"])
    await record(server, end, operation="apply")
    await record(server, end, operation="plan")
    await record(server, destroyed)

    visible = await listed(server, "/project/acme/prod/deployment?deployment=web")

    assert [event["type"] for event in visible] == [
        "DESTROY_REQUESTED", "REDEPLOY_STATE_DEPLOYMENT", "UPDATE_STATE_DEPLOYMENT",
        "CREATE_STATE_DEPLOYMENT",
    ]  # fmt: skip
    assert {
        (e["state_project"], e["state_environment"], e["state_deployment"]) for e in visible
    } == {("acme", "prod", "web")}
    assert {event["username"] for event in visible} == {"ann"}
    assert [event.get("allowed_groups") for event in visible] == [None, None, ["ops"], None]
    assert visible[0]["data"]["status"] == "failed"
    assert visible[3]["data"]["counts"] == {"added": 1, "changed": 0, "destroyed": 0, "failed": 0}
    assert await listed(server, "/project/acme/") == visible
