"""One event in plain JSON, through ASGI and on the fast path alike."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import EVENTS, Answer, Local, running
from support.subscribers import add_key

JSON = "application/json"


@pytest.fixture(params=[True, False], ids=["fast", "asgi"])
async def server(request: pytest.FixtureRequest, store: Store) -> AsyncIterator[Local]:
    async with running(store, is_fast=request.param) as server:
        yield server


async def send(server: Local, event: object, query: str = "", headers: Any = None) -> Answer:
    return await server.post(event, JSON, f"{EVENTS}{query}", headers=headers or {})


async def sent(server: Local, event: object, query: str = "", headers: Any = None) -> Any:
    """The event as it was recorded."""
    answer = await send(server, event, query, headers)
    assert answer.status == 201, answer.body
    return (await server.get(f"{EVENTS}/{answer.ids[0]}", headers=headers)).json


async def test_a_type_and_a_place_are_enough(server: Local):
    found = await sent(server, {"type": "build.completed", "project": "acme"})

    assert (found["type"], found["scopes"]) == ("build.completed", "project/acme")
    assert found["source"] == "/anonymous"
    assert found["time"][:16] == found["recordedtime"][:16]
    assert not {"actor", "message", "data", "groups"} & found.keys()


async def test_everything_that_an_event_may_say_is_recorded(server: Local):
    said = {
        "type": "build.completed", "message": "built", "project": "acme", "source": "/builder",
        "id": "17", "time": "2026-11-02T12:00:00Z", "actor": "ann", "subject": "web",
        "groups": ["ops", "a b"], "data": {"tests": [1, None]},
    }  # fmt: skip

    found = await sent(server, said)

    assert {name: found[name] for name in ("type", "message", "source", "actor", "data")} == {
        name: said[name] for name in ("type", "message", "source", "actor", "data")
    }
    assert (found["producerid"], found["groups"]) == ("17", "a%20b ops")
    assert found["time"] == "2026-11-02T12:00:00.000000Z"


async def test_names_say_where_it_happened(server: Local):
    deployment = await server.open("web", environment="prod")
    stack = deployment["scopes"][0].partition("/deployment/")[0]

    of_stack = await sent(server, {"type": "x", "project": "acme", "stack": "web"})
    of_both = await sent(
        server, {"type": "x", "project": "acme", "stack": "web", "environment": "prod"}
    )
    of_environment = await sent(server, {"type": "x", "project": "acme", "environment": "prod"})
    of_deployment = await sent(server, {"type": "x", "deployment": deployment["id"].upper()})

    assert of_stack["scopes"] == stack
    assert of_both["scopes"] == f"{stack} state/acme/prod/web"
    assert of_environment["scopes"] == "state/acme/prod"
    assert of_deployment["scopes"].split() == deployment["scopes"]


async def test_a_deployment_gives_its_groups_and_its_actor(server: Local):
    deployment = await server.open("web", groups=["ops"], actor="ann")

    found = await sent(server, {"type": "x", "deployment": deployment["id"]})
    in_query = await sent(server, {"type": "x"}, f"?deployment={deployment['id']}")

    assert (found["actor"], found["groups"]) == ("ann", "ops")
    assert in_query["scopes"] == found["scopes"]


async def test_the_query_gives_what_the_event_lacks(server: Local):
    found = await sent(server, {"type": "x"}, "?scope=image/base&source=/ci")

    assert (found["scopes"], found["source"]) == ("image/base", "/ci")


async def test_a_key_gives_its_name(server: Local, store: Store):
    _, headers = await add_key(store, "admin:/", name="ci bot")

    found = await sent(server, {"type": "x", "project": "acme"}, headers=headers)

    assert (found["actor"], found["source"]) == ("ci bot", "/ci%20bot")


async def test_an_id_is_recorded_once(server: Local):
    answers = [await send(server, {"type": "x", "project": "acme", "id": "17"}) for _ in range(2)]

    assert answers[0].ids == answers[1].ids


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"message": "no type"}, "type"),
        ({"type": "x"}, "project"),
        ({"type": "x", "stack": "web"}, "project"),
        ({"type": "x", "environment": "prod"}, "project"),
        ({"type": "x", "project": "acme", "deployment": "1"}, "deployment"),
        ({"type": "two words", "project": "acme"}, "type"),
        ({"type": "x", "project": ""}, "project"),
        ({"type": "x", "project": "acme", "environment": " "}, "environment"),
        ({"type": "x", "project": "acme", "time": "noon"}, "time"),
        ({"type": "x", "project": "acme", "time": 5}, "time"),
        ({"type": "x", "project": "acme", "groups": "ops"}, "groups"),
        ({"type": "x", "project": "acme", "groups": [""]}, "groups"),
        ({"type": "x", "project": "acme", "mesage": "m"}, "mesage"),
        ({"type": "x", "project": "acme", "id": ""}, "id"),
        ({"type": "x", "project": "acme", "source": "deploylog"}, "source"),
    ],
    ids=json.dumps,
)
async def test_what_is_wrong_is_named(server: Local, event: object, field: str):
    answer = await send(server, event)

    assert answer.status == 400, answer.body
    assert answer.json["field"] == field


@pytest.mark.parametrize("body", ["", "[]", "7", "{", "null", '[{"type": "x"}]'])
async def test_anything_but_one_object_is_refused(server: Local, body: str):
    answer = await send(server, body)

    assert answer.status == 400, answer.body


async def test_a_misspelt_stack_is_told_what_is_near(server: Local):
    await server.open("web")

    answer = await send(server, {"type": "x", "project": "acme", "stack": "wep"})

    assert_problem(answer, 404, "stack-not-found")
    assert "did you mean 'web'?" in answer.json["detail"]


async def test_a_stack_that_the_key_may_not_write_is_missing(server: Local, store: Store):
    _, admin = await add_key(store, "admin:/", name="admin")
    opened = {"project": "acme", "stack": "web"}
    await server.post(opened, JSON, "/log/v1/deployments", headers=admin)
    _, other = await add_key(store, "write:project/beta", name="other")
    _, writer = await add_key(store, "write:project/acme", name="writer")

    refused = await send(server, {"type": "x", **opened}, headers=other)
    known = await send(server, {"type": "x", **opened}, headers=writer)
    absent = await send(server, {"type": "x", **opened, "stack": "gone"}, headers=other)
    elsewhere = await send(server, {"type": "x", "project": "acme"}, headers=other)

    assert_problem(refused, 404, "stack-not-found")
    assert refused.json["detail"].replace("web", "gone") == absent.json["detail"]
    assert known.status == 201
    assert_problem(elsewhere, 403, "forbidden")


async def test_an_event_in_binary_mode_is_none_in_plain_json(server: Local):
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}

    found = await sent(server, {"any": "data"}, "?scope=a", headers=headers)

    assert found["data"] == {"any": "data"}
