"""Values that break parsers: deep nesting, endless digits, numbers beyond all bounds. Each is the
client's fault, and an event that is stored already breaks no page.
"""

import asyncio
import json
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.event import MAX_NESTING, is_too_deep
from deploylog.store.contract import Store
from support.factories import deployment_event, new_event, stack_created
from support.servers import BATCH, EVENTS, LINES, ONE, STREAM, Local
from support.waiting import PATIENCE

JSON = "application/json"
RFS = {"Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"}
DEPTHS = (MAX_NESTING + 1, 500, 960, 969, 970, 1000, 50_000)


def nested(depth: int, kind: str = "[") -> str:
    opening, closing = ("[", "]") if kind == "[" else ('{"a":', "}")
    return opening * depth + "0" + closing * depth


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(alphabet='[]{}"\\a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"', max_size=3), inner),
    max_leaves=30,
)


@given(VALUES, st.integers(min_value=0, max_value=130))
def test_nesting_is_counted_as_by_a_parser(value: object, around: int):
    for _ in range(around):
        value = [value, "[[[["]
    text = json.dumps(value).encode()

    assert is_too_deep(text) == (depth_of(value) > MAX_NESTING)


LINE = '{"source":"s","type":"t","scopes":"p","data":%s}'
WHOLE = '{"specversion":"1.0","id":"1",' + LINE[1:]
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-scopes": "p"}

#: All endpoints that accept an event's data.
WAYS: dict[str, tuple[str, str, dict[str, str]]] = {
    "structured": (ONE, WHOLE, {}),
    "a batch": (BATCH, f"[{WHOLE}]", {}),
    "lines": (LINES, LINE, {}),
    "binary": (JSON, "%s", BINARY),
}


@pytest.mark.parametrize("kind", ["[", "{"])
@pytest.mark.parametrize(("type", "form", "headers"), WAYS.values(), ids=WAYS)
async def test_the_depth_of_data_is_limited(
    server: Local, type: str, form: str, headers: dict[str, str], kind: str
):
    accepted = await server.post(form % nested(MAX_NESTING, kind), type, headers=headers)
    refused = [
        await server.post(form % nested(depth, kind), type, headers=headers)
        for depth in DEPTHS
        if depth * 6 < 250_000
    ]

    assert accepted.status == 201
    assert {response.status for response in refused} == {400}
    assert {
        (response.json["field"], "deeper than 100" in response.json["detail"])
        for response in refused
    } == {("data", True)}


async def test_a_deep_event_of_escape_is_refused(server: Local):
    body = '{"type":"CREATE_INVENTORY_PROJECT","inventory_project":"p","data":%s}'

    responses = [
        await server.post(body % nested(depth, "{"), JSON, "/internal/create-event")
        for depth in DEPTHS
    ]

    assert {response.status for response in responses} == {400}


#: Routes that take JSON, and where in it a value may be nested.
ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", EVENTS, "%s"),
    ("POST", "/log/v1/deployments", '{"project":"acme","stack":"web","id":%s}'),
    ("POST", "/log/v1/deployments", '{"project":"acme","stack":"web","x":%s}'),
    ("POST", "/log/v1/changesets?project=acme&stack=web", "%s"),
    ("POST", "/log/v1/changesets?project=acme&stack=web", '{"format_version":"1.0","x":%s}'),
    ("POST", "/log/v1/subscriptions", '{"target":%s}'),
    ("POST", "/log/v1/subscriptions", '{"x":%s}'),
    ("PUT", "/api/v1/events/subscriptions/project/p/", "%s"),
    ("PUT", "/api/v1/events/subscriptions/project/p/", '[{"type":%s}]'),
    ("POST", "/internal/create-event", '{"type":%s}'),
    ("POST", "/v1/deployments/changes", '{"blueprintLocationMetadata":%s}'),
    ("POST", "/v1/validations", '{"x":%s}'),
    ("GET", "/v1/acme/stacks/web/events", '{"stack_id":%s}'),
    ("POST", "/log/v1/ingest/sns", '{"Message":%s}'),
    ("POST", "/log/v1/ingest/eventbridge?project=acme", '{"detail":%s}'),
)

NUMBERS = (
    "9" * 5000,
    "1e400",
    "-1e999999",
    "NaN",
    "Infinity",
    "-Infinity",
    '"\\ud800"',
    "1" + "0" * 400,
)


@pytest.mark.parametrize(
    ("method", "path", "form"), ROUTES, ids=[f"{r[0]} {r[1]} {r[2]}" for r in ROUTES]
)
async def test_no_json_causes_a_server_error(server: Local, method: str, path: str, form: str):
    values = [nested(depth, kind) for depth in DEPTHS for kind in "[{"] + list(NUMBERS)

    responses = {
        value[:20]: await server.ask(
            method, path, data=form % value, headers={"Content-Type": JSON, **RFS}
        )
        for value in values
    }

    assert {text: a.body for text, a in responses.items() if a.status >= 500} == {}


TEXTS = (
    "9" * 5000, "-" + "9" * 5000, "-999999999d", "1e400", "NaN", "Infinity",
    "\u0663", "\u00b2", "\ud800",
    "0" * 5000 + "1", "9" * 19, "9223372036854775808", "18446744073709551616",
    "-1", "", "\x00", "0x10",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00-23:59",
    "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00." + "9" * 5000 + "Z", "1969-01-01T00:00:00Z",
)  # fmt: skip

PARAMETERS: dict[str, tuple[str, ...]] = {
    EVENTS: ("limit", "before", "after", "since", "until", "scope", "type", "order"),
    STREAM: ("after", "from", "since", "until"),
    "/log/v1/deployments": ("limit", "before", "project"),
    "/log/v1/changesets": ("limit", "before", "project"),
    "/log/v1/subscriptions/x/attempts": ("limit", "before"),
    "/log/v1/subscriptions/x/dead-letters": ("limit", "after"),
    "/api/v1/events/query/": ("page_size", "page_from"),
    "/v1/deployments/instances": ("offset", "limit", "search"),
    "/v1/acme/stacks/web/events": ("limit", "marker", "field", "filter"),
    "/v3/clusters/web/stackevents": ("nextToken",),
    "/v3/images/custom/web/stackevents": ("nextToken",),
}


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in PARAMETERS.items() for name in names]
)
async def test_no_parameter_causes_a_server_error(server: Local, path: str, name: str):
    def query(text: str) -> str:
        return f"{path}?{name}={quote(text, errors='surrogatepass')}"

    wrong = {}
    for text in TEXTS:
        async with server.http.get(server.url + query(text), headers=RFS) as response:
            # Of a stream, the head is enough.
            if response.status >= 500:
                wrong[text[:20]] = response.status

    assert wrong == {}


@pytest.mark.parametrize(
    "name", ["ce-elapsedms", "ce-time", "ce-scopes", "ce-groups", "ce-subject", "idempotency-key"]
)
async def test_no_header_causes_a_server_error(server: Local, name: str):
    texts = [text for text in TEXTS if text.isascii() and text.isprintable()]

    responses = {
        text[:20]: await server.post("{}", JSON, headers={**BINARY, name: text}) for text in texts
    }

    assert {text: a.body for text, a in responses.items() if a.status >= 500} == {}


async def test_an_elapsed_time_of_too_many_digits_is_refused_by_name(server: Local):
    response = await server.post("{}", JSON, headers={**BINARY, "ce-elapsedms": "9" * 5000})

    assert (response.status, response.json["field"]) == (400, "elapsedms")


@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_stored_deep_event_fails_no_page(server: Local, store: Store, depth: int):
    """One that was recorded before there was a bound."""
    scope = "project/acme/stack/stack-1/deployment/deployment-1"
    data = f'{{"operation":{nested(depth)},"deep":{nested(depth)}}}'
    await store.log.append([stack_created()])
    await store.log.append([deployment_event("deployment.started")])
    for type in (
        "resource.create.completed",
        "deployment.summary",
        "deployment.log",
        "inventory.release.uploaded",
        "state.deployment.updated",
        "changeset.resource",
        "deployment.completed",
    ):
        for source in ("terraform", "aws.cloudformation", "cloudformation"):
            event = new_event(
                type, scopes=(scope, "inventory/ip/ia/1.0"), source=source, resource="web"
            )
            raw = msgspec.Raw(data.encode())
            await store.log.append([msgspec.structs.replace(event, data=raw)])

    responses = {
        "native": await server.get(EVENTS),
        "rfs": await server.get("/v1/acme/stacks/web/events", headers=RFS),
        "escape": await server.get("/api/v1/events/query/"),
        "instances": await server.get("/v1/deployments/instances"),
        "instance": await server.get("/v1/deployments/instances/stack-1"),
        "exports": await server.get("/v1/deployments/instances/stack-1/exports"),
        "cluster": await server.get("/v3/clusters/web/stackevents"),
    }
    for action in ("DescribeStackEvents", "DescribeStacks", "ListStacks"):
        form = f"Action={action}&Version=2010-05-15"
        form += "" if action == "ListStacks" else "&StackName=web"
        responses[action] = await server.post(form, "application/x-www-form-urlencoded", "/")
    ends = b"event: deployment.completed\n"
    followed = b""
    async with (
        asyncio.timeout(PATIENCE),
        server.http.get(f"{server.url}{STREAM}?from=start") as read,
    ):
        while followed.count(ends) < 3:
            followed += await read.content.read(65536)

    assert {name: a.body for name, a in responses.items() if a.status not in (200, 404)} == {}
    assert (
        responses["native"].status == responses["rfs"].status == responses["escape"].status == 200
    )
