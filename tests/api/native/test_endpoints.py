"""The native API over HTTP, as documented in ``docs/reference/native-api.md``."""

import asyncio
import gzip
import json
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploylog.api.native.wire import parse_request_key
from deploylog.auth.authentication import CREDENTIAL_HEADERS
from deploylog.events.access import Principal
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.mounted import mounted
from support.problems import assert_problem
from support.servers import (
    BATCH,
    DEPLOYMENTS,
    EVENTS,
    LINES,
    ONE,
    Local,
    event,
    line,
    running,
)


async def recorded(server: Local) -> list[Any]:
    """Everything in the log, oldest first."""
    return await server.store.log.read(Query(order="oldest", limit=100_000))


# Appending


async def test_one_event_is_appended_in_structured_mode(server: Local):
    response = await server.post(event(id="a"), ONE)

    [stored] = await recorded(server)
    assert response.status == 201
    assert response.json == {"events": [{"id": stored.id, "position": str(stored.position)}]}
    assert (stored.producer_id, stored.type, stored.source) == (
        "a",
        "resource.create.started",
        "terraform",
    )


async def test_a_batch_is_appended_in_its_order(server: Local):
    response = await server.post([event(id=str(n)) for n in range(20)], BATCH)

    stored = await recorded(server)
    assert response.status == 201
    assert response.ids == [e.id for e in stored]
    assert [e.producer_id for e in stored] == [str(n) for n in range(20)]


async def test_lines_need_neither_specversion_nor_id_and_may_be_blank(server: Local):
    body = f"{json.dumps(line(subject='a'))}\n\n   \n{json.dumps(line(subject='b'))}\n"

    response = await server.post(body, LINES)

    stored = await recorded(server)
    assert response.ids == [e.id for e in stored]
    assert [(e.subject, e.producer_id) for e in stored] == [("a", None), ("b", None)]


async def test_an_event_is_appended_in_binary_mode(server: Local):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "a",
        "ce-source": "terraform",
        "ce-type": "deployment.log",
        "ce-scopes": "project/acme",
        "ce-subject": "Gr%C3%BC%C3%9Fe",
        "ce-elapsedms": "12",
        "ce-traceparent": "x",
    }

    response = await server.post(b'{"a":[1]}', "application/json", headers=headers)

    [visible] = (await server.get(EVENTS)).json["events"]
    assert response.status == 201
    assert visible["data"] == {"a": [1]}
    assert (visible["subject"], visible["elapsedms"], visible["traceparent"]) == ("Grüße", 12, "x")


async def test_text_in_binary_mode_is_returned_with_its_content_type(server: Local):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "a",
        "ce-source": "s",
        "ce-type": "t",
        "ce-scopes": "p",
    }

    response = await server.post("grüß dich".encode(), "text/plain", headers=headers)

    [visible] = (await server.get(EVENTS)).json["events"]
    assert response.status == 201
    assert (visible["data"], visible["datacontenttype"]) == ("grüß dich", "text/plain")


async def test_attributes_that_the_log_assigns_are_ignored_when_sent(server: Local):
    sent = event(position="99", recordedtime="2001-01-01T00:00:00Z", producerid="x")

    await server.post(sent, ONE)

    [visible] = (await server.get(EVENTS)).json["events"]
    assert (visible["position"], visible["producerid"]) == ("1", "1")
    assert visible["recordedtime"] > "2020"


async def test_every_documented_attribute_is_returned(server: Local):
    sent = event(
        subject="web",
        time="2026-11-21T04:12:26.944050Z",
        dataschema="https://example.com/schema",
        data={"a": None, "ü": [1.5, True]},
        scopes="project/acme/stack/1 state/acme/prod/web",
        groups="ops team%20blue",
        actor="alice",
        message="made\nit",
        elapsedms=8000,
        resourcetype="aws_vpc",
        resourcename="main",
        resourcekey="0",
        resourceaddress="aws_vpc.main[0]",
        resourceidkey="id",
        resourceidvalue="vpc-1",
    )

    await server.post(sent, ONE)

    [visible] = (await server.get(EVENTS)).json["events"]
    given_by_the_log = {"id", "producerid", "position", "recordedtime"}
    assert {name: visible[name] for name in visible if name not in given_by_the_log} == {
        name: value for name, value in sent.items() if name != "id"
    }
    assert visible["producerid"] == "1"
    assert uuid.UUID(visible["id"]).version == 7


@pytest.mark.parametrize("value", ["text", "", 7, -1, True, False, "ünï"])
@pytest.mark.parametrize("type", [ONE, BATCH, LINES])
async def test_an_unknown_attribute_is_stored_unchanged(server: Local, type: str, value: object):
    sent = event(traceparent=value)

    response = await server.post([sent] if type == BATCH else sent, type)

    [visible] = (await server.get(EVENTS)).json["events"]
    assert response.status == 201
    assert visible["traceparent"] == value
    assert visible["traceparent"].__class__ is value.__class__


async def test_the_parameters_are_defaults_of_the_events(server: Local):
    bare = {"type": "t"}
    full = {"type": "t", "source": "own", "scopes": "project/own"}

    await server.append([bare, full], f"{EVENTS}?scope=project/a&scope=project/b&source=cli")

    first, second = await recorded(server)
    assert (first.source, first.scopes) == ("cli", ("project/a", "project/b"))
    assert (second.source, second.scopes) == ("own", ("project/own",))


async def test_an_event_without_a_time_has_its_arrival_time(server: Local):
    await server.append([line()])

    [stored] = await recorded(server)
    assert abs(stored.time - stored.recorded) < 10 * 10**9


async def test_the_same_source_and_id_are_recorded_once(server: Local):
    first = await server.post(event(), ONE)

    again = await server.post(event(message="other"), ONE)

    assert (again.status, again.body) == (201, first.body)
    assert len(await recorded(server)) == 1


# Rejected requests


@pytest.mark.parametrize(
    ("third", "field"),
    [
        ({"source": "s", "scopes": "p"}, "type"),
        ({"type": "t", "scopes": "p"}, "source"),
        ({"type": "t", "source": "s"}, "scopes"),
        ({"type": "", "source": "s", "scopes": "p"}, "type"),
        (line(type="two words"), "type"),
        (line() | {"type": 1}, "type"),
        (line(time="yesterday"), "time"),
        (line(time="1969-12-31T23:59:59Z"), "time"),
        (line(time="9999-12-31T23:59:59Z"), "time"),
        (line(specversion="0.3"), "specversion"),
        (line(elapsedms="1"), "elapsedms"),
        (line(resourcetype="t"), "resourcename"),
        (line(actor=["a"]), "actor"),
        (line(subject="x" * 1025), "subject"),
        (line(subject="a\0b"), "subject"),
        (line(message="ü" * 32769), "message"),
        (line(UPPER="x"), "UPPER"),
        (line(nested={"a": 1}), "nested"),
    ],
)
@pytest.mark.parametrize("type", [LINES, BATCH])
async def test_an_invalid_event_is_named_and_nothing_is_recorded(
    server: Local, type: str, third: dict[str, Any], field: str
):
    events = [line(), line(), third, line()]
    body = json.dumps(events) if type == BATCH else "\n".join(map(json.dumps, events))

    response = await server.post(body, type)

    assert_problem(response, 400, "invalid-event", field)
    assert (response.json["line"], response.json["field"]) == (3, field)
    assert "line 3" in response.json["detail"]
    assert await recorded(server) == []


async def test_the_line_number_counts_blank_lines(server: Local):
    body = f"{json.dumps(line())}\n\n\n{json.dumps({'source': 's', 'scopes': 'p'})}\n"

    response = await server.post(body, LINES)

    assert_problem(response, 400, "invalid-event", "type")
    assert response.json["line"] == 4


async def test_the_line_number_of_an_invalid_event_counts_blank_lines(server: Local):
    body = f"{json.dumps(line())}\n\n\n{json.dumps(line(type='two words'))}\n"

    response = await server.post(body, LINES)

    assert_problem(response, 400, "invalid-event", "type")
    assert response.json["line"] == 4


async def test_a_line_that_is_not_json_is_named(server: Local):
    response = await server.post(f"{json.dumps(line())}\n{{'type'}}\n", LINES)

    assert_problem(response, 400, "invalid-event")
    assert response.json["line"] == 2
    assert await recorded(server) == []


@pytest.mark.parametrize("missing", ["specversion", "id", "type", "source"])
async def test_structured_mode_requires_the_required_attributes(server: Local, missing: str):
    sent = event()
    del sent[missing]

    response = await server.post(sent, ONE)

    assert_problem(response, 400, "invalid-event", missing)
    assert response.json["field"] == missing


@pytest.mark.parametrize("type", [ONE, BATCH, LINES])
async def test_an_empty_body_is_refused(server: Local, type: str):
    response = await server.post(b"", type)

    assert response.status == 400


@pytest.mark.parametrize("type", ["application/xml", "text/plain", "", "a/b; c"])
async def test_another_content_type_is_refused(server: Local, type: str):
    response = await server.post(event(), type)

    assert_problem(response, 415, "unsupported-media")
    assert await recorded(server) == []


async def test_an_unknown_encoding_is_refused(server: Local):
    response = await server.post(event(), ONE, headers={"Content-Encoding": "br"})

    assert_problem(response, 415, "unsupported-media")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{EVENTS}?limits=1", "limits"),
        (f"{EVENTS}/stream?before=x", "before"),
        (f"{DEPLOYMENTS}?scope=a", "scope"),
        ("/log/v1/stacks?x", "x"),
        ("/log/v1/projects?project=a", "project"),
    ],
)
async def test_an_unknown_parameter_is_named(server: Local, path: str, name: str):
    response = await server.get(path)

    assert_problem(response, 400, "invalid-input", name)
    assert response.json["field"] == name


async def test_an_unknown_parameter_of_an_append_is_named_and_nothing_recorded(server: Local):
    response = await server.post(event(), ONE, f"{EVENTS}?scopes=a")

    assert_problem(response, 400, "invalid-input", "scopes")
    assert response.json["field"] == "scopes"
    assert await recorded(server) == []


# Bodies


@pytest.fixture
async def narrow(store: Store) -> AsyncIterator[Local]:
    """A server that takes little."""
    async with running(
        store, max_body_bytes=20_000, max_decompressed_bytes=40_000, max_batch_events=10
    ) as server:
        yield server


async def test_a_body_over_the_limit_is_too_large(narrow: Local):
    response = await narrow.post(event(message="x" * 20_000), ONE)

    assert_problem(response, 413, "too-large")
    assert await recorded(narrow) == []


async def test_a_body_of_unknown_length_over_the_limit_is_too_large(narrow: Local):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    response = await narrow.ask("POST", EVENTS, data=endless(), headers={"Content-Type": ONE})

    assert_problem(response, 413, "too-large")


async def test_more_events_than_the_limit_are_too_many(narrow: Local):
    response = await narrow.post([event(id=str(n)) for n in range(11)], BATCH)

    assert_problem(response, 413, "too-large")
    assert await recorded(narrow) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_not_decompressed(narrow: Local, encoding: str):
    nothing = bytes(10_000_000)
    body = gzip.compress(nothing) if encoding == "gzip" else zlib.compress(nothing)
    assert len(body) < 20_000

    response = await narrow.post(body, LINES, headers={"Content-Encoding": encoding})

    assert_problem(response, 413, "too-large")


async def test_a_body_at_the_limit_is_accepted(narrow: Local):
    body = json.dumps(event()).encode()

    packed = gzip.compress(body.ljust(40_000))
    response = await narrow.post(packed, ONE, headers={"Content-Encoding": "gzip"})
    plain = await narrow.post(body.ljust(20_000), ONE)

    assert (response.status, plain.status) == (201, 201)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", "GZIP"])
async def test_a_compressed_body_is_decompressed(server: Local, encoding: str):
    body = json.dumps(event()).encode()
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "identity": bytes,
    }

    packed = packers[encoding.lower()](body)
    response = await server.post(packed, ONE, headers={"Content-Encoding": encoding})

    assert response.status == 201
    assert len(await recorded(server)) == 1


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b[:15], lambda b: b + b"x", lambda b: b"", lambda b: b"no gzip"],
    ids=["cut at the end", "cut", "trailing", "empty", "plain"],
)
async def test_a_corrupt_compressed_body_is_refused(server: Local, spoil: Any):
    body = spoil(gzip.compress(json.dumps(event()).encode()))

    response = await server.post(body, ONE, headers={"Content-Encoding": "gzip"})

    assert_problem(response, 400, "invalid-input")
    assert await recorded(server) == []


# Idempotency-Key


async def test_a_retry_with_the_same_key_gets_the_same_response(server: Local):
    headers = {"Idempotency-Key": "k"}
    first = await server.post([line(), line()], BATCH, headers=headers)

    again = await server.post([line(), line()], BATCH, headers=headers)

    assert (again.status, again.body) == (201, first.body)
    assert len(await recorded(server)) == 2


async def test_concurrent_retries_are_recorded_once(server: Local):
    headers = {"Idempotency-Key": "k"}

    responses = await asyncio.gather(
        *(server.post([line(), line()], BATCH, headers=headers) for _ in range(10))
    )

    assert {response.body for response in responses} == {responses[0].body}
    assert len(await recorded(server)) == 2


async def test_a_key_with_another_body_is_refused(server: Local):
    headers = {"Idempotency-Key": "k"}
    await server.post([line()], BATCH, headers=headers)

    response = await server.post([line(subject="other")], BATCH, headers=headers)

    assert_problem(response, 422, "request-reused")
    assert len(await recorded(server)) == 1


async def test_a_key_with_other_parameters_is_refused(server: Local):
    headers = {"Idempotency-Key": "k"}
    bare = {"type": "t", "source": "s"}
    await server.post(bare, LINES, f"{EVENTS}?scope=project/a", headers=headers)

    response = await server.post(bare, LINES, f"{EVENTS}?scope=project/b", headers=headers)

    assert_problem(response, 422, "request-reused")


def test_keys_of_different_principals_never_collide():
    owners = [("key", "a", "b/c"), ("key", "a/b", "c"), ("token", "a", "b/c"), ("key", "a/", "b/c")]

    keys = [
        parse_request_key({"idempotency-key": key}, Principal(name="x", id=id, kind=kind), "", b"")
        for kind, id, key in owners
    ]

    assert len({key.key for key in keys if key is not None}) == len(owners)


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_1_to_255_characters(server: Local, key: str):
    response = await server.post([line()], BATCH, headers={"Idempotency-Key": key})

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")


# Reading


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_have_each_event_once_while_events_arrive(server: Local, order: str):
    there = await server.append([line() for _ in range(25)])
    side = "before" if order == "newest" else "after"

    seen: list[str] = []
    path = f"{EVENTS}?order={order}&limit=4"
    while True:
        page = await server.get(path)
        seen += page.ids
        if len(seen) < 100:
            await server.append([line()])
        if "next" not in page.json or len(seen) > 200:
            break
        path = f"{EVENTS}?order={order}&limit=4&{side}={page.json['next']}"

    everything = [e.id for e in await recorded(server)]
    assert len(seen) == len(set(seen))
    if order == "newest":
        assert seen == there[::-1]
    else:
        assert seen == everything[: len(seen)]
        assert set(there) < set(seen)


async def test_previous_leads_to_events_that_arrived_since(server: Local):
    await server.append([line() for _ in range(5)])
    page = (await server.get(f"{EVENTS}?limit=3")).json
    new = await server.append([line() for _ in range(7)])

    newer: list[str] = []
    cursor = page["previous"]
    while response := (await server.get(f"{EVENTS}?order=oldest&limit=3&after={cursor}")).json:
        newer += [e["id"] for e in response["events"]]
        if "next" not in response:
            break
        cursor = response["next"]

    assert newer == new


async def test_both_bounds_are_exclusive(server: Local):
    ids = await server.append([line() for _ in range(5)])

    between = await server.get(f"{EVENTS}?after={ids[0]}&before={ids[4]}&order=oldest")
    none = await server.get(f"{EVENTS}?after={ids[4]}&before={ids[0]}")

    assert between.ids == ids[1:4]
    assert none.json == {"events": []}


async def test_an_empty_log_is_an_empty_page(server: Local):
    assert (await server.get(EVENTS)).json == {"events": []}


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("type=a.b", "1"),
        ("type=a.b&type=a.c", "12"),
        ("type=a.*", "125"),
        ("type=a.*&type=b", "1235"),
        ("type=ab&type=a.c.*", "45"),
        ("actor=alice", "13"),
        ("actor=alice&type=a.*", "1"),
        ("actor=alice&actor=bob&type=a.*", "12"),
        ("source=t2", "5"),
        ("subject=3&subject=4&subject=6", "34"),
        ("resourcetype=vpc", "24"),
        ("resourcetype=vpc&resourcename=x", "2"),
        ("resourcekey=0", "4"),
        ("resourcetype=v.*", ""),
        ("scope=project/acme", "12345"),
        ("scope=project/acme/stack", "5"),
        ("scope=project/acm", ""),
        ("scope=%2Fproject%2Facme%2Fstack%2F", "5"),
        ("scope=project/acme/stack&type=b", ""),
        ("scope=nowhere", ""),
        ("since=2026-01-02T00:00:00Z", "2345"),
        ("until=2026-01-02T00:00:00Z", "1"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-04T00:00:00Z", "23"),
        ("since=2026-01-02T01:00:00%2B01:00&until=2026-01-03T00:00:00Z", "2"),
        ("since=-30s", ""),
        ("type=", "12345"),
    ],
)
async def test_a_filter_finds_matching_events(server: Local, query: str, subjects: str):
    def at(day: int) -> str:
        return f"2026-01-0{day}T00:00:00Z"

    await server.append(
        [
            line("a.b", subject="1", time=at(1), actor="alice"),
            line("a.c", subject="2", time=at(2), actor="bob", resourcetype="vpc", resourcename="x"),
            line("b", subject="3", time=at(3), actor="alice"),
            line(
                "ab", subject="4", time=at(4), resourcetype="vpc", resourcename="y", resourcekey="0"
            ),
            line("a.c.d", subject="5", time=at(5), source="t2", scopes="project/acme/stack/s"),
        ]
    )

    response = await server.get(f"{EVENTS}?order=oldest&{query}")

    assert response.status == 200, response.body
    assert "".join(e["subject"] for e in response.json["events"]) == subjects


async def test_a_time_may_be_relative(server: Local):
    now = datetime.now(UTC)
    for minutes in (20, 10):
        time = (now - timedelta(minutes=minutes)).isoformat()
        await server.append([line(subject=str(minutes), time=time)])

    response = await server.get(f"{EVENTS}?since=-15m&until=-5m")

    assert [e["subject"] for e in response.json["events"]] == ["10"]


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "x", "1.5", "1e2", "٣", "99999999999", "0" * 8 + "1" + "0" * 7]
)
async def test_a_limit_out_of_range_is_refused(server: Local, limit: str):
    response = await server.get(EVENTS, params={"limit": limit})

    assert_problem(response, 400, "invalid-input", "limit")
    assert response.json["field"] == "limit"


async def test_a_limit_of_many_digits_is_refused(server: Local):
    response = await server.get(f"{EVENTS}?limit=000000001{'9' * 5000}")

    assert_problem(response, 400, "invalid-input", "limit")


@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("id", ["x", "42", "00000000-0000-4000-8000-000000000001"])
async def test_a_cursor_must_be_an_id(server: Local, name: str, id: str):
    response = await server.get(f"{EVENTS}?{name}={id}")

    assert_problem(response, 400, "invalid-cursor")


@pytest.mark.parametrize("name", ["since", "until"])
async def test_an_invalid_time_is_refused(server: Local, name: str):
    response = await server.get(f"{EVENTS}?{name}=yesterday")

    assert_problem(response, 400, "invalid-filter", name)
    assert response.json["field"] == name


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "-999999999d"])
async def test_a_time_far_away_is_valid(server: Local, name: str, time: str):
    ids = await server.append([line()])

    response = await server.get(f"{EVENTS}?{name}={time}")

    everything = (name == "since") != time.startswith("9999")
    assert response.status == 200, response.body
    assert response.ids == (ids if everything else [])


@pytest.mark.parametrize("query", ["order=up", "limit=1&limit=2", "scope=a//b", "scope=a%00"])
async def test_other_invalid_parameters_are_refused(server: Local, query: str):
    response = await server.get(f"{EVENTS}?{query}")

    assert response.status == 400
    assert response.json["field"] == query.partition("=")[0]


async def test_a_pruned_cursor_is_gone(server: Local):
    [old] = await server.append([line()])
    await server.append([line()])
    stored = await server.append([line()])
    position = (await server.store.log.read(Query(limit=1)))[0].recorded
    await server.store.log.prune(position)

    response = await server.get(f"{EVENTS}?after={old}")

    assert_problem(response, 410, "cursor-expired")
    assert (await server.get(EVENTS)).ids == stored


# One event


async def test_one_event_equals_its_entry_in_the_list(server: Local):
    [id] = await server.append([line(subject="web", data={"a": 1})])

    response = await server.get(f"{EVENTS}/{id}")

    [listed] = (await server.get(EVENTS)).json["events"]
    assert (response.status, response.json) == (200, listed)


async def test_an_unknown_event_is_not_found(server: Local):
    [id] = await server.append([line()])

    response = await server.get(f"{EVENTS}/{id[:-1]}{int(id[-1], 16) ^ 1:x}")

    assert_problem(response, 404, "event-not-found")


async def test_an_id_of_the_right_position_but_another_time_is_not_found(server: Local):
    [id] = await server.append([line()])

    response = await server.get(f"{EVENTS}/00000000{id[8:]}")

    assert_problem(response, 404, "event-not-found")


async def test_an_id_of_another_log_is_refused(server: Local):
    response = await server.get(f"{EVENTS}/01939c2e-0000-7000-8000-000000000001")

    assert_problem(response, 400, "invalid-cursor")


# Deployments


#: What a deployment carries when nobody has said anything.
UNSAID: dict[str, object] = {
    "version": None, "commits": [], "artifacts": [], "url": None, "change_request": None,
    "approvers": [], "plan": None, "labels": {}, "production": None, "emergency": None,
    "rework_of": None, "restores": None,
}  # fmt: skip

SAID: dict[str, object] = {
    "version": "1.4.2",
    "commits": [{"sha": "4be3708", "repository": "https://git.example/acme/web"}],
    "artifacts": [{"purl": "pkg:oci/web"}],
    "url": "https://ci.example/1",
    "change_request": "https://git.example/acme/web/pull/7",
    "approvers": ["bob"],
    "plan": {"digest": "sha256:0123456789abcdef"},
    "labels": {"team": "shop"},
    "production": True,
    "emergency": False,
    "rework_of": "INC-7",
    "restores": "INC-7",
}


async def test_a_deployment_carries_what_is_said_and_its_event_tells_it(server: Local):
    opened = await server.open(environment="prod", **SAID)  # type: ignore[arg-type]
    await server.append(
        [{"type": "deployment.completed", "source": "t", "data": {"version": "9"}}],
        f"{EVENTS}?deployment={opened['id']}",
    )

    found = (await server.get(f"{DEPLOYMENTS}/{opened['id']}")).json

    assert {name: found[name] for name in SAID} == SAID
    state, _, started, _ = (await server.get(EVENTS)).json["events"]
    assert started["data"] == {"stack": "web", "environment": "prod", **SAID}
    assert SAID.items() <= state["data"].items()


async def test_an_invalid_detail_is_refused_by_its_name(server: Local):
    body = {"project": "acme", "stack": "web", "commits": [{"sha": "main"}]}
    opened = await server.post(body, "application/json", DEPLOYMENTS)
    id = (await server.open())["id"]
    event = {"type": "deployment.completed", "source": "t", "data": {"labels": ["x"]}}
    ended = await server.post(event, LINES, f"{EVENTS}?deployment={id}")

    assert_problem(opened, 400, "invalid-input", "commits.0.sha")
    assert_problem(ended, 400, "invalid-event", "data.labels")


async def test_a_deployment_is_opened_with_its_stack(server: Local):
    opened = await server.open(
        tool="terraform", operation="apply", environment="prod", actor="alice", groups=["b", "a"]
    )

    stack_id, id = opened["stack_id"], opened["id"]
    assert uuid.UUID(id)
    assert uuid.UUID(stack_id)
    assert opened["started"].endswith("Z")
    assert opened == {
        "id": id,
        "project": "acme",
        "stack": "web",
        "stack_id": stack_id,
        "status": "running",
        "started": opened["started"],
        "ended": None,
        "tool": "terraform",
        "operation": "apply",
        "environment": "prod",
        "actor": "alice",
        "message": None,
        "counts": {"added": 0, "changed": 0, "destroyed": 0, "failed": 0},
        **UNSAID,
        "scopes": [f"project/acme/stack/{stack_id}/deployment/{id}", "state/acme/prod/web"],
        "groups": ["a", "b"],
    }
    assert (await server.get(f"{DEPLOYMENTS}/{id}")).json == opened
    types = [e["type"] for e in (await server.get(EVENTS)).json["events"]]
    assert types == ["deployment.started", "stack.created"]


async def test_opening_a_deployment_again_under_its_id_returns_it(server: Local):
    id = str(uuid.uuid4())
    first = await server.open(id=id)

    again = await server.open(id=id.upper())

    assert again == first
    assert len((await server.get(DEPLOYMENTS)).json["deployments"]) == 1
    assert len(await recorded(server)) == 2


async def test_concurrent_opens_of_a_deployment_are_one(server: Local):
    id = str(uuid.uuid4())

    opened = await asyncio.gather(*(server.open(id=id) for _ in range(10)))

    assert [each for each in opened if each != opened[0]] == []
    assert len(await recorded(server)) == 2


async def test_concurrent_opens_of_a_stack_are_one(server: Local):
    opened = await asyncio.gather(*(server.open() for _ in range(10)))

    assert len({each["stack_id"] for each in opened}) == 1
    assert len({each["id"] for each in opened}) == 10


async def test_an_id_of_another_stack_is_a_conflict(server: Local):
    id = (await server.open())["id"]

    body = {"id": id, "project": "acme", "stack": "other"}
    response = await server.post(body, "application/json", DEPLOYMENTS)

    assert_problem(response, 409, "conflict")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"project": "acme"},
        {"project": "acme", "stack": ""},
        {"project": "", "stack": "web"},
        {"project": "acme", "stack": "x" * 129},
        {"project": "acme", "stack": "web", "id": "x"},
        {"project": "acme", "stack": "web", "colour": "red"},
        {"project": "acme", "stack": "web", "groups": "ops"},
        {"project": "acme", "stack": "web", "groups": [""]},
        {"project": "acme", "stack": "web", "environment": ""},
        {"project": "acme", "stack": "web\0"},
        {"project": "a\0", "stack": "web"},
        {"project": 1, "stack": "web"},
        [],
        "x",
    ],
)
async def test_an_invalid_deployment_is_refused(server: Local, body: object):
    response = await server.post(json.dumps(body), "application/json", DEPLOYMENTS)

    assert response.status == 400, response.body
    assert response.headers["content-type"] == "application/problem+json"
    assert (await server.get(DEPLOYMENTS)).json["deployments"] == []


async def test_deployments_are_listed_in_pages_last_started_first(server: Local):
    ids = [(await server.open(stack))["id"] for stack in ("a", "b", "a", "b", "a")]

    seen: list[str] = []
    path = f"{DEPLOYMENTS}?limit=2"
    while True:
        page = (await server.get(path)).json
        seen += [each["id"] for each in page["deployments"]]
        await server.open("new")
        if "next" not in page:
            break
        path = f"{DEPLOYMENTS}?limit=2&before={page['next']}"

    of_one = (await server.get(f"{DEPLOYMENTS}?project=acme&stack=a")).json["deployments"]
    assert seen == ids[::-1]
    assert [each["id"] for each in of_one] == [ids[4], ids[2], ids[0]]


async def test_a_stack_without_its_project_is_that_of_any_project(server: Local):
    opened = {(await server.open(project=project))["id"] for project in ("acme", "beta")}

    listed = (await server.get(f"{DEPLOYMENTS}?stack=web")).json["deployments"]

    assert {each["id"] for each in listed} == opened


async def test_an_unknown_deployment_is_not_found(server: Local):
    for path in (f"{DEPLOYMENTS}/x", f"{DEPLOYMENTS}/{uuid.uuid4()}/wait"):
        assert_problem(await server.get(path), 404, "deployment-not-found")

    response = await server.post(line(), LINES, f"{EVENTS}?deployment={uuid.uuid4()}")
    assert_problem(response, 404, "deployment-not-found")


async def test_events_inherit_from_their_deployment(server: Local):
    opened = await server.open(environment="prod", actor="alice", groups=["ops"])
    bare = {"type": "resource.create.completed", "source": "terraform"}

    await server.append(
        [bare, {**bare, "actor": "bob"}], f"{EVENTS}?deployment={opened['id'].upper()}"
    )

    first, second = (await server.get(f"{EVENTS}?type=resource.*&order=oldest")).json["events"]
    assert first["scopes"] == " ".join(opened["scopes"])
    assert (first["groups"], first["actor"]) == ("ops", "alice")
    assert second["actor"] == "bob"
    counts = (await server.get(f"{DEPLOYMENTS}/{opened['id']}")).json["counts"]
    assert counts == {"added": 2, "changed": 0, "destroyed": 0, "failed": 0}


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_waiting_ends_as_soon_as_the_deployment_does(server: Local, status: str):
    id = (await server.open(environment="prod"))["id"]
    waiting = asyncio.create_task(server.get(f"{DEPLOYMENTS}/{id}/wait?timeout=300"))
    await server.until(lambda: server.hub.readers == 1)

    end = {"type": f"deployment.{status}", "source": "terraform", "message": "so"}
    await server.append([end], f"{EVENTS}?deployment={id}")

    async with asyncio.timeout(2):
        response = await waiting
    assert (response.json["status"], response.json["message"]) == (status, "so")
    assert response.json["ended"]
    assert server.hub.readers == 0


async def test_many_wait_for_the_same_deployment(server: Local):
    id = (await server.open())["id"]
    waiting = [
        asyncio.create_task(server.get(f"{DEPLOYMENTS}/{id}/wait?timeout=300")) for _ in range(50)
    ]
    await server.until(lambda: server.hub.readers == 50)

    await server.append(
        [{"type": "deployment.completed", "source": "t"}], f"{EVENTS}?deployment={id}"
    )

    assert {(await each).json["status"] for each in waiting} == {"completed"}


async def test_waiting_for_a_deployment_that_has_ended_does_not_wait(server: Local):
    id = (await server.open())["id"]
    await server.append([{"type": "deployment.failed", "source": "t"}], f"{EVENTS}?deployment={id}")

    async with asyncio.timeout(5):
        response = await server.get(f"{DEPLOYMENTS}/{id}/wait?timeout=300")

    assert response.json["status"] == "failed"


@pytest.mark.parametrize("timeout", [0, 1])
async def test_waiting_times_out_with_the_running_deployment(server: Local, timeout: int):
    opened = await server.open()

    response = await server.get(f"{DEPLOYMENTS}/{opened['id']}/wait?timeout={timeout}")

    assert (response.status, response.json) == (200, opened)
    assert server.hub.readers == 0


@pytest.mark.parametrize("timeout", ["301", "-1", "x", "0" * 9 + "9" * 5000])
async def test_a_timeout_out_of_range_is_refused(server: Local, timeout: str):
    id = (await server.open())["id"]

    response = await server.get(f"{DEPLOYMENTS}/{id}/wait?timeout={timeout}")

    assert_problem(response, 400, "invalid-input", "timeout")


# Stacks and projects


async def test_stacks_are_listed_newest_first(server: Local):
    for stack in ("a", "b"):
        await server.open(stack)
    await server.open("c", project="other")

    everything = (await server.get("/log/v1/stacks")).json["stacks"]
    of_one = (await server.get("/log/v1/stacks?project=acme")).json["stacks"]

    assert [stack["name"] for stack in everything] == ["c", "b", "a"]
    assert [stack["name"] for stack in of_one] == ["b", "a"]
    assert of_one[0] == {
        "id": of_one[0]["id"],
        "project": "acme",
        "name": "b",
        "created": of_one[0]["created"],
        "deleted": None,
        "scopes": [f"project/acme/stack/{of_one[0]['id']}"],
        "groups": [],
    }
    assert (await server.get("/log/v1/projects")).json == {"projects": ["acme", "other"]}


async def test_a_recreated_stack_is_a_new_one(server: Local):
    first = (await server.open())["stack_id"]

    deleted = await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")
    second = (await server.open())["stack_id"]

    every = (await server.get("/log/v1/stacks?deleted=true")).json["stacks"]
    assert (deleted.status, deleted.body) == (204, b"")
    assert first != second
    assert [(stack["id"], stack["deleted"] is None) for stack in every] == [
        (second, True),
        (first, False),
    ]
    assert [s["id"] for s in (await server.get("/log/v1/stacks")).json["stacks"]] == [second]


async def test_the_events_of_a_deleted_stack_are_retained(server: Local):
    id = (await server.open())["stack_id"]

    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")

    visible = (await server.get(f"{EVENTS}?scope=project/acme/stack/{id}")).json["events"]
    assert [e["type"] for e in visible] == ["stack.deleted", "deployment.started", "stack.created"]


async def test_an_unknown_stack_cannot_be_deleted(server: Local):
    response = await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")

    assert_problem(response, 404, "stack-not-found")


async def test_a_stack_with_any_name_can_be_deleted(server: Local):
    await server.open("a/b ü%", project="x/y")

    response = await server.ask("DELETE", "/log/v1/stacks?project=x%2Fy&name=a%2Fb%20%C3%BC%25")

    assert response.status == 204, response.body


# Invalid values


@pytest.mark.parametrize("type", ["application/cloudevents+json", LINES])
async def test_data_of_many_lines_is_sent_on_one(server: Local, type: str):
    event = json.dumps(line(id="1", specversion="1.0"))[:-1]
    data = '{"a": 1,\r"b": 2}' if type == LINES else '{\n"a": 1,\n\n"b": "x\\ny"}'

    response = await server.post(f'{event}, "data": {data}}}', type)

    assert response.status == 201, response.body
    page = await server.get(f"{EVENTS}?limit=1")
    assert b"\n" not in page.body
    assert b"\r" not in page.body
    assert page.json["events"][0]["data"]["a"] == 1


@pytest.mark.parametrize(
    ("also", "field"),
    [
        ({"id": ""}, "id"),
        ({"note": "x" * 70_000}, "extensions"),
        ({"data": "x" * 300_000}, "data"),
        ({"scopes": "project/acme" + " " * 100_000}, "scopes"),
    ],
)
async def test_oversized_and_empty_values_are_named(server: Local, also: Any, field: str):
    response = await server.post(json.dumps(line(**also)), LINES)

    assert_problem(response, 400, "invalid-event", field)
    assert response.json["field"] == field


async def test_a_filter_has_at_most_a_hundred_values(server: Local):
    query = "&".join(f"type=a{number}.*" for number in range(101))

    assert_problem(await server.get(f"{EVENTS}?{query}"), 400, "invalid-filter", "type")


async def test_a_refused_deployment_leaves_no_stack(server: Local):
    groups = [f"g{number}" for number in range(70)]
    body = json.dumps({"project": "acme", "stack": "ghost", "groups": groups})

    response = await server.ask("POST", DEPLOYMENTS, data=body)

    assert response.status == 400
    assert (await server.get("/log/v1/stacks")).json == {"stacks": []}


async def test_a_head_request_of_a_stream_ends(server: Local):
    async with asyncio.timeout(5):
        response = await server.ask("HEAD", f"{EVENTS}/stream")

    assert response.status == 200


async def test_an_unknown_deployment_is_no_cursor(server: Local):
    assert_problem(await server.get(f"{DEPLOYMENTS}?before=nope"), 400, "invalid-cursor", "before")


# Around


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/log/v1/"),
        ("GET", "/log/v1/events/"),
        ("PUT", "/log/v1/events"),
        ("DELETE", "/log/v1/projects"),
        ("PATCH", "/log/v1/deployments/x"),
        ("POST", "/healthz"),
    ],
)
async def test_an_unknown_path_is_a_problem(server: Local, method: str, path: str):
    response = await server.ask(method, path)

    assert response.status in (404, 405)
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_unknown_path_of_rfs_has_its_envelope(server: Local):
    response = await server.get("/v1/acme/stacks")

    assert response.status == 404
    assert response.json["error_code"] == "APIGW.0101"


async def test_the_service_reports_its_health(server: Local):
    await server.append([line()])

    for path in ("/healthz", "/readyz"):
        assert (await server.get(path)).body == b"ok\n"
    metrics = (await server.get("/metrics")).body.decode()
    assert "deploylog_readers 0.0" in metrics
    assert "deploylog_head_position 1.0" in metrics


async def test_the_service_describes_itself(server: Local):
    document = await server.get("/openapi.json")
    page = await server.get("/docs/text")

    assert document.json["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    for path in document.json["paths"]:
        assert path in page.body.decode()


async def test_every_route_is_described_and_every_description_is_a_route(
    server: Local, store: Store
):
    described = {
        (method.upper(), path)
        for path, methods in (await server.get("/openapi.json")).json["paths"].items()
        for method in methods
    }

    own = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"}
    routed = {
        (method, path) for method, path, _ in await mounted(store)
        if method != "HEAD" and path not in own and not path.startswith(("/ui", "/docs"))
    }  # fmt: skip
    assert described <= routed
    # EscapeKit's clients may leave out the slash at the end, or add one.
    respelled = {(m, path.removesuffix("/")) for m, path in routed}
    assert respelled == {(m, path.removesuffix("/")) for m, path in described}


async def test_every_header_of_a_credential_is_described(server: Local):
    document = (await server.get("/openapi.json")).json

    schemes = document["components"]["securitySchemes"]
    headers = {
        "cookie" if scheme.get("in") == "cookie" else scheme.get("name", "Authorization").lower()
        for scheme in schemes.values()
    }
    assert headers == set(CREDENTIAL_HEADERS)
    assert document["security"] == [{}, *({name: []} for name in schemes)]


async def test_every_reference_of_the_description_resolves(server: Local):
    document = (await server.get("/openapi.json")).json
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(value for name, value in node.items() if name == "$ref")
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)

    assert found
    for reference in found:
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]


# Hostile bodies

DEEP = 100_000

HOSTILE = {
    "nothing": b"",
    "blanks": b" \n\t\r\n",
    "NUL": b"\0",
    "not UTF-8": b'{"type":"\xff\xfe"}',
    "overlong": b'{"type":"t","source":"s","scopes":"p","subject":"\xc0\xaf"}',
    "surrogate bytes": b'{"type":"t","source":"s","scopes":"p","subject":"\xed\xa0\x80"}',
    "lone surrogate": rb'{"type":"t","source":"s","scopes":"p","subject":"\ud800"}',
    "surrogate scope": rb'{"type":"t","source":"s","scopes":"p/\udc00"}',
    "surrogate extension": rb'{"type":"t","source":"s","scopes":"p","x":"\ud800"}',
    "surrogate name": rb'{"\ud800":"t"}',
    "surrogate data": rb'{"type":"t","source":"s","scopes":"p","data":"\ud800"}',
    "data not UTF-8": b'{"type":"t","source":"s","scopes":"p","data":"\xff"}',
    "surrogate project": rb'{"project":"\ud800","stack":"web"}',
    "surrogate stack": rb'{"project":"acme","stack":"\udfff"}',
    "surrogate group": rb'{"project":"acme","stack":"web","groups":["\ud800"]}',
    "encoded surrogate": b'{"type":"t","source":"s","scopes":"p/%ED%A0%80","groups":"%ED%A0%80"}',
    "deep arrays": b"[" * DEEP,
    "deep closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep data": b'{"type":"t","source":"s","scopes":"p","data":'
    + b"[" * DEEP
    + b"]" * DEEP
    + b"}",
    "deep extension": b'{"type":"t","source":"s","scopes":"p","x":' + b"[" * DEEP + b"]" * DEEP,
    "great number": b'{"type":"t","source":"s","scopes":"p","elapsedms":' + b"9" * 5000 + b"}",
    "great float": b'{"type":"t","source":"s","scopes":"p","elapsedms":1e999}',
    "great extension": b'{"type":"t","source":"s","scopes":"p","x":' + b"9" * 5000 + b"}",
    "64 bits": b'{"type":"t","source":"s","scopes":"p","elapsedms":18446744073709551615}',
    "great data": b'{"type":"t","source":"s","scopes":"p","data":' + b"9" * 5000 + b"}",
    "NaN": b'{"type":"t","source":"s","scopes":"p","data":NaN}',
    "stack without a name": b'{"type":"stack.created","source":"s","scopes":"project/a/stack/1"}',
    "stack with an odd name": b'{"type":"stack.created","source":"s",'
    b'"scopes":"project/a/stack/1","data":{"name":"\\ud800"}}',
    "deployment of nothing": b'{"type":"deployment.started","source":"s",'
    b'"scopes":"project/a/stack/1/deployment/2","data":[1]}',
    "BOM": b'\xef\xbb\xbf{"type":"t","source":"s","scopes":"p"}',
    "null": b"null",
    "number": b"1",
    "text": b'"x"',
    "array of numbers": b"[1,2]",
    "twice": b'{"type":"t","type":"u","source":"s","scopes":"p"}',
}


@pytest.mark.parametrize("path", [EVENTS, DEPLOYMENTS])
async def test_a_hostile_body_never_breaks_the_server(server: Local, path: str):
    for name, body in HOSTILE.items():
        for type in (ONE, BATCH, LINES, "application/json", "text/plain"):
            for sent in (body, b"[" + body + b"]"):
                headers = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s"}
                binary = {**headers, "ce-scopes": "p"} if "/" in type and type != ONE else {}
                response = await server.post(sent, type, path, headers=binary)
                assert response.status in (201, 400, 413, 415), (name, type, response.body)

    for response in (await server.get(EVENTS), await server.get(f"{EVENTS}?limit=1000")):
        assert response.status == 200
        json.loads(response.body)


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "\xff", "a:b:c", "x/y?z=1#f", ""])
async def test_an_odd_host_header_causes_no_server_error(server: Local, host: str):
    for target in (f"{EVENTS}?limit=1", "/nowhere", f"{DEPLOYMENTS}?limit=1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("latin-1"))
        async with asyncio.timeout(5):
            response = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert int(response.split()[1]) < 500, response


@pytest.mark.parametrize(
    "target",
    [
        f"{EVENTS}?scope=%ff",
        f"{EVENTS}?type=%ed%a0%80",
        f"{EVENTS}?actor=%00",
        f"{EVENTS}?scope=" + "a/" * 5000,
        f"{EVENTS}?" + "type=a&" * 5000,
        f"{EVENTS}/%ff",
        f"{EVENTS}/{{01939c2e-0000-7000-8000-000000000001}}",
        f"{DEPLOYMENTS}/%00",
        f"{DEPLOYMENTS}?before=%ff",
        f"{DEPLOYMENTS}?project=%00&stack=%00",
        f"{DEPLOYMENTS}?project={'x' * 3000}&stack=b",
        "/log/v1/stacks?project=%ed%a0%80",
        "/v1/%ff/stacks/%ff/events",
    ],
)
async def test_odd_parameters_cause_no_server_error(server: Local, target: str):
    from yarl import URL

    response = await server.get(URL(server.url + target, encoded=True))

    assert response.status < 500, response.body
