"""API keys over HTTP: who gets in, who does not, and what is kept of a key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.servers import BATCH, DEPLOYMENTS, EVENTS, LINES, STREAM, Answer, Local, line, running
from support.waiting import until

RFS = "/v1/acme/stacks/web/events"
RFS_HEADERS = {"Client-Request-Id": "4d5f3a1e-0c7e-4c3b-9d53-9a7f1c2b3d4e"}


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def add(store: Store, *grants: str, groups: tuple[str, ...] = (), name: str = "ci") -> str:
    """A new key."""
    stored, key = make_key(
        name=name, groups=groups, grants=[parse_grant(grant) for grant in grants], now=now()
    )
    await store.credentials.add(stored)
    return key


def contents(folder: Path) -> bytes:
    """Of every file in it."""
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def assert_unauthenticated(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json["type"].endswith("unauthenticated")


async def test_without_any_key_everything_is_allowed(server: Local):
    assert (await server.post(line(), LINES)).status == 201
    assert (await server.get(EVENTS)).status == 200


async def test_a_key_opens_in_each_header(server: Local):
    key = await add(server.store, "admin:/")

    for headers in (
        bearer(key),
        {"Authorization": f"bearer  {key} "},
        {"X-Api-Key": key},
        {"Bluelink-Api-Key": key},
        {"X-Api-Key": key, "Authorization": "Basic YTpi"},
    ):
        answer = await server.post(line(), LINES, headers=headers)
        assert answer.status == 201, headers


@pytest.mark.parametrize("what", ["missing", "wrong", "unknown", "cut", "empty", "basic", "odd"])
async def test_without_a_valid_key_no_request_is_authenticated(server: Local, what: str):
    key = await add(server.store, "admin:/")
    prefix, id, secret = key.split("_")
    headers = {
        "missing": {},
        "wrong": bearer(f"{prefix}_{id}_{secret[::-1]}"),
        "unknown": bearer(f"{prefix}_{id[::-1]}_{secret}"),
        "cut": bearer(key[:-1]),
        "empty": bearer(""),
        "basic": {"Authorization": f"Basic {key}"},
        "odd": bearer("\xff_\xfe_ü"),
    }[what]

    asked = [
        ("GET", EVENTS),
        ("POST", EVENTS),
        ("GET", STREAM),
        ("GET", f"{EVENTS}/x"),
        ("GET", DEPLOYMENTS),
        ("POST", DEPLOYMENTS),
        ("GET", f"{DEPLOYMENTS}/x/wait"),
        ("GET", "/log/v1/stacks"),
        ("DELETE", "/log/v1/stacks?project=acme&name=web"),
        ("GET", "/log/v1/projects"),
    ]
    for method, path in asked:
        assert_unauthenticated(await server.ask(method, path, headers=headers))


async def test_rfs_says_it_in_its_own_words(server: Local):
    await add(server.store, "admin:/")

    answer = await server.get(RFS, headers=RFS_HEADERS)

    assert answer.status == 401
    assert answer.json["error_code"] == "APIGW.0301"
    assert set(answer.json) == {"error_code", "error_msg", "request_id"}
    assert answer.headers["x-request-id"] == answer.json["request_id"]


async def test_the_service_is_asked_how_it_is_without_a_key(server: Local):
    await add(server.store, "admin:/")

    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert (await server.get(path)).status == 200


async def test_the_first_key_ends_anonymous_access_within_a_second(server: Local):
    assert (await server.get(EVENTS)).status == 200

    await add(server.store, "admin:/")

    async def the_door_is_closed() -> bool:
        return (await server.get(EVENTS)).status == 401

    await until(the_door_is_closed, seconds=1)


async def test_a_revoked_key_is_refused_within_a_second(server: Local):
    other = await add(server.store, "admin:/")
    key = await add(server.store, "admin:/")
    assert (await server.get(EVENTS, headers=bearer(key))).status == 200

    await server.store.credentials.revoke(key.split("_")[1], now())

    async def the_door_is_closed() -> bool:
        return (await server.get(EVENTS, headers=bearer(key))).status == 401

    await until(the_door_is_closed, seconds=1)
    assert_unauthenticated(await server.get(EVENTS, headers=bearer(key)))
    assert (await server.get(EVENTS, headers=bearer(other))).status == 200


async def test_revoking_the_last_key_does_not_restore_anonymous_access(server: Local):
    key = await add(server.store, "admin:/")

    await server.store.credentials.revoke(key.split("_")[1], now())

    assert_unauthenticated(await server.get(EVENTS))
    assert_unauthenticated(await server.get(EVENTS, headers=bearer(key)))


async def test_a_key_that_may_only_read_cannot_write(server: Local):
    headers = bearer(await add(server.store, "read:project/acme"))

    appended = await server.post([line()], BATCH, headers=headers)
    body = {"project": "acme", "stack": "web"}
    opened = await server.post(body, "application/json", DEPLOYMENTS, headers=headers)

    for answer in (appended, opened):
        assert answer.status == 403
        assert answer.json["type"].endswith("forbidden")
    assert (await server.get(EVENTS, headers=headers)).json == {"events": []}


async def test_a_key_that_may_only_write_sees_nothing(server: Local):
    headers = bearer(await add(server.store, "write:/"))
    appended = await server.post(line(), LINES, headers=headers)

    listed = await server.get(EVENTS, headers=headers)
    single = await server.get(f"{EVENTS}/{appended.ids[0]}", headers=headers)

    assert (appended.status, listed.json, single.status) == (201, {"events": []}, 404)


async def test_a_key_reaches_no_further_than_its_scope(server: Local):
    everything = bearer(await add(server.store, "admin:/"))
    own = bearer(await add(server.store, "read:project/acme", "write:project/acme"))
    await server.post(
        [{**line(), "specversion": "1.0", "id": "1", "scopes": f"project/{name}"}
         for name in ("acme", "other")][1:],
        BATCH, headers=everything,
    )  # fmt: skip

    inside = await server.post(line(scopes="project/acme/stack/1"), LINES, headers=own)
    outside = await server.post(line(scopes="project/other"), LINES, headers=own)
    both = await server.post(line(scopes="project/acme project/other"), LINES, headers=own)

    assert (inside.status, outside.status, both.status) == (201, 403, 403)
    assert (await server.get(EVENTS, headers=own)).ids == inside.ids


async def test_the_groups_of_a_key_decide_what_a_stream_shows(server: Local):
    await add(server.store, "admin:/")
    writer = bearer(await add(server.store, "write:/"))
    member = bearer(await add(server.store, "read:/", groups=("ops",)))
    stranger = bearer(await add(server.store, "read:/"))

    async with (
        server.stream("from=start", headers=member) as inside,
        server.stream("from=start", headers=stranger) as outside,
    ):
        secret = await server.post(line(groups="ops"), LINES, headers=writer)
        public = await server.post(line(), LINES, headers=writer)

        assert await inside.take(2) == secret.ids + public.ids
        assert await outside.take(1) == public.ids


async def test_a_foreign_project_is_forbidden_in_rfs(server: Local):
    everything = bearer(await add(server.store, "admin:/"))
    headers = {**RFS_HEADERS, **bearer(await add(server.store, "read:project/other"))}
    body = {"project": "acme", "stack": "web"}
    await server.post(body, "application/json", DEPLOYMENTS, headers=everything)

    answer = await server.get(RFS, headers=headers)

    assert answer.status == 403
    assert answer.json["error_code"] == "RF.10012507"


async def test_who_deleted_a_stack_is_reported(server: Local):
    headers = bearer(await add(server.store, "admin:/", name="robot"))
    body = {"project": "acme", "stack": "web"}
    await server.post(body, "application/json", DEPLOYMENTS, headers=headers)

    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web", headers=headers)

    [event] = (await server.get(f"{EVENTS}?limit=1", headers=headers)).json["events"]
    assert (event["type"], event["actor"]) == ("stack.deleted", "robot")


async def test_a_key_of_another_client_does_not_share_its_idempotency_keys(server: Local):
    one = bearer(await add(server.store, "admin:/", name="ci"))
    other = bearer(await add(server.store, "admin:/", name="ci"))

    first = await server.post(line(subject="a"), LINES, headers={**one, "Idempotency-Key": "k"})
    second = await server.post(line(subject="b"), LINES, headers={**other, "Idempotency-Key": "k"})

    assert (first.status, second.status) == (201, 201)


async def test_no_secret_is_in_the_files_of_the_store(server: Local, tmp_path: Path):
    key = await add(server.store, "admin:/")
    _, id, secret = key.split("_")
    await server.post(line(), LINES, headers={**bearer(key), "Idempotency-Key": "k"})

    kept = await asyncio.to_thread(contents, tmp_path)

    assert id.encode() in kept
    for form in (secret.encode(), bytes.fromhex(secret), secret[:32].encode()):
        assert form not in kept


async def test_nothing_secret_is_stated_when_a_key_is_refused(server: Local):
    key = await add(server.store, "admin:/")

    answer = await server.get(EVENTS, headers=bearer(key[:-1]))

    assert key[10:] not in answer.body.decode()
    assert key.split("_")[1] not in answer.body.decode()
