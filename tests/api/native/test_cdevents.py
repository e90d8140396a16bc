"""CDEvents over a real server: services, runs and incidents become deployments."""

from typing import Any

import pytest

from support import cdevents
from support.problems import assert_problem
from support.servers import ONE, Answer, Local

PATH = "/log/v1/ingest/cdevents?project=acme"


async def post(server: Local, *events: dict[str, Any], query: str = "") -> Answer:
    """Post each as a CloudEvent in structured mode; the last answer."""
    for event in events:
        answer = await server.post(cdevents.structured(event), ONE, f"{PATH}{query}")
        assert answer.status in (200, 201), answer.body
    return answer


async def deployments(server: Local) -> list[Any]:
    """What is recorded, first started first."""
    page = await server.get("/log/v1/deployments?project=acme")
    return list(reversed(page.json["deployments"]))


@pytest.mark.parametrize(
    ("predicate", "operation"),
    [
        ("deployed", "deploy"),
        ("upgraded", "upgrade"),
        ("rolledback", "rollback"),
        ("removed", "destroy"),
        ("published", "publish"),
    ],
)
async def test_what_happened_to_a_service_is_a_deployment(
    server: Local, predicate: str, operation: str
):
    await post(server, cdevents.service(predicate, "12:00:00"))

    [shown] = await deployments(server)
    assert (shown["stack"], shown["environment"], shown["operation"], shown["status"]) == (
        "myapp", "prod", operation, "completed",
    )  # fmt: skip


async def test_the_artifact_of_a_service_is_carried(server: Local):
    await post(server, cdevents.service("deployed", "12:00:00"))
    await post(server, cdevents.service("upgraded", "12:10:00", artifactId="pkg:npm/web@1.4.2"))

    first, second = await deployments(server)
    assert first["artifacts"] == [{"purl": cdevents.ARTIFACT, "digest": cdevents.DIGEST}]
    assert first["version"] is None
    assert second["artifacts"] == [{"purl": "pkg:npm/web@1.4.2"}]
    assert second["version"] == "1.4.2"


async def test_a_run_is_a_deployment_with_its_phases(server: Local):
    await post(
        server,
        cdevents.run("queued", "12:00:00"),
        cdevents.run("started", "12:01:00"),
        cdevents.run("finished", "12:05:00", outcome="failure", errors="No capacity"),
        query="&environment=prod",
    )

    [shown] = await deployments(server)
    assert (shown["stack"], shown["environment"], shown["url"]) == (
        "release", "prod", "https://ci.example.com/1234",
    )  # fmt: skip
    assert (shown["status"], shown["message"]) == ("failed", "No capacity")
    assert (shown["started"], shown["ended"]) == (
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01T12:05:00.000000Z",
    )


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("success", "completed"), ("failure", "failed"), ("error", "failed"), ("cancel", "failed")],
)
async def test_a_run_ends_by_its_outcome(server: Local, outcome: str, status: str):
    await post(server, cdevents.run("finished", "12:05:00", outcome=outcome))

    [shown] = await deployments(server)
    assert shown["status"] == status


async def test_a_deployment_during_an_incident_is_its_rework_and_restores_it(server: Local):
    await post(
        server,
        cdevents.service("deployed", "12:00:00"),
        cdevents.incident("detected", "12:10:00"),
        cdevents.service("upgraded", "12:20:00"),
        cdevents.incident("resolved", "12:25:00"),
        cdevents.service("upgraded", "13:00:00"),
    )

    shown = [(each["rework_of"], each["restores"]) for each in await deployments(server)]
    assert shown == [(None, None), ("incident-123", "incident-123"), (None, None)]


async def test_an_incident_is_an_event_of_what_is_broken(server: Local):
    await post(server, cdevents.incident("reported", "12:00:00", ticketURI="https://t.example/1"))

    page = await server.get("/log/v1/events?scope=state/acme/prod/myapp")
    [event] = page.json["events"]
    assert (event["type"], event["subject"]) == ("incident.reported", "incident-123")
    assert event["data"]["ticket"] == "https://t.example/1"


async def test_binary_mode_is_read_as_structured_mode_is(server: Local):
    event = cdevents.service("deployed", "12:00:00")
    headers = cdevents.binary_headers(event)

    answer = await server.post(event, headers.pop("Content-Type"), PATH, headers=headers)

    again = await post(server, event)
    assert answer.status == 201
    assert again.json["deployments"] == answer.json["deployments"]
    assert len(await deployments(server)) == 1


async def test_what_deploylog_sends_comes_back_as_it_went(server: Local):
    sent = {
        "context": {
            "specversion": "0.5.0",
            "id": "01a1/service",
            "source": "deploylog",
            "type": "dev.cdevents.service.deployed.0.3.0",
            "timestamp": "2026-03-01T12:00:00.000000Z",
        },
        "subject": {
            "id": "acme/web",
            "source": "deploylog",
            "content": {"environment": {"id": "prod"}, "artifactId": "pkg:generic/acme/web@2"},
        },
    }

    await post(server, sent)

    [shown] = await deployments(server)
    assert (shown["stack"], shown["environment"], shown["version"]) == ("web", "prod", "2")


@pytest.mark.parametrize("type", ["environment.created", "taskrun.finished", "build.queued"])
async def test_what_is_no_deployment_is_ignored(server: Local, type: str):
    answer = await post(server, cdevents.cdevent(type, "12:00:00", "x"))

    assert answer.status == 200
    assert type in answer.json["ignored"]


async def test_a_cloudevent_that_is_no_cdevent_gets_the_list_of_what_is_known(server: Local):
    event = cdevents.service("deployed", "12:00:00")
    event["context"]["type"] = "com.example.deployed"

    answer = await server.post(cdevents.structured(event), ONE, PATH)

    assert_problem(answer, 415, "unsupported-media")
    assert "dev.cdevents.service.deployed" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "data"),
        ({"data": {"context": {}, "subject": {}}}, "data.context.id"),
        ({"data": {"context": 1}}, "data.context"),
        (
            cdevents.structured(cdevents.service("deployed", "12:00:00", environment={"id": " "})),
            "environment",
        ),
        (cdevents.structured(cdevents.service("deployed", "yesterday")), "data.context.timestamp"),
    ],
)
async def test_a_damaged_cdevent_is_refused_by_name(server: Local, body: Any, field: str):
    answer = await server.post(body, ONE, PATH)

    assert answer.status == 400, answer.body
    assert answer.json.get("field") == field
