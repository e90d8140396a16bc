"""Full text, exclusion, resources, and what is counted, as documented in the native API."""

from collections import Counter
from typing import Any

import pytest

from deploylog.api.native.query_string import FILTERS, MAX_BUCKETS
from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import EVENTS, Local, line
from support.subscribers import add_key

WEB = {"resourcetype": "aws_instance", "resourcename": "web", "resourceaddress": "aws_instance.web"}
INSTANCE = WEB | {"resourceidkey": "id", "resourceidvalue": "i-0abc"}
OTHER = {"resourcetype": "aws_instance", "resourcename": "db", "resourceaddress": "aws_instance.db"}


def at(day: int) -> str:
    return f"2026-01-0{day}T00:00:00Z"


ROWS = (
    line("deployment.started", subject="1", time=at(1), actor="alice"),
    line("resource.create.started", subject="2", time=at(1), actor="alice", **WEB),
    line("resource.create.completed", subject="3", time=at(2), actor="alice", **INSTANCE,
         message="Creation complete after 3s [id=i-0abc]"),
    line("deployment.log", subject="4", time=at(2), message="access denied: sg-0abc TIMEOUT"),
    line("resource.create.failed", subject="5", time=at(4), actor="bob", **OTHER,
         message="denied access"),
    line("resource.delete.completed", subject="6", time=at(6), scopes="state/acme/prod/web",
         **INSTANCE),
)  # fmt: skip

#: What finds which of the rows, by their subjects.
QUERIES = {
    "q=timeout": "4",
    "q=time": "",
    "q=time*": "4",
    "q=0abc": "346",
    "q=i-0abc": "36",
    "q=access+denied": "45",
    "q=%22access+denied%22": "4",
    "q=denied&actor=bob": "5",
    "q=aws_instance.web": "236",
    "q=WEB&type!=resource.create.*": "6",
    "type!=deployment.log": "12356",
    "type!=deployment.*&type!=resource.delete.completed": "235",
    "actor!=alice": "456",
    "actor!=alice&actor=bob": "5",
    "actor!=": "123456",
    "resourcetype!=aws_instance": "14",
    "resourceaddress=aws_instance.web": "236",
    "resourceid=i-0abc": "36",
    "resourceid!=i-0abc&resourceaddress=aws_instance.*": "25",
    "resource=aws_instance.web": "236",
    "resource=i-0abc": "36",
    "resource=aws_instance.db&resource=i-0abc": "356",
    "resource=web": "",
    "resource=aws_instance.*": "",
    "resource=i-0abc&since=2026-01-03T00:00:00Z": "6",
    "resource=i-0abc&scope=state": "6",
}


def subjects(answer: Any) -> str:
    return "".join(event["subject"] for event in answer.json["events"])


@pytest.mark.parametrize("query", QUERIES)
async def test_lists_streams_and_counts_find_the_same(server: Local, query: str):
    await server.append(ROWS)
    expected = QUERIES[query]

    listed = await server.get(f"{EVENTS}?order=oldest&{query}")
    counted = await server.get(f"{EVENTS}/count?{query}")
    facets = await server.get(f"{EVENTS}/facets?field=subject&{query}")
    streamed: list[str] = []
    async with server.stream(f"from=start&{query}") as stream:
        # The live part of a stream is filtered in memory.
        live = await server.append([{**row, "subject": f"live-{row['subject']}"} for row in ROWS])
        assert len(live) == len(ROWS)
        while len(streamed) < 2 * len(expected):
            streamed.append((await stream.next()).data["subject"])

    assert listed.status == 200, listed.body
    assert subjects(listed) == expected
    assert counted.json == {"count": len(expected)}
    assert {facet["value"]: facet["count"] for facet in facets.json["top"]} == Counter(expected)
    assert streamed == [*expected, *(f"live-{each}" for each in expected)]


async def test_facets_are_the_most_frequent_values_first(server: Local):
    await server.append(ROWS)

    by_actor = await server.get(f"{EVENTS}/facets?field=actor")
    one = await server.get(f"{EVENTS}/facets?field=type&top=1&type=resource.*")
    by_default = await server.get(f"{EVENTS}/facets")

    assert by_actor.json == {
        "field": "actor",
        "top": [{"value": "alice", "count": 3}, {"value": "bob", "count": 1}],
        "values": 2,
        "total": 6,
    }
    assert one.json == {
        "field": "type",
        "top": [{"value": "resource.create.completed", "count": 1}],
        "values": 4,
        "total": 4,
    }
    assert by_default.json["field"] == "type"


@pytest.mark.parametrize("name", FILTERS)
async def test_every_filter_has_facets(server: Local, name: str):
    await server.append([line("a", actor="x", subject="x", resourcekey="x", **INSTANCE)])

    facets = await server.get(f"{EVENTS}/facets?field={name}")

    assert [facet["count"] for facet in facets.json["top"]] == [1]


async def test_a_histogram_has_buckets_of_equal_length(server: Local):
    await server.append(ROWS)

    response = await server.get(
        f"{EVENTS}/histogram?buckets=3&since={at(1)}&until={at(7)}&type!=deployment.log"
    )

    assert response.json == {
        "since": "2026-01-01T00:00:00.000000Z",
        "until": "2026-01-07T00:00:00.000000Z",
        "total": 5,
        "buckets": [
            {"time": "2026-01-01T00:00:00.000000Z", "count": 3},
            {"time": "2026-01-03T00:00:00.000000Z", "count": 1},
            {"time": "2026-01-05T00:00:00.000000Z", "count": 1},
        ],
    }


async def test_a_histogram_is_of_the_last_seven_days(server: Local):
    await server.append([line("a", time=at(1)), line("b"), line("b")])

    response = await server.get(f"{EVENTS}/histogram")

    counts = [bucket["count"] for bucket in response.json["buckets"]]
    assert (len(counts), counts[-1], sum(counts), response.json["total"]) == (168, 2, 2, 2)


@pytest.mark.parametrize(
    ("path", "kind", "field"),
    [
        ("?q=%22open", "invalid-filter", "q"),
        ("?q=-", "invalid-filter", "q"),
        ("?q=a&q=b", "invalid-input", "q"),
        ("?q!=a", "invalid-input", "q!"),
        ("?scope!=a", "invalid-input", "scope!"),
        ("?type!=*.x", "invalid-filter", "type!"),
        ("?" + "&".join(["actor!=x"] * 101), "invalid-filter", "actor!"),
        ("?" + "&".join(["resource=x"] * 101), "invalid-filter", "resource"),
        ("?explain=yes", "invalid-input", "explain"),
        ("/count?limit=1", "invalid-input", "limit"),
        ("/count?explain=true", "invalid-input", "explain"),
        ("/count?q=%22", "invalid-filter", "q"),
        ("/facets?field=message", "invalid-input", "field"),
        ("/facets?field=groups", "invalid-input", "field"),
        ("/facets?top=0", "invalid-input", "top"),
        ("/facets?top=1001", "invalid-input", "top"),
        (f"/histogram?buckets={MAX_BUCKETS + 1}", "invalid-input", "buckets"),
        ("/histogram?buckets=0", "invalid-input", "buckets"),
        (f"/histogram?since={at(2)}&until={at(1)}", "invalid-filter", "until"),
        (f"/histogram?since={at(1)}&until={at(1)}", "invalid-filter", "until"),
        ("/stream?q=%22", "invalid-filter", "q"),
        ("/stream?explain=true", "invalid-input", "explain"),
    ],
)
async def test_invalid_parameters_are_refused(server: Local, path: str, kind: str, field: str):
    assert_problem(await server.get(f"{EVENTS}{path}"), 400, kind, field)


# How it was found


async def test_a_list_explains_how_it_was_found(server: Local):
    await server.append(ROWS)

    plain = await server.get(f"{EVENTS}?q=denied")
    word = await server.get(f"{EVENTS}?q=denied&explain=true")
    phrase = await server.get(f"{EVENTS}?q=%22access+denied%22&explain=true")

    assert "explain" not in plain.json
    assert subjects(word) == subjects(plain) == "54"
    assert word.json["explain"] == {"segments": 1, "hits": 1, "rows": 2, "rows_in_vain": 0}
    assert phrase.json["explain"] == {"segments": 1, "hits": 1, "rows": 2, "rows_in_vain": 1}


async def test_only_readers_of_the_whole_log_get_an_explanation(server: Local, store: Store):
    _, everything = await add_key(store, "read:/", name="everything")
    _, part = await add_key(store, "read:project/acme", name="part")

    allowed = await server.get(f"{EVENTS}?explain=true", headers=everything)
    refused = await server.get(f"{EVENTS}?explain=true", headers=part)

    assert allowed.status == 200
    assert_problem(refused, 403, "forbidden")


async def test_rows_are_counted_wherever_they_are_read(server: Local, commits: Any):
    await server.append(ROWS)
    rows, in_vain = commits.rows, commits.rows_in_vain

    for path in (EVENTS, f"{EVENTS}/count", f"{EVENTS}/facets"):
        await server.get(f"{path}?q=%22access+denied%22")

    assert (commits.rows - rows, commits.rows_in_vain - in_vain) == (6, 3)


async def test_a_stream_skips_what_its_text_does_not_match(server: Local):
    async with server.stream("q=%22access+denied%22") as stream:
        await server.append([line("a", message="denied access"), *ROWS])

        found = await stream.next()

    assert found.data["subject"] == "4"
