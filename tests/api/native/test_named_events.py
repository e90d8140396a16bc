"""CloudEvents that name their deployment over HTTP: no UUID is needed."""

from typing import Any

import pytest

from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.problems import assert_problem
from support.servers import BATCH, ONE, Answer, Local


def named(type: str, at: str, **attributes: Any) -> dict[str, Any]:
    """An event of the deployment ``build-7`` of web to prod; ``at`` is the time of day."""
    return {
        "specversion": "1.0",
        "id": f"build-7/{type}/{at}",
        "source": "/ci/release",
        "type": f"deployment.{type}",
        "time": f"2026-03-01T{at}Z",
        "project": "acme",
        "stack": "web",
        "environment": "prod",
        "deployment": "build-7",
        **attributes,
    }


async def post(server: Local, *events: dict[str, Any], **how: Any) -> Answer:
    return await server.post(list(events), BATCH, **how)


async def deployments(server: Local) -> list[Any]:
    """What is recorded, first started first."""
    page = await server.get("/log/v1/deployments?project=acme")
    return list(reversed(page.json["deployments"]))


async def test_two_events_are_a_deployment(server: Local):
    data = {"tool": "release", "operation": "deploy", "version": "1.4.2", "stage": 3}

    for event in (named("started", "12:00:00", data=data), named("completed", "12:05:00")):
        assert (await server.post(event, ONE)).status == 201

    [shown] = await deployments(server)
    assert (shown["stack"], shown["environment"], shown["status"]) == ("web", "prod", "completed")
    assert (shown["tool"], shown["operation"], shown["version"]) == ("release", "deploy", "1.4.2")
    assert (shown["started"], shown["ended"]) == (
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01T12:05:00.000000Z",
    )


async def test_an_event_keeps_its_data_and_attributes(server: Local):
    sent = named("log", "12:01:00", data=[1, 2], team="shop")

    receipt = await server.post(sent, ONE)

    shown = (await server.get(f"/log/v1/events/{receipt.ids[0]}")).json
    assert (shown["data"], shown["team"], shown["deployment"]) == ([1, 2], "shop", "build-7")
    assert shown["producerid"] == sent["id"]


async def test_the_receipts_are_those_of_the_events_that_were_sent(server: Local):
    plain = {"type": "build.started", "source": "/ci", "id": "1", "scopes": "image/web"}

    response = await post(server, named("started", "12:00:00"), plain, named("failed", "12:01:00"))

    types = [(await server.get(f"/log/v1/events/{id}")).json["type"] for id in response.ids]
    assert types == ["deployment.started", "build.started", "deployment.failed"]


async def test_a_retry_is_recorded_once(server: Local):
    events = [named("started", "12:00:00"), named("failed", "12:01:00")]
    how = {"headers": {"Idempotency-Key": "k"}}

    first = await post(server, *events, **how)
    again = await post(server, *events, **how)

    assert again.body == first.body
    assert len(await deployments(server)) == 1


async def test_a_key_names_one_deployment_in_each_place(server: Local):
    await post(
        server,
        named("started", "12:00:00"),
        named("started", "12:00:00", environment="staging"),
        named("started", "12:00:00", stack="shop"),
        named("started", "12:00:00", environment=None),
    )

    places = [(each["stack"], each["environment"]) for each in await deployments(server)]
    assert sorted(map(str, places)) == sorted(
        map(str, [("web", "prod"), ("web", "staging"), ("shop", "prod"), ("web", None)])
    )


async def test_binary_mode_names_a_deployment_in_headers(server: Local):
    attributes = {
        name: value
        for name, value in named("completed", "12:00:00").items()
        if isinstance(value, str)
    }
    headers = {f"ce-{name}": value for name, value in attributes.items()}

    response = await server.post({"version": "2"}, "application/json", headers=headers)

    [shown] = await deployments(server)
    assert response.status == 201
    assert (shown["status"], shown["version"]) == ("completed", "2")


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"stack": None}, "stack"),
        ({"deployment": None}, "deployment"),
        ({"project": None}, "scopes"),
        ({"project": 7}, None),
        ({"stack": " web"}, "stack"),
        ({"environment": "e" * 200}, "environment"),
        ({"deployment": "d" * 1100}, "deployment"),
        ({"data": 7}, "data"),
        ({"data": {"commits": [{"sha": "zzz"}]}}, "data.commits.0.sha"),
        ({"data": {"tool": 7}}, "data"),
    ],
)
async def test_a_name_that_is_missing_or_wrong_is_named(
    server: Local, attributes: dict[str, Any], field: str | None
):
    wrong = named("started", "12:00:00", **attributes)

    response = await post(server, named("log", "12:00:00"), wrong)

    assert (response.status, response.json["line"]) == (400, 2), response.body
    assert response.json.get("field") == field
    assert await deployments(server) == []


async def test_an_event_without_an_id_cannot_name_its_deployment(server: Local):
    response = await post(server, named("started", "12:00:00", id=None))

    assert (response.status, response.json["field"]) == (400, "id")


async def test_a_project_that_may_not_be_written_is_refused(server: Local, store: Store):
    other = await key_headers(store, "write:project/other")

    response = await post(server, named("started", "12:00:00"), headers=other)

    assert_problem(response, 403, "forbidden")


async def test_a_plain_event_names_a_deployment_too(server: Local):
    names = {"project": "acme", "stack": "web", "environment": "prod", "deployment": "build-7"}

    for type in ("started", "failed"):
        event = {"type": f"deployment.{type}", "id": type, **names, "data": {"version": "3"}}
        assert (await server.post(event, "application/json")).status == 201

    [shown] = await deployments(server)
    assert (shown["status"], shown["version"], shown["environment"]) == ("failed", "3", "prod")


async def test_a_webhook_is_told_where_to_go(server: Local):
    headers = {"X-Hub-Signature-256": "sha256=00"}

    response = await server.post({"action": "created"}, "application/json", headers=headers)

    assert_problem(response, 415, "unsupported-media")
    assert "/log/v1/ingest/github" in response.json["detail"]


async def test_a_body_that_is_no_event_is_told_where_webhooks_go(server: Local):
    response = await server.post(b"{}", "application/x-www-form-urlencoded")

    assert_problem(response, 415, "unsupported-media")
    assert "webhooks of github, gitlab" in response.json["detail"]
