"""DORA's metrics over HTTP: of a story told with events, and for those who may see it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import DEPLOYMENTS, EVENTS, LINES, Local, running
from support.subscribers import add_key

DORA = "/log/v1/metrics/dora"

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)

WINDOW = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-11T00:00:00Z"}


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


def at(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


async def deploy(
    server: Local, minutes: float, status: str = "completed", *, headers: Any = None, **fields: Any
) -> str:
    """Record a deployment of web to prod that ended so many minutes after noon; its id."""
    body = {
        "project": "acme", "stack": "web", "environment": "prod", "started": at(minutes - 5),
    }  # fmt: skip
    opened = await server.post(
        body | fields, "application/json", DEPLOYMENTS, headers=headers or {}
    )
    assert opened.status == 201, opened.body
    id: str = opened.json["id"]
    end = {"type": f"deployment.{status}", "source": "ci", "time": at(minutes)}
    path = f"{EVENTS}?deployment={id}"
    ended = await server.post(end, LINES, path, headers=headers or {})
    assert ended.status == 201, ended.body
    return id


async def measured(server: Local, headers: Any = None, **parameters: object) -> Any:
    query = urlencode(parameters or WINDOW, doseq=True)
    answer = await server.get(f"{DORA}?{query}", headers=headers)
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_figures_of_a_failure_and_its_restoration_are_those_by_hand(server: Local):
    """Queued at 12:00 and in progress, it fails at 12:10. At 12:40 a later success restores it.

    By hand: two commits, made 60 and 30 minutes before the success that deployed them first; one
    success in ten days; 30 minutes from failure to recovery; one of two needed intervention; the
    one success was rework.
    """
    commits = [{"sha": "4be37088", "committed": at(-20)}, {"sha": "51fbc18a", "committed": at(10)}]
    failed = await server.open(
        environment="prod", started=at(0), commits=commits[:1], url="https://ci.example/1"
    )
    path = f"{EVENTS}?deployment={failed['id']}"
    for type, minutes in (("deployment.log", 1), ("deployment.failed", 10)):
        await server.append([{"type": type, "source": "github", "time": at(minutes)}], path)
    restoring = await deploy(server, 40, restores=failed["id"], commits=commits)
    await server.open(environment="prod", started=at(50))

    found = await measured(server, **WINDOW, project="acme", stack="web", environment="prod")

    assert (found["since"], found["until"]) == (
        "2026-11-01T00:00:00.000000Z",
        "2026-11-11T00:00:00.000000Z",
    )
    lead, often, recovery, fails, rework = (
        found[name]
        for name in (
            "change_lead_time", "deployment_frequency", "failed_deployment_recovery_time",
            "change_fail_rate", "deployment_rework_rate",
        )
    )  # fmt: skip
    assert lead["durations"] == {
        "number": 2, "median_seconds": 45 * 60, "p75_seconds": 52.5 * 60, "p90_seconds": 57 * 60,
    }  # fmt: skip
    assert (often["per_day"], often["between"]) == (0.1, None)
    assert recovery["durations"]["median_seconds"] == 30 * 60
    assert (fails["rate"], fails["known"], rework["rate"]) == (0.5, 2, 1.0)
    assert recovery["deployments"] == fails["deployments"] == [link(failed["id"])]
    assert rework["deployments"] == often["deployments"] == [link(restoring)]
    assert [each["reason"] for each in (lead, often, recovery, fails, rework)] == [None] * 5
    assert (await server.get(link(failed["id"])["url"])).json["status"] == "failed"


def link(id: str) -> dict[str, str]:
    return {"id": id, "url": f"/log/v1/deployments/{id}"}


#: Grants and groups, and how many deployments each sees of those below.
READERS = {
    "all": (("read:/",), ("ops", "dev"), 4),
    "acme": (("read:project/acme",), ("ops",), 2),
    "nobody's": (("read:project/acme",), (), 1),
    "beta": (("read:project/beta",), (), 1),
    "else": (("read:inventory",), ("ops", "dev"), 0),
}


async def test_an_incident_begins_with_its_event(server: Local, store: Store):
    _, writer = await add_key(store, "admin:/", groups=("ops",), name="writer")
    _, reader = await add_key(store, "read:/", name="reader")
    await deploy(server, 0, headers=writer)
    await deploy(server, 60, headers=writer, restores="INC-7")
    await deploy(server, 100, headers=writer, restores="INC-8")
    for name, minutes, groups in (("INC-7", 20, ""), ("INC-8", 90, "ops")):
        event = {
            "type": "incident.detected", "source": "pager", "time": at(minutes), "subject": name,
            "scopes": f"project/acme/incident/{name}",
        }  # fmt: skip
        event |= {"groups": groups} if groups else {}
        await server.post(event, LINES, headers=writer)

    seen = await measured(server, writer)
    hidden = await measured(server, reader)

    assert seen["failed_deployment_recovery_time"]["durations"]["median_seconds"] == 25 * 60
    recovery = hidden["failed_deployment_recovery_time"]
    assert (recovery["of"], recovery["known"]) == (2, 1)
    assert recovery["durations"]["median_seconds"] == 40 * 60


@pytest.mark.parametrize("reader", READERS)
async def test_only_visible_deployments_count(server: Local, store: Store, reader: str):
    _, writer = await add_key(store, "admin:/", groups=("ops", "dev"), name="writer")
    for fields in ({}, {"groups": ["ops"]}, {"groups": ["dev"]}, {"project": "beta"}):
        await deploy(server, 0, headers=writer, **fields)
    await deploy(server, 5, headers=writer, stack="web", groups=["dev"], restores="INC-1")
    grants, groups, number = READERS[reader]
    _, headers = await add_key(store, *grants, groups=groups, name=reader)
    sees_report = "dev" in groups and number > 0

    found = await measured(server, headers)

    assert found["counted"] == number + sees_report
    assert found["deployment_frequency"]["total"] == number + sees_report
    assert len(found["deployment_frequency"]["deployments"]) == number + sees_report
    assert (found["change_fail_rate"]["rate"] is not None) == sees_report


async def test_what_restores_unseen_is_unknown(server: Local, store: Store):
    _, writer = await add_key(store, "admin:/", groups=("dev",), name="writer")
    failed = await deploy(server, 0, "failed", headers=writer)
    await deploy(server, 5, headers=writer, groups=["dev"], restores=failed)
    _, reader = await add_key(store, "read:/", name="reader")

    found = await measured(server, reader)

    assert (found["counted"], found["change_fail_rate"]["known"]) == (1, 0)
    assert found["failed_deployment_recovery_time"]["of"] == 0


async def test_the_setting_says_what_is_production(store: Store):
    async with running(store, production_environments="live*") as server:
        await deploy(server, 0, environment="live-eu")
        await deploy(server, 1, environment="prod")
        await deploy(server, 2, environment="dev", production=True)

        found = await measured(server)

    assert (found["counted"], found["left_out"]["not_production"]) == (2, 1)


async def test_the_window_is_thirty_days_by_default(server: Local):
    found = await measured(server, project="acme")

    days = datetime.fromisoformat(found["until"]) - datetime.fromisoformat(found["since"])
    assert days == timedelta(days=30)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("window=x", "window"),
        ("window=0d", "window"),
        ("window=-1d", "window"),
        ("window=1d&from=2d", "window"),
        ("from=x", "from"),
        ("to=x", "to"),
        ("from=1h&to=2h", "from"),
        ("environment=nowhere", "environment"),
        ("status=failed", "status"),
        ("since=2h", "since"),
    ],
)
async def test_a_bad_parameter_is_named(server: Local, query: str, field: str):
    answer = await server.get(f"{DORA}?{query}")

    assert answer.status == 400, answer.body
    assert answer.json["field"] == field


async def test_an_unknown_stack_is_an_error_with_the_name_that_is_near(server: Local):
    await server.open("web")

    answer = await server.get(f"{DORA}?stack=wep")

    assert_problem(answer, 404, "stack-not-found")
    assert "did you mean 'web'?" in answer.json["detail"]
