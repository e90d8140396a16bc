"""GitHub's webhooks over a real server: deployments, their statuses, workflow runs."""

import json
from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import pytest

from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.github import (
    SHA,
    deployment,
    deployment_event,
    headers,
    status_event,
    workflow_run,
)
from support.problems import assert_problem
from support.servers import Answer, Local
from support.waiting import until
from support.webhooks import PlayedSource, add_secret, played


@pytest.fixture
def options(encryption_key_file: str) -> dict[str, Any]:
    return {"secret_key_file": encryption_key_file}


@pytest.fixture
async def github(server: Local, store: Store, encryption_key: str) -> PlayedSource:
    return await played(server, store, "github", encryption_key)


async def deployments(server: Local, store: Store, query: str = "") -> list[Any]:
    """What is recorded, first started first."""
    reader = await key_headers(store, "read:/", name="reader")
    page = await server.get(f"/log/v1/deployments?project=acme{query}", headers=reader)
    return list(reversed(page.json["deployments"]))


async def events(server: Local, store: Store) -> list[Any]:
    reader = await key_headers(store, "read:/", name="reader")
    page = await server.get("/log/v1/events?order=oldest", headers=reader)
    return list(page.json["events"])


async def tell(github: PlayedSource, *bodies: dict[str, Any]) -> list[Answer]:
    """Post each body as a status of a deployment."""
    return [await github.post(body, headers("deployment_status")) for body in bodies]


STORY = (
    status_event("queued", "12:00:01"),
    status_event("in_progress", "12:00:05"),
    status_event("failure", "12:03:00"),
)

FIX = deployment(43, created_at="2026-03-01T12:10:00Z")


# What deployments shows


async def test_a_failure_is_restored_by_a_later_success(
    github: PlayedSource, server: Local, store: Store
):
    await github.post(deployment_event(), headers("deployment"))
    await tell(github, *STORY)
    await tell(github, status_event("success", "12:14:00", of=FIX))

    failed, fixed = await deployments(server, store)
    assert (failed["status"], failed["restores"]) == ("failed", None)
    assert (fixed["status"], fixed["restores"]) == ("completed", failed["id"])
    assert (failed["started"], failed["ended"]) == (
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01T12:03:00.000000Z",
    )


async def test_a_deployment_carries_what_github_says(
    github: PlayedSource, server: Local, store: Store
):
    await github.post(deployment_event(), headers("deployment"))

    [shown] = await deployments(server, store)
    assert {name: shown[name] for name in ("stack", "environment", "production", "actor")} == {
        "stack": "web", "environment": "prod", "production": True, "actor": "alice",
    }  # fmt: skip
    assert shown["commits"] == [
        {
            "sha": SHA,
            "repository": "https://github.com/acme/web",
            "committed": "2026-03-01T11:50:00+00:00",
        }
    ]
    assert shown["url"] == "https://github.com/acme/web/actions/runs/5001"
    assert (shown["tool"], shown["operation"], shown["status"]) == ("github", "deploy", "running")
    assert shown["labels"] == {"ref": "main"}
    assert shown["version"] is None


async def test_each_phase_is_an_event_of_the_deployment(
    github: PlayedSource, server: Local, store: Store
):
    phases = ("queued", "waiting", "in_progress", "success", "inactive")
    await tell(github, *(status_event(p, f"12:00:0{n}") for n, p in enumerate(phases)))

    types = [event["type"] for event in await events(server, store)]
    assert types[:2] == ["stack.created", "deployment.started"]
    assert types[2:-1] == [
        "deployment.queued",
        "deployment.waiting",
        "deployment.progress",
        "deployment.completed",
        # The log's own, in the commit of the end.
        "state.deployment.created",
    ]
    assert types[-1] == "deployment.inactive"


# Once, whatever the order


async def test_a_redelivered_event_is_recorded_once(
    github: PlayedSource, server: Local, store: Store
):
    [first] = await tell(github, STORY[2])
    before = await events(server, store)

    [again] = await tell(github, STORY[2])

    assert (first.status, again.status) == (201, 201)
    assert again.json["events"] == first.json["events"][-1:]
    assert again.json["deployments"] == first.json["deployments"]
    assert await events(server, store) == before


async def test_doras_figures_of_the_story_are_those_by_hand(
    github: PlayedSource, server: Local, store: Store
):
    """By hand: the commit of 11:50 succeeded at 12:14, 24 minutes; it failed at 12:03, and was
    restored 11 minutes later; one of two deployments needed intervention; the one success in ten
    days was rework.
    """
    await github.post(deployment_event(), headers("deployment"))
    await tell(github, *STORY)
    await tell(github, status_event("success", "12:14:00", of=FIX))
    failed, fixed = await deployments(server, store)
    reader = await key_headers(store, "read:/", name="reader")
    window = {"from": "2026-02-25T00:00:00Z", "to": "2026-03-07T00:00:00Z"}

    answer = await server.get(f"/log/v1/metrics/dora?{urlencode(window)}", headers=reader)

    found = answer.json
    recovery, fails = found["failed_deployment_recovery_time"], found["change_fail_rate"]
    assert recovery["durations"]["median_seconds"] == 11 * 60
    assert (fails["rate"], fails["known"], found["deployment_rework_rate"]["rate"]) == (0.5, 2, 1)
    assert [link["id"] for link in fails["deployments"]] == [failed["id"]]
    assert [link["id"] for link in found["deployment_frequency"]["deployments"]] == [fixed["id"]]
    assert found["deployment_frequency"]["per_day"] == 0.1
    assert found["change_lead_time"]["durations"]["median_seconds"] == 24 * 60


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_statuses_in_any_order_have_the_same_end(
    github: PlayedSource, server: Local, store: Store, order: tuple[int, ...]
):
    await tell(github, *(STORY[number] for number in order))

    [shown] = await deployments(server, store)
    assert (shown["status"], shown["started"], shown["ended"]) == (
        "failed",
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01T12:03:00.000000Z",
    )


async def test_a_deployment_that_is_tried_again_is_a_second_one(
    github: PlayedSource, server: Local, store: Store
):
    again = (status_event("in_progress", "12:08:00"), status_event("success", "12:09:00"))

    await tell(github, *STORY, *again)

    failed, fixed = await deployments(server, store)
    assert (failed["status"], fixed["status"]) == ("failed", "completed")
    assert fixed["restores"] == failed["id"]
    assert fixed["started"] == "2026-03-01T12:08:00.000000Z"


@pytest.mark.parametrize("late", [False, True])
async def test_both_ends_of_a_deployment_that_is_tried_again_are_kept(
    github: PlayedSource, server: Local, store: Store, late: bool
):
    ends = [status_event("failure", "12:03:00"), status_event("success", "12:09:00")]

    await tell(github, *(reversed(ends) if late else ends))

    shown = {(each["status"], each["ended"]) for each in await deployments(server, store)}
    assert shown == {
        ("failed", "2026-03-01T12:03:00.000000Z"),
        ("completed", "2026-03-01T12:09:00.000000Z"),
    }


async def test_an_inactive_deployment_that_is_not_known_is_ignored(
    github: PlayedSource, server: Local, store: Store
):
    [answer] = await tell(github, status_event("inactive", "12:00:00"))

    assert answer.status == 200
    assert "not known" in answer.json["ignored"]
    assert await deployments(server, store) == []


# Workflow runs


async def test_runs_of_a_named_workflow_are_deployments(
    github: PlayedSource, server: Local, store: Store
):
    query = urlencode({"project": "acme", "environment": "prod", "workflow": "Deploy"})
    run = workflow_run(
        status="completed",
        conclusion="success",
        updated_at="2026-03-01T12:05:00Z",
        event="release",
        head_branch="v1.4.2",
        pull_requests=[{"number": 12, "url": "https://api.github.com/repos/acme/web/pulls/12"}],
    )
    for action, body in (("requested", workflow_run()), ("completed", run)):
        event = deployment_event(action=action, workflow_run=body)
        await github.post(event, headers("workflow_run"), query=query)

    [shown] = await deployments(server, store)
    assert (shown["status"], shown["environment"]) == ("completed", "prod")
    assert shown["ended"] == "2026-03-01T12:05:00.000000Z"
    assert (shown["version"], shown["change_request"]) == (
        "v1.4.2",
        "https://github.com/acme/web/pull/12",
    )


async def test_a_run_of_another_workflow_is_ignored(github: PlayedSource):
    event = deployment_event(action="completed", workflow_run=workflow_run(name="Tests"))

    answer = await github.post(event, headers("workflow_run"))

    assert answer.status == 200
    assert "workflow=NAME" in answer.json["ignored"]


# What else GitHub sends


async def test_a_ping_is_acknowledged(github: PlayedSource):
    answer = await github.post({"zen": "Design for failure.", "hook_id": 1}, headers("ping"))

    assert (answer.status, answer.json) == (200, {"ignored": "the webhook is set up"})


async def test_an_event_that_is_no_deployment_is_ignored_and_named(github: PlayedSource):
    answer = await github.post({"ref": "refs/heads/main"}, headers("push"))

    assert answer.status == 200
    assert answer.json == {
        "ignored": "'push' says nothing about a deployment: send deployment, deployment_status,"
        " workflow_run"
    }


async def test_a_form_is_read_as_json_is(github: PlayedSource, server: Local, store: Store):
    body = urlencode({"payload": json.dumps(STORY[0])}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    answer = await github.post(body, headers("deployment_status") | form)

    assert answer.status == 201
    assert len(await deployments(server, store)) == 1


@pytest.mark.parametrize(
    ("event", "body", "status", "says"),
    [
        ("deployment_status", b"", 400, "truncated"),
        ("deployment_status", b"[]", 400, "object"),
        ("deployment_status", b'{"deployment": 1}', 400, "deployment"),
        ("deployment_status", b"\xff\xfe", 400, ""),
        ("deployment_status", b"[" * 100_000, 400, ""),
        ("deployment_status", deployment_event(), 400, "deployment_status is missing"),
        ("deployment_status", status_event("done", "12:00:00"), 415, "known are queued"),
        ("deployment", deployment_event(deployment=deployment(created_at="today")), 400, "RFC"),
        ("deployment", deployment_event(deployment=deployment(environment="")), 400, "environment"),
        ("deployment", deployment_event(deployment=deployment(environment="e" * 200)), 400, "128"),
        ("deployment", deployment_event(deployment=deployment(creator={"login": "\0"})), 201, ""),
    ],
)
async def test_a_body_that_is_not_githubs_is_refused_by_name(
    github: PlayedSource, event: str, body: Any, status: int, says: str
):
    answer = await github.post(body, headers(event))

    assert answer.status == status, answer.body
    assert says in answer.body.decode()


async def test_a_body_without_an_event_gets_the_list_of_what_is_known(github: PlayedSource):
    answer = await github.post(deployment_event())

    assert_problem(answer, 415, "unsupported-media")
    assert "deployment, deployment_status, workflow_run" in answer.json["detail"]


# Who may


async def test_a_wrong_signature_records_nothing(github: PlayedSource, server: Local, store: Store):
    answer = await github.post(STORY[0], headers("deployment_status"), secret="another")

    assert answer.status == 401
    assert await deployments(server, store) == []


async def test_a_project_without_a_grant_is_refused(github: PlayedSource):
    answer = await github.post(STORY[0], headers("deployment_status"), query="project=other")

    assert answer.status == 403


async def test_a_secret_is_replaced_without_a_gap(
    github: PlayedSource, server: Local, store: Store, encryption_key: str
):
    credential, secret = await add_secret(store, "github", encryption_key)
    both = [
        await github.post(STORY[0], headers("deployment_status"), secret=each)
        for each in (github.secret, secret)
    ]

    await store.credentials.revoke(credential.id, 1)
    await _until_refused(github, secret)

    assert [answer.status for answer in both] == [201, 201]
    assert (await github.post(STORY[0], headers("deployment_status"))).status == 201


async def _until_refused(github: PlayedSource, secret: str) -> None:
    async def is_refused() -> bool:
        answer = await github.post(STORY[0], headers("deployment_status"), secret=secret)
        return answer.status == 401

    await until(is_refused)
