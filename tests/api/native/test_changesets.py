"""Change sets over the native API, as documented in ``docs/reference/native-api.md``."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploylog.deployments.changeset import decode_changes
from deploylog.ingest.terraform.plan import parse_plan
from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.factories import plan_document
from support.paths import SAMPLES
from support.problems import assert_problem
from support.servers import Answer, Frame, Local, line, running
from support.waiting import until

CHANGESETS = "/log/v1/changesets"
JSON = "application/json"

SAMPLE = SAMPLES / "06-plan-show.json"

#: Terraform's counts in the sample: ``Plan: 6 to add, 2 to change, 5 to destroy.``
TOTALS = {
    "create": 2, "update": 2, "replace": 4, "delete": 1, "forget": 0, "none": 2, "imported": 0,
    "moved": 0,
}  # fmt: skip


@pytest.fixture
def plan() -> bytes:
    return SAMPLE.read_bytes()


async def post(server: Local, plan: Any, query: str = "project=acme", **headers: str) -> Answer:
    return await server.post(plan, JSON, f"{CHANGESETS}?{query}", headers=headers)


async def staged(server: Local, plan: Any, query: str = "project=acme") -> Any:
    """Stage the plan; the change set as it was answered."""
    response = await post(server, plan, query)
    assert response.status == 202, response.body
    return response.json


async def frames_of(server: Local, id: str, *, last_id: str = "") -> list[Frame]:
    """The events of a change set, to its end."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    frames: list[Frame] = []
    async with server.stream(f"scope=changeset/{id}&from=start", headers=headers) as stream:
        while not frames or frames[-1].event == "changeset.resource":
            frames.append(await stream.next())
    return frames


async def wait_for_end(server: Local, id: str) -> Any:
    """The change set, once its staging has ended."""

    async def is_ended() -> Any:
        found = (await server.get(f"{CHANGESETS}/{id}")).json
        return found if found["status"] != "staging" else None

    return await until(is_ended)


def contents(directory: Path) -> list[bytes]:
    return [file.read_bytes() for file in directory.iterdir()]


# Staging


async def test_staging_a_plan_returns_its_change_set(server: Local, plan: bytes):
    await server.open("web")
    id = str(uuid4())
    query = f"project=acme&stack=web&id={id}&location=06.json&destroy=true&actor=alice&group=ops"

    response = await post(server, plan, query)

    [stack] = (await server.get("/log/v1/stacks")).json["stacks"]
    body = response.json
    assert response.status == 202
    assert response.headers["location"] == f"{CHANGESETS}/{id}"
    assert body.pop("created").endswith("Z")
    assert body == {
        "id": id, "project": "acme", "stack": "web", "stack_id": stack["id"], "status": "staging",
        "destroy": True, "location": "06.json", "tool": "terraform", "tool_version": "1.11.4",
        "actor": "alice", "ended": None, "message": None, "totals": TOTALS,
        "scopes": [f"changeset/{id}", f"{stack['scopes'][0]}/changeset/{id}"], "groups": ["ops"],
    }  # fmt: skip


async def test_a_change_set_is_streamed_by_resource_to_its_end(server: Local, plan: bytes):
    id = (await staged(server, plan))["id"]

    *resources, end = await frames_of(server, id)

    changes = parse_plan(plan)
    assert [frame.data["data"]["name"] for frame in resources] == [
        change.name for change in changes.resources
    ]
    assert resources[0].data["data"]["action"] == "delete"
    assert (end.event, end.data["data"]["totals"]) == ("changeset.completed", TOTALS)
    assert end.data["message"] == "2 to create, 2 to update, 4 to replace, 1 to destroy"


async def test_a_streamed_change_set_is_staged(server: Local, plan: bytes):
    id = (await staged(server, plan))["id"]
    await frames_of(server, id)

    found = (await server.get(f"{CHANGESETS}/{id}")).json

    assert (found["status"], found["totals"]) == ("staged", TOTALS)
    assert found["message"] == "2 to create, 2 to update, 4 to replace, 1 to destroy"
    assert found["ended"] >= found["created"]


async def test_a_stream_resumes_after_the_event_it_was_cut_at(server: Local, plan: bytes):
    id = (await staged(server, plan))["id"]
    frames = await frames_of(server, id)

    rest = await frames_of(server, id, last_id=frames[4].id or "")

    assert [frame.id for frame in rest] == [frame.id for frame in frames[5:]]


async def test_a_plan_may_be_compressed(server: Local, plan: bytes):
    response = await post(server, gzip.compress(plan), **{"Content-Encoding": "gzip"})

    assert (response.status, response.json["totals"]) == (202, TOTALS)


async def test_a_failed_plan_is_streamed_as_failed(server: Local):
    id = (await staged(server, plan_document(1, errored=True)))["id"]

    *_, end = await frames_of(server, id)

    assert end.event == "changeset.failed"
    assert (await wait_for_end(server, id))["status"] == "failed"


async def test_a_secret_is_in_no_response_and_not_in_the_store(
    server: Local, plan: bytes, tmp_path: Path
):
    id = (await staged(server, plan))["id"]

    frames = await frames_of(server, id)
    changes = await server.get(f"{CHANGESETS}/{id}/changes")

    assert b"s3cr3t" in plan
    assert not any(b"s3cr3t" in frame.raw for frame in frames)
    assert b"s3cr3t" not in changes.body
    assert not any(b"s3cr3t" in content for content in contents(tmp_path))


# Retries


async def test_a_retry_with_the_same_key_gets_the_first_change_set(server: Local, plan: bytes):
    first = await post(server, plan, **{"Idempotency-Key": "a"})
    second = await post(server, plan, **{"Idempotency-Key": "a"})

    assert second.status == 202
    assert second.json["id"] == first.json["id"]
    assert len((await server.get(CHANGESETS)).json["changesets"]) == 1


async def test_another_body_or_query_under_the_same_key_is_refused(server: Local, plan: bytes):
    key = {"Idempotency-Key": "a"}
    await post(server, plan, **key)

    for response in (
        await post(server, plan_document(1), **key),
        await post(server, plan, "project=acme&destroy=true", **key),
    ):
        assert_problem(response, 422, "request-reused")


async def test_a_retry_without_a_key_is_recognized_by_its_content(server: Local, plan: bytes):
    first, second = await asyncio.gather(staged(server, plan), staged(server, plan))
    other = await staged(server, plan, "project=acme&location=elsewhere")

    assert first["id"] == second["id"] != other["id"]
    events = [frame.id for frame in await frames_of(server, first["id"])]
    assert len(events) == sum(TOTALS.values()) + 1


async def test_two_change_sets_cannot_share_an_id(server: Local, plan: bytes):
    id = uuid4()
    await staged(server, plan, f"project=acme&id={id}")

    assert_problem(await post(server, plan_document(1), f"project=acme&id={id}"), 409, "conflict")


# Refusals


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"no json", None),
        (b"", None),
        (b"[]", None),
        (b"{}", "format_version"),
        (b'{"format_version":"1.2","resource_changes":1}', "resource_changes"),
        (b'{"format_version":"1.2","resource_changes":[{"address":1}]}',
         "resource_changes[0].address"),
    ],
)  # fmt: skip
async def test_an_invalid_plan_is_refused_with_the_field(
    server: Local, body: bytes, field: str | None
):
    response = await post(server, body)

    assert_problem(response, 400, "invalid-plan", field)
    assert (await server.get(CHANGESETS)).json == {"changesets": []}


@pytest.mark.parametrize("depth", [101, 100_000])
async def test_a_plan_that_is_too_deep_is_refused(server: Local, depth: int):
    body = '{"format_version":"1.2","x":' + "[" * depth + "]" * depth + "}"

    response = await post(server, body)

    assert_problem(response, 400, "invalid-plan")
    assert (await server.get("/healthz")).status == 200


async def test_a_plan_that_is_too_large_is_refused(store: Store, plan: bytes):
    packed = {"Content-Encoding": "gzip"}
    async with running(store, max_body_bytes=5_000, max_decompressed_bytes=10_000) as server:
        responses = await post(server, plan), await post(server, gzip.compress(plan), **packed)

    for response in responses:
        assert_problem(response, 413, "too-large")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "project"),
        ("project=acme&project=b", "project"),
        ("project=acme&id=1", "id"),
        ("project=acme&destroy=yes", "destroy"),
        ("project=acme&environment=prod", "environment"),
        (f"project={'x' * 129}", "project"),
        ("project=acme&actor=a%00", "actor"),
        (f"project=acme&location={'x' * 1025}", "location"),
    ],
)
async def test_an_invalid_parameter_is_named(server: Local, plan: bytes, query: str, field: str):
    assert_problem(await post(server, plan, query), 400, "invalid-input", field)


# Rights


async def test_staging_requires_write_access_to_the_project(
    store: Store, server: Local, plan: bytes
):
    reader, other = (
        await key_headers(store, "read:project/acme"),
        await key_headers(store, "write:project/other"),
    )

    for headers in (reader, other):
        assert_problem(await post(server, plan, **headers), 403, "forbidden")
        # Their body is not even parsed.
        assert_problem(await post(server, b"no plan", **headers), 403, "forbidden")


async def test_a_change_set_of_another_group_is_not_found(store: Store, server: Local, plan: bytes):
    mine = await key_headers(store, "admin:project/acme", groups=("ops",))
    theirs = await key_headers(store, "admin:project/acme", groups=("web",))
    id = (await post(server, plan, "project=acme&group=ops", **mine)).json["id"]

    for path in (id, f"{id}/changes"):
        seen = await server.get(f"{CHANGESETS}/{path}", headers=mine)
        hidden = await server.get(f"{CHANGESETS}/{path}", headers=theirs)
        assert seen.status == 200
        assert_problem(hidden, 404, "changeset-not-found")
    assert (await server.get(CHANGESETS, headers=theirs)).json == {"changesets": []}


# Reading


async def test_the_changes_are_complete(server: Local, plan: bytes):
    id = (await staged(server, plan))["id"]

    response = await server.get(f"{CHANGESETS}/{id}/changes")

    assert response.status == 200
    assert decode_changes(response.body) == parse_plan(plan)


async def test_numbers_keep_their_digits(server: Local):
    output = '{"actions":["create"],"before":null,"after":1.50,"after_unknown":false}'
    body = f'{{"format_version":"1.2","output_changes":{{"a":{output}}}}}'
    id = (await staged(server, body))["id"]

    response = await server.get(f"{CHANGESETS}/{id}/changes")

    assert b'"after":1.50' in response.body


@pytest.mark.parametrize("path", ["", "/changes"])
async def test_an_unknown_change_set_is_not_found(server: Local, path: str):
    response = await server.get(f"{CHANGESETS}/{uuid4()}{path}")

    assert_problem(response, 404, "changeset-not-found")


async def test_change_sets_are_listed_in_pages_the_last_one_first(server: Local):
    ids = [(await staged(server, plan_document(n)))["id"] for n in range(1, 6)]

    found: list[str] = []
    query, pages = "?project=acme&limit=2", 0
    while query:
        page = (await server.get(f"{CHANGESETS}{query}")).json
        found += [one["id"] for one in page["changesets"]]
        pages += 1
        query = f"?project=acme&limit=2&before={page['next']}" if "next" in page else ""

    assert found == ids[::-1]
    assert pages == 3


async def test_change_sets_are_listed_by_project_and_stack(server: Local):
    for stack in ("web", "db"):
        await server.open(stack)
    for query in ("project=acme&stack=web", "project=acme&stack=db", "project=other"):
        await staged(server, plan_document(1), query)

    async def listed(query: str) -> list[tuple[str, str | None]]:
        page = (await server.get(f"{CHANGESETS}?{query}")).json
        return [(one["project"], one["stack"]) for one in page["changesets"]]

    assert await listed("project=acme&stack=web") == [("acme", "web")]
    assert await listed("project=acme") == [("acme", "db"), ("acme", "web")]
    assert await listed("") == [("other", None), ("acme", "db"), ("acme", "web")]


@pytest.mark.parametrize(
    ("query", "status", "kind", "field"),
    [
        ("stack=web", 400, "invalid-input", "project"),
        ("before=0b9d3c1e-5b7d-4268-8e61-d0c4a2f97b35", 400, "invalid-cursor", "before"),
        ("limit=0", 400, "invalid-input", "limit"),
        ("status=staged", 400, "invalid-input", "status"),
    ],
)
async def test_an_invalid_list_request_has_a_reason(
    server: Local, query: str, status: int, kind: str, field: str | None
):
    assert_problem(await server.get(f"{CHANGESETS}?{query}"), status, kind, field)


async def test_a_change_set_for_a_new_stack_is_found_in_its_project(server: Local):
    body = json.dumps(plan_document(3))
    id = (await staged(server, body, "project=acme&stack=new"))["id"]
    await server.append([line("deployment.log", scopes="project/other")])
    await frames_of(server, id)

    events = (await server.get("/log/v1/events?scope=project/acme&order=oldest")).json["events"]
    of_stack = (await server.get(f"{CHANGESETS}?project=acme&stack=new")).json["changesets"]
    of_none = (await server.get(f"{CHANGESETS}?project=acme&stack=none")).json["changesets"]

    assert [one["type"] for one in events] == ["changeset.resource"] * 3 + ["changeset.completed"]
    assert ([one["id"] for one in of_stack], of_none) == ([id], [])
