"""The native API over HTTP, as ``docs/reference/native-api.md`` says it."""

import asyncio
import gzip
import json
import uuid
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploylog.api import APIS
from deploylog.api.native.wire import parse_request_key
from deploylog.auth.authentication import CREDENTIAL_HEADERS
from deploylog.events.access import Principal
from deploylog.events.store import Query
from deploylog.store.contract import Store
from support.servers import (
    BATCH,
    DEPLOYMENTS,
    EVENTS,
    LINES,
    ONE,
    Answer,
    Local,
    event,
    line,
    running,
)


async def recorded(server: Local) -> list[Any]:
    """Everything in the log, oldest first."""
    return await server.store.log.read(Query(order="oldest", limit=100_000))


def assert_problem(answer: Answer, status: int, kind: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["type"].rpartition(":")[2].rpartition("/")[2] == kind
    assert problem["title"]
    assert problem["detail"]


# Appending


async def test_one_event_is_appended_in_structured_mode(server: Local):
    answer = await server.post(event(id="a"), ONE)

    [kept] = await recorded(server)
    assert answer.status == 201
    assert answer.json == {"events": [{"id": kept.id, "position": str(kept.position)}]}
    assert (kept.producer_id, kept.type, kept.source) == (
        "a",
        "resource.create.started",
        "terraform",
    )


async def test_a_batch_is_appended_in_its_order(server: Local):
    answer = await server.post([event(id=str(n)) for n in range(20)], BATCH)

    kept = await recorded(server)
    assert answer.status == 201
    assert answer.ids == [e.id for e in kept]
    assert [e.producer_id for e in kept] == [str(n) for n in range(20)]


async def test_lines_need_neither_specversion_nor_id_and_may_be_blank(server: Local):
    body = f"{json.dumps(line(subject='a'))}\n\n   \n{json.dumps(line(subject='b'))}\n"

    answer = await server.post(body, LINES)

    kept = await recorded(server)
    assert answer.ids == [e.id for e in kept]
    assert [(e.subject, e.producer_id) for e in kept] == [("a", None), ("b", None)]


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

    answer = await server.post(b'{"a":[1]}', "application/json", headers=headers)

    [shown] = (await server.get(EVENTS)).json["events"]
    assert answer.status == 201
    assert shown["data"] == {"a": [1]}
    assert (shown["subject"], shown["elapsedms"], shown["traceparent"]) == ("Grüße", 12, "x")


async def test_text_in_binary_mode_comes_back_with_its_content_type(server: Local):
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "a",
        "ce-source": "s",
        "ce-type": "t",
        "ce-scopes": "p",
    }

    answer = await server.post("grüß dich".encode(), "text/plain", headers=headers)

    [shown] = (await server.get(EVENTS)).json["events"]
    assert answer.status == 201
    assert (shown["data"], shown["datacontenttype"]) == ("grüß dich", "text/plain")


async def test_what_the_log_gives_is_ignored_when_sent(server: Local):
    sent = event(position="99", recordedtime="2001-01-01T00:00:00Z", producerid="x")

    await server.post(sent, ONE)

    [shown] = (await server.get(EVENTS)).json["events"]
    assert (shown["position"], shown["producerid"]) == ("1", "1")
    assert shown["recordedtime"] > "2020"


async def test_every_documented_attribute_comes_back(server: Local):
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

    [shown] = (await server.get(EVENTS)).json["events"]
    given_by_the_log = {"id", "producerid", "position", "recordedtime"}
    assert {name: shown[name] for name in shown if name not in given_by_the_log} == {
        name: value for name, value in sent.items() if name != "id"
    }
    assert shown["producerid"] == "1"
    assert uuid.UUID(shown["id"]).version == 7


@pytest.mark.parametrize("value", ["text", "", 7, -1, True, False, "ünï"])
@pytest.mark.parametrize("type", [ONE, BATCH, LINES])
async def test_an_unknown_attribute_is_kept_as_it_was(server: Local, type: str, value: object):
    sent = event(traceparent=value)

    answer = await server.post([sent] if type == BATCH else sent, type)

    [shown] = (await server.get(EVENTS)).json["events"]
    assert answer.status == 201
    assert shown["traceparent"] == value
    assert shown["traceparent"].__class__ is value.__class__


async def test_the_parameters_are_for_what_the_events_do_not_say(server: Local):
    bare = {"type": "t"}
    full = {"type": "t", "source": "own", "scopes": "project/own"}

    await server.append([bare, full], f"{EVENTS}?scope=project/a&scope=project/b&source=cli")

    first, second = await recorded(server)
    assert (first.source, first.scopes) == ("cli", ("project/a", "project/b"))
    assert (second.source, second.scopes) == ("own", ("project/own",))


async def test_without_a_time_an_event_has_that_of_its_arrival(server: Local):
    await server.append([line()])

    [kept] = await recorded(server)
    assert abs(kept.time - kept.recorded) < 10 * 10**9


async def test_the_same_source_and_id_are_recorded_once(server: Local):
    first = await server.post(event(), ONE)

    again = await server.post(event(message="other"), ONE)

    assert (again.status, again.body) == (201, first.body)
    assert len(await recorded(server)) == 1


# What is not taken


@pytest.mark.parametrize(
    ("third", "field"),
    [
        ({"source": "s", "scopes": "p"}, "type"),
        ({"type": "t", "scopes": "p"}, "source"),
        ({"type": "t", "source": "s"}, "scopes"),
        ({"type": "", "source": "s", "scopes": "p"}, "type"),
        (line(type="two words"), "type"),
        (line(type=1), "type"),
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
async def test_a_bad_event_is_named_and_nothing_is_recorded(
    server: Local, type: str, third: dict[str, object], field: str
):
    events = [line(), line(), third, line()]
    body = json.dumps(events) if type == BATCH else "\n".join(map(json.dumps, events))

    answer = await server.post(body, type)

    assert_problem(answer, 400, "invalid-event")
    assert (answer.json["line"], answer.json["field"]) == (3, field)
    assert "line 3" in answer.json["detail"]
    assert await recorded(server) == []


async def test_the_line_is_that_of_the_body_when_there_are_blank_ones(server: Local):
    body = f"{json.dumps(line())}\n\n\n{json.dumps({'source': 's', 'scopes': 'p'})}\n"

    answer = await server.post(body, LINES)

    assert_problem(answer, 400, "invalid-event")
    assert answer.json["line"] == 4


async def test_the_line_is_that_of_the_body_when_the_event_itself_is_at_fault(server: Local):
    body = f"{json.dumps(line())}\n\n\n{json.dumps(line(type='two words'))}\n"

    answer = await server.post(body, LINES)

    assert_problem(answer, 400, "invalid-event")
    assert answer.json["line"] == 4


async def test_a_line_that_is_not_json_is_named(server: Local):
    answer = await server.post(f"{json.dumps(line())}\n{{'type'}}\n", LINES)

    assert_problem(answer, 400, "invalid-event")
    assert answer.json["line"] == 2
    assert await recorded(server) == []


@pytest.mark.parametrize("missing", ["specversion", "id", "type", "source"])
async def test_structured_mode_needs_what_cloudevents_asks_for(server: Local, missing: str):
    sent = event()
    del sent[missing]

    answer = await server.post(sent, ONE)

    assert_problem(answer, 400, "invalid-event")
    assert answer.json["field"] == missing


@pytest.mark.parametrize("type", [ONE, BATCH, LINES])
async def test_an_empty_body_is_refused(server: Local, type: str):
    answer = await server.post(b"", type)

    assert answer.status == 400


@pytest.mark.parametrize("type", ["application/json", "text/plain", "", "a/b; c"])
async def test_another_content_type_is_refused(server: Local, type: str):
    answer = await server.post(event(), type)

    assert_problem(answer, 415, "unsupported-media")
    assert await recorded(server) == []


async def test_an_unknown_encoding_is_refused(server: Local):
    answer = await server.post(event(), ONE, headers={"Content-Encoding": "br"})

    assert_problem(answer, 415, "unsupported-media")


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
    answer = await server.get(path)

    assert_problem(answer, 400, "invalid-input")
    assert answer.json["field"] == name


async def test_an_unknown_parameter_of_an_append_is_named_and_nothing_recorded(server: Local):
    answer = await server.post(event(), ONE, f"{EVENTS}?scopes=a")

    assert_problem(answer, 400, "invalid-input")
    assert answer.json["field"] == "scopes"
    assert await recorded(server) == []


# Bodies


@pytest.fixture
async def narrow(store: Store) -> AsyncIterator[Local]:
    """A server that takes little."""
    limits = {"max_body_bytes": 20_000, "max_decompressed_bytes": 40_000, "max_batch_events": 10}
    async with running(store, **limits) as server:
        yield server


async def test_a_body_over_the_limit_is_too_large(narrow: Local):
    answer = await narrow.post(event(message="x" * 20_000), ONE)

    assert_problem(answer, 413, "too-large")
    assert await recorded(narrow) == []


async def test_a_body_of_untold_length_over_the_limit_is_too_large(narrow: Local):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = await narrow.ask("POST", EVENTS, data=endless(), headers={"Content-Type": ONE})

    assert_problem(answer, 413, "too-large")


async def test_more_events_than_the_limit_are_too_many(narrow: Local):
    answer = await narrow.post([event(id=str(n)) for n in range(11)], BATCH)

    assert_problem(answer, 413, "too-large")
    assert await recorded(narrow) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_not_unpacked(narrow: Local, encoding: str):
    nothing = bytes(10_000_000)
    body = gzip.compress(nothing) if encoding == "gzip" else zlib.compress(nothing)
    assert len(body) < 20_000

    answer = await narrow.post(body, LINES, headers={"Content-Encoding": encoding})

    assert_problem(answer, 413, "too-large")


async def test_a_body_as_long_as_the_limit_is_taken(narrow: Local):
    body = json.dumps(event()).encode()

    packed = gzip.compress(body.ljust(40_000))
    answer = await narrow.post(packed, ONE, headers={"Content-Encoding": "gzip"})
    plain = await narrow.post(body.ljust(20_000), ONE)

    assert (answer.status, plain.status) == (201, 201)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", "GZIP"])
async def test_a_packed_body_is_unpacked(server: Local, encoding: str):
    body = json.dumps(event()).encode()
    packers = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}

    packed = packers[encoding.lower()](body)
    answer = await server.post(packed, ONE, headers={"Content-Encoding": encoding})

    assert answer.status == 201
    assert len(await recorded(server)) == 1


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b[:15], lambda b: b + b"x", lambda b: b"", lambda b: b"no gzip"],
    ids=["cut at the end", "cut", "trailing", "empty", "plain"],
)
async def test_a_spoilt_packed_body_is_refused(server: Local, spoil: Any):
    body = spoil(gzip.compress(json.dumps(event()).encode()))

    answer = await server.post(body, ONE, headers={"Content-Encoding": "gzip"})

    assert_problem(answer, 400, "invalid-input")
    assert await recorded(server) == []


# Idempotency-Key


async def test_a_retry_under_its_key_gets_the_same_answer(server: Local):
    headers = {"Idempotency-Key": "k"}
    first = await server.post([line(), line()], BATCH, headers=headers)

    again = await server.post([line(), line()], BATCH, headers=headers)

    assert (again.status, again.body) == (201, first.body)
    assert len(await recorded(server)) == 2


async def test_retries_at_once_are_recorded_once(server: Local):
    headers = {"Idempotency-Key": "k"}

    answers = await asyncio.gather(
        *(server.post([line(), line()], BATCH, headers=headers) for _ in range(10))
    )

    assert {answer.body for answer in answers} == {answers[0].body}
    assert len(await recorded(server)) == 2


async def test_a_key_with_another_body_is_refused(server: Local):
    headers = {"Idempotency-Key": "k"}
    await server.post([line()], BATCH, headers=headers)

    answer = await server.post([line(subject="other")], BATCH, headers=headers)

    assert_problem(answer, 422, "request-reused")
    assert len(await recorded(server)) == 1


async def test_a_key_with_other_parameters_is_refused(server: Local):
    headers = {"Idempotency-Key": "k"}
    bare = {"type": "t", "source": "s"}
    await server.post(bare, LINES, f"{EVENTS}?scope=project/a", headers=headers)

    answer = await server.post(bare, LINES, f"{EVENTS}?scope=project/b", headers=headers)

    assert_problem(answer, 422, "request-reused")


def test_the_keys_of_different_principals_never_meet():
    owners = [("key", "a", "b/c"), ("key", "a/b", "c"), ("token", "a", "b/c"), ("key", "a/", "b/c")]

    keys = [
        parse_request_key({"idempotency-key": key}, Principal(name="x", id=id, kind=kind), "", b"")
        for kind, id, key in owners
    ]

    assert len({key.key for key in keys if key is not None}) == len(owners)


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_1_to_255_characters(server: Local, key: str):
    answer = await server.post([line()], BATCH, headers={"Idempotency-Key": key})

    assert_problem(answer, 400, "invalid-input")


# Reading


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_hold_everything_once_while_events_arrive(server: Local, order: str):
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


async def test_previous_leads_to_what_has_arrived_since(server: Local):
    await server.append([line() for _ in range(5)])
    page = (await server.get(f"{EVENTS}?limit=3")).json
    new = await server.append([line() for _ in range(7)])

    newer: list[str] = []
    cursor = page["previous"]
    while answer := (await server.get(f"{EVENTS}?order=oldest&limit=3&after={cursor}")).json:
        newer += [e["id"] for e in answer["events"]]
        if "next" not in answer:
            break
        cursor = answer["next"]

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
async def test_a_filter_finds_what_it_says(server: Local, query: str, subjects: str):
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

    answer = await server.get(f"{EVENTS}?order=oldest&{query}")

    assert answer.status == 200, answer.body
    assert "".join(e["subject"] for e in answer.json["events"]) == subjects


async def test_a_time_may_be_told_by_how_long_ago_it_was(server: Local):
    now = datetime.now(UTC)
    for minutes in (20, 10):
        time = (now - timedelta(minutes=minutes)).isoformat()
        await server.append([line(subject=str(minutes), time=time)])

    answer = await server.get(f"{EVENTS}?since=-15m&until=-5m")

    assert [e["subject"] for e in answer.json["events"]] == ["10"]


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "x", "1.5", "1e2", "٣", "99999999999", "0" * 8 + "1" + "0" * 7]
)
async def test_a_limit_out_of_range_is_refused(server: Local, limit: str):
    answer = await server.get(EVENTS, params={"limit": limit})

    assert_problem(answer, 400, "invalid-input")
    assert answer.json["field"] == "limit"


async def test_a_limit_of_many_digits_is_refused(server: Local):
    answer = await server.get(f"{EVENTS}?limit=000000001{'9' * 5000}")

    assert_problem(answer, 400, "invalid-input")


@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("id", ["x", "42", "00000000-0000-4000-8000-000000000001"])
async def test_a_cursor_that_is_no_id_is_refused(server: Local, name: str, id: str):
    answer = await server.get(f"{EVENTS}?{name}={id}")

    assert_problem(answer, 400, "invalid-cursor")


@pytest.mark.parametrize("name", ["since", "until"])
async def test_a_time_that_is_none_is_refused(server: Local, name: str):
    answer = await server.get(f"{EVENTS}?{name}=yesterday")

    assert_problem(answer, 400, "invalid-filter")
    assert answer.json["field"] == name


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "-999999999d"])
async def test_a_time_far_away_is_a_time(server: Local, name: str, time: str):
    ids = await server.append([line()])

    answer = await server.get(f"{EVENTS}?{name}={time}")

    everything = (name == "since") != time.startswith("9999")
    assert answer.status == 200, answer.body
    assert answer.ids == (ids if everything else [])


@pytest.mark.parametrize("query", ["order=up", "limit=1&limit=2", "scope=a//b", "scope=a%00"])
async def test_other_bad_parameters_are_refused(server: Local, query: str):
    answer = await server.get(f"{EVENTS}?{query}")

    assert answer.status == 400
    assert answer.json["field"] == query.partition("=")[0]


async def test_a_forgotten_cursor_is_gone(server: Local):
    [old] = await server.append([line()])
    await server.append([line()])
    kept = await server.append([line()])
    position = (await server.store.log.read(Query(limit=1)))[0].recorded
    await server.store.log.prune(position)

    answer = await server.get(f"{EVENTS}?after={old}")

    assert_problem(answer, 410, "cursor-expired")
    assert (await server.get(EVENTS)).ids == kept


# One event


async def test_one_event_is_shown_as_in_the_list(server: Local):
    [id] = await server.append([line(subject="web", data={"a": 1})])

    answer = await server.get(f"{EVENTS}/{id}")

    [listed] = (await server.get(EVENTS)).json["events"]
    assert (answer.status, answer.json) == (200, listed)


async def test_an_event_that_is_not_there_is_not_found(server: Local):
    [id] = await server.append([line()])

    answer = await server.get(f"{EVENTS}/{id[:-1]}{int(id[-1], 16) ^ 1:x}")

    assert_problem(answer, 404, "event-not-found")


async def test_an_id_of_the_right_place_but_another_time_is_not_found(server: Local):
    [id] = await server.append([line()])

    answer = await server.get(f"{EVENTS}/00000000{id[8:]}")

    assert_problem(answer, 404, "event-not-found")


async def test_an_id_of_another_log_is_refused(server: Local):
    answer = await server.get(f"{EVENTS}/01939c2e-0000-7000-8000-000000000001")

    assert_problem(answer, 400, "invalid-cursor")


# Deployments


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
        "scopes": [f"project/acme/stack/{stack_id}/deployment/{id}", "state/acme/prod/web"],
        "groups": ["a", "b"],
    }
    assert (await server.get(f"{DEPLOYMENTS}/{id}")).json == opened
    types = [e["type"] for e in (await server.get(EVENTS)).json["events"]]
    assert types == ["deployment.started", "stack.created"]


async def test_a_deployment_opened_again_under_its_id_is_the_same(server: Local):
    id = str(uuid.uuid4())
    first = await server.open(id=id)

    again = await server.open(id=id.upper())

    assert again == first
    assert len((await server.get(DEPLOYMENTS)).json["deployments"]) == 1
    assert len(await recorded(server)) == 2


async def test_a_deployment_opened_by_many_at_once_is_one(server: Local):
    id = str(uuid.uuid4())

    opened = await asyncio.gather(*(server.open(id=id) for _ in range(10)))

    assert [each for each in opened if each != opened[0]] == []
    assert len(await recorded(server)) == 2


async def test_stacks_opened_by_many_at_once_are_one(server: Local):
    opened = await asyncio.gather(*(server.open() for _ in range(10)))

    assert len({each["stack_id"] for each in opened}) == 1
    assert len({each["id"] for each in opened}) == 10


async def test_an_id_of_another_stack_is_a_conflict(server: Local):
    id = (await server.open())["id"]

    body = {"id": id, "project": "acme", "stack": "other"}
    answer = await server.post(body, "application/json", DEPLOYMENTS)

    assert_problem(answer, 409, "conflict")


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
async def test_a_deployment_that_is_not_valid_is_refused(server: Local, body: object):
    answer = await server.post(json.dumps(body), "application/json", DEPLOYMENTS)

    assert answer.status == 400, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
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


async def test_a_stack_is_nothing_without_its_project(server: Local):
    answer = await server.get(f"{DEPLOYMENTS}?stack=web")

    assert_problem(answer, 400, "invalid-input")
    assert answer.json["field"] == "project"


async def test_an_unknown_deployment_is_not_found(server: Local):
    for path in (f"{DEPLOYMENTS}/x", f"{DEPLOYMENTS}/{uuid.uuid4()}/wait"):
        assert_problem(await server.get(path), 404, "deployment-not-found")

    answer = await server.post(line(), LINES, f"{EVENTS}?deployment={uuid.uuid4()}")
    assert_problem(answer, 404, "deployment-not-found")


async def test_events_of_a_deployment_get_what_is_its(server: Local):
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
        answer = await waiting
    assert (answer.json["status"], answer.json["message"]) == (status, "so")
    assert answer.json["ended"]
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
        answer = await server.get(f"{DEPLOYMENTS}/{id}/wait?timeout=300")

    assert answer.json["status"] == "failed"


@pytest.mark.parametrize("timeout", [0, 1])
async def test_waiting_in_vain_ends_with_the_deployment_as_it_is(server: Local, timeout: int):
    opened = await server.open()

    answer = await server.get(f"{DEPLOYMENTS}/{opened['id']}/wait?timeout={timeout}")

    assert (answer.status, answer.json) == (200, opened)
    assert server.hub.readers == 0


@pytest.mark.parametrize("timeout", ["301", "-1", "x", "0" * 9 + "9" * 5000])
async def test_a_timeout_out_of_range_is_refused(server: Local, timeout: str):
    id = (await server.open())["id"]

    answer = await server.get(f"{DEPLOYMENTS}/{id}/wait?timeout={timeout}")

    assert_problem(answer, 400, "invalid-input")


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


async def test_a_stack_made_anew_is_another(server: Local):
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


async def test_the_events_of_a_deleted_stack_stay(server: Local):
    id = (await server.open())["stack_id"]

    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")

    shown = (await server.get(f"{EVENTS}?scope=project/acme/stack/{id}")).json["events"]
    assert [e["type"] for e in shown] == ["stack.deleted", "deployment.started", "stack.created"]


async def test_a_stack_that_is_not_there_cannot_be_deleted(server: Local):
    answer = await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")

    assert_problem(answer, 404, "stack-not-found")


async def test_a_stack_with_any_name_can_be_deleted(server: Local):
    await server.open("a/b ü%", project="x/y")

    answer = await server.ask("DELETE", "/log/v1/stacks?project=x%2Fy&name=a%2Fb%20%C3%BC%25")

    assert answer.status == 204, answer.body


# What must not get through


@pytest.mark.parametrize("type", ["application/cloudevents+json", LINES])
async def test_data_of_many_lines_stands_in_one(server: Local, type: str):
    event = json.dumps(line(id="1", specversion="1.0"))[:-1]
    data = '{"a": 1,\r"b": 2}' if type == LINES else '{\n"a": 1,\n\n"b": "x\\ny"}'

    answer = await server.post(f'{event}, "data": {data}}}', type)

    assert answer.status == 201, answer.body
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
async def test_what_is_too_much_or_nothing_is_named(server: Local, also: Any, field: str):
    answer = await server.post(json.dumps(line(**also)), LINES)

    assert_problem(answer, 400, "invalid-event")
    assert answer.json["field"] == field


async def test_a_hundred_values_are_enough_for_a_filter(server: Local):
    query = "&".join(f"type=a{number}.*" for number in range(101))

    assert_problem(await server.get(f"{EVENTS}?{query}"), 400, "invalid-filter")


async def test_a_deployment_that_is_refused_leaves_no_stack(server: Local):
    groups = [f"g{number}" for number in range(70)]
    body = json.dumps({"project": "acme", "stack": "ghost", "groups": groups})

    answer = await server.ask("POST", DEPLOYMENTS, data=body)

    assert answer.status == 400
    assert (await server.get("/log/v1/stacks")).json == {"stacks": []}


async def test_a_head_of_a_stream_ends(server: Local):
    async with asyncio.timeout(5):
        answer = await server.ask("HEAD", f"{EVENTS}/stream")

    assert answer.status == 200


async def test_an_unknown_deployment_is_no_cursor(server: Local):
    assert_problem(await server.get(f"{DEPLOYMENTS}?before=nope"), 400, "invalid-cursor")


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
async def test_what_is_not_there_is_a_problem(server: Local, method: str, path: str):
    answer = await server.ask(method, path)

    assert answer.status in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_path_of_rfs_has_its_envelope(server: Local):
    answer = await server.get("/v1/acme/stacks")

    assert answer.status == 404
    assert answer.json["error_code"] == "APIGW.0101"


async def test_the_service_says_how_it_is(server: Local):
    await server.append([line()])

    for path in ("/healthz", "/readyz"):
        assert (await server.get(path)).body == b"ok\n"
    metrics = (await server.get("/metrics")).body.decode()
    assert "deploylog_readers 0.0" in metrics
    assert "deploylog_head_position 1.0" in metrics


async def test_the_service_describes_itself(server: Local):
    document = await server.get("/openapi.json")
    page = await server.get("/docs")

    assert document.json["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    for path in document.json["paths"]:
        assert path in page.body.decode()


async def test_every_route_is_described_and_every_description_is_a_route(server: Local):
    described = {
        (method.upper(), path)
        for path, methods in (await server.get("/openapi.json")).json["paths"].items()
        for method in methods
    }

    parts: Any = _AnyParts()
    routed = {(m, p) for dialect in APIS for m, p, _ in dialect.routes(parts)}
    assert described == routed


class _AnyParts:
    """Has every part, and none does anything."""

    def __getattr__(self, name: str) -> object:
        return None


async def test_every_header_that_a_credential_may_stand_in_is_described(server: Local):
    document = (await server.get("/openapi.json")).json

    schemes = document["components"]["securitySchemes"]
    headers = {
        "cookie" if scheme.get("in") == "cookie" else scheme.get("name", "Authorization").lower()
        for scheme in schemes.values()
    }
    assert headers == set(CREDENTIAL_HEADERS)
    assert document["security"] == [{}, *({name: []} for name in schemes)]


async def test_every_reference_of_the_description_leads_somewhere(server: Local):
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
                answer = await server.post(sent, type, path, headers=binary)
                assert answer.status in (201, 400, 413, 415), (name, type, answer.body)

    for answer in (await server.get(EVENTS), await server.get(f"{EVENTS}?limit=1000")):
        assert answer.status == 200
        json.loads(answer.body)


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "\xff", "a:b:c", "x/y?z=1#f", ""])
async def test_an_odd_host_header_breaks_nothing(server: Local, host: str):
    for target in (f"{EVENTS}?limit=1", "/nowhere", f"{DEPLOYMENTS}?limit=1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("latin-1"))
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert int(answer.split()[1]) < 500, answer


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
async def test_odd_parameters_break_nothing(server: Local, target: str):
    from yarl import URL

    answer = await server.get(URL(server.url + target, encoded=True))  # type: ignore[arg-type]

    assert answer.status < 500, answer.body
