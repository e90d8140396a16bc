"""What a deployment restores, and what made it necessary, if its producer says neither."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.servers import DEPLOYMENTS, EVENTS, LINES, Local, running
from support.subscribers import add_key

pytestmark = pytest.mark.process


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


def at(minute: int) -> str:
    return f"2026-11-02T12:{minute:02}:00Z"


async def deploy(
    server: Local,
    minute: int,
    status: str = "completed",
    *,
    headers: Any = None,
    data: Any = None,
    **fields: Any,
) -> str:
    """Record a deployment of a minute, as ``deploylog run`` does; its id."""
    body = {
        "project": "acme", "stack": "web", "environment": "prod", "started": at(minute),
    }  # fmt: skip
    opened = await server.post(
        body | fields, "application/json", DEPLOYMENTS, headers=headers or {}
    )
    assert opened.status == 201, opened.body
    end = {"type": f"deployment.{status}", "source": "cli", "id": "end", "time": at(minute + 1)}
    if data is not None:
        end["data"] = data
    path = f"{EVENTS}?deployment={opened.json['id']}"
    for _ in range(2):
        # A client whose answer was lost sends its end again.
        ended = await server.post(end, LINES, path, headers=headers or {})
        assert ended.status == 201, ended.body
    id: str = opened.json["id"]
    return id


async def restored_by(server: Local, id: str) -> str | None:
    return (await server.get(f"{DEPLOYMENTS}/{id}")).json["restores"]


async def test_a_success_restores_the_first_failure_since_the_last_success(server: Local):
    good = await deploy(server, 0)
    broken = await deploy(server, 5, "failed")
    still = await deploy(server, 10, "failed")
    mended = await deploy(server, 15)
    later = await deploy(server, 20)

    found = [await restored_by(server, id) for id in (good, broken, still, mended, later)]

    assert found == [None, None, None, broken, None]


@pytest.mark.parametrize(
    "other",
    [{"stack": "api"}, {"environment": "staging"}, {"operation": "plan"}, {"groups": ["security"]}],
    ids=str,
)
async def test_a_failure_elsewhere_is_not_restored(server: Local, other: dict[str, Any]):
    await deploy(server, 0, "failed", **other)

    success = await deploy(server, 5)

    assert await restored_by(server, success) is None


async def test_what_the_producer_says_is_kept(server: Local):
    await deploy(server, 0, "failed")

    at_start = await deploy(server, 5, restores="INC-42")
    await deploy(server, 10, "failed")
    at_end = await deploy(server, 15, data={"restores": "INC-43"})

    assert await restored_by(server, at_start) == "INC-42"
    assert await restored_by(server, at_end) == "INC-43"


async def test_other_data_of_the_end_is_kept_as_it_was(server: Local):
    broken = await deploy(server, 0, "failed")

    success = await deploy(server, 5, data={"exact": 12345678901234567890.125, "version": "1.2"})

    query = f"{EVENTS}?deployment={success}&type=deployment.completed"
    [event] = (await server.get(query)).json["events"]
    assert event["data"] == {
        "exact": 12345678901234567890.125, "version": "1.2", "restores": broken,
    }  # fmt: skip


async def test_an_end_with_data_that_is_no_object_is_recorded_as_it_is(server: Local):
    await deploy(server, 0, "failed")

    success = await deploy(server, 5, data=["no", "object"])

    assert await restored_by(server, success) is None


async def test_failure_and_success_in_one_request_count_too(server: Local):
    opened = [await server.open(environment="prod", started=at(minute)) for minute in (0, 5)]
    ends = [
        {"type": f"deployment.{status}", "source": "cli", "time": at(minute),
         "scopes": " ".join(each["scopes"])}
        for each, status, minute in zip(opened, ("failed", "completed"), (1, 6), strict=True)
    ]  # fmt: skip

    await server.append(ends, EVENTS)

    assert await restored_by(server, opened[1]["id"]) == opened[0]["id"]


async def test_a_deployment_during_an_incident_is_its_rework_and_restores_it(server: Local):
    incident = {
        "source": "pager", "subject": "INC-7",
        "scopes": "project/acme/incident/INC-7 state/acme/prod/web",
    }  # fmt: skip
    await server.append([{"type": "incident.detected", "time": at(0), **incident}], EVENTS)

    during = await deploy(server, 5)
    await server.append([{"type": "incident.resolved", "time": at(10), **incident}], EVENTS)
    after = await deploy(server, 15)

    shown = [(await server.get(f"{DEPLOYMENTS}/{id}")).json for id in (during, after)]
    assert [(each["rework_of"], each["restores"]) for each in shown] == [
        ("INC-7", "INC-7"), (None, None),
    ]  # fmt: skip


async def test_a_key_that_may_write_the_stack_alone_still_ends_its_deployments(
    server: Local, store: Store
):
    first = await server.open(environment=None)
    [stack] = {scope.rpartition("/deployment/")[0] for scope in first["scopes"]}
    _, key = await add_key(store, f"write:{stack}")

    id = await deploy(server, 5, headers=key, environment=None)

    assert id
