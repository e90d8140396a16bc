"""The integrations of the first hour: what ``deployments`` shows for each source.

Each body has the fields of the source's documentation, and its documented signature.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from deploylog.auth.store import SourceKind
from deploylog.store.contract import Store
from support import cdevents, github, sources
from support.api_keys import key_headers
from support.cloudformation import arn_of
from support.servers import ONE, Local
from support.sns import envelope
from support.templates import SHA, ArgoCd, spacelift
from support.webhooks import GRANTS, PlayedSource, played


@pytest.fixture
def options(encryption_key_file: str) -> dict[str, Any]:
    return {"secret_key_file": encryption_key_file}


class FirstHour:
    """A service that has heard of nothing yet, and each source with its secret."""

    def __init__(self, server: Local, store: Store, encryption_key: str) -> None:
        self._server = server
        self._store = store
        self._encryption_key = encryption_key

    async def of(self, source: SourceKind) -> PlayedSource:
        """The source, which has a secret."""
        return await played(self._server, self._store, source, self._encryption_key)

    async def tell(
        self,
        source: SourceKind,
        *deliveries: tuple[Mapping[str, str], Any],
        query: str = "project=acme",
    ) -> None:
        """Post the deliveries, each a header and a body."""
        player = await self.of(source)
        for headers, body in deliveries:
            answer = await player.post(body, headers, query=query)
            assert answer.status in (200, 201), answer.body

    async def send(self, path: str, *events: Any, media: str = ONE) -> None:
        """Post the events, with an API key."""
        writer = await key_headers(self._store, *GRANTS)
        for event in events:
            answer = await self._server.post(event, media, path, headers=writer)
            assert answer.status == 201, answer.body

    async def shows(self, *fields: str) -> list[tuple[Any, ...]]:
        """These fields of each deployment, first started first."""
        reader = await key_headers(self._store, "read:/", name="reader")
        page = await self._server.get("/log/v1/deployments", headers=reader)
        return [tuple(each[f] for f in fields) for each in reversed(page.json["deployments"])]


@pytest.fixture
def first_hour(server: Local, store: Store, encryption_key: str) -> FirstHour:
    return FirstHour(server, store, encryption_key)


WHAT = ("stack", "environment", "status", "actor", "url")


async def test_github(first_hour: FirstHour):
    fix = github.deployment(43, created_at="2026-03-01T12:10:00Z")
    of_status = github.headers("deployment_status")

    await first_hour.tell(
        "github",
        (github.headers("ping"), {"zen": "Keep it logically awesome.", "hook_id": 1}),
        (github.headers("deployment"), github.deployment_event()),
        (of_status, github.status_event("queued", "12:00:01")),
        (of_status, github.status_event("in_progress", "12:00:05")),
        (of_status, github.status_event("failure", "12:03:00")),
        (of_status, github.status_event("success", "12:14:00", of=fix)),
    )

    run = "https://github.com/acme/web/actions/runs/5001"
    [failed, fixed] = await first_hour.shows(*WHAT, "id", "restores")
    assert failed[:5] == ("web", "prod", "failed", "alice", run)
    assert fixed[:5] == ("web", "prod", "completed", "alice", f"{run}/job/9")
    assert (failed[6], fixed[6]) == (None, failed[5])


async def test_gitlab(first_hour: FirstHour):
    await first_hour.tell(
        "gitlab",
        (sources.GITLAB, sources.gitlab("running", "13:00:00")),
        (sources.GITLAB, sources.gitlab("success", "13:04:00")),
        ({"X-Gitlab-Event": "Push Hook"}, {"object_kind": "push"}),
    )

    job = "https://gitlab.example.com/shop/web/-/jobs/796"
    assert await first_hour.shows(*WHAT, "started", "ended", "production", "commits") == [
        (
            "web", "staging", "completed", "bob", job,
            "2026-03-01T12:00:00.000000Z", "2026-03-01T12:04:00.000000Z", False,
            [{"sha": sources.SHA, "repository": "https://gitlab.example.com/shop/web"}],
        )
    ]  # fmt: skip


async def test_hcp_terraform(first_hour: FirstHour):
    await first_hour.tell(
        "hcp-terraform",
        ({}, sources.hcp_terraform_test()),
        ({}, sources.hcp_terraform("run:created", "pending", "12:00:00")),
        ({}, sources.hcp_terraform("run:planning", "planning", "12:00:02")),
        ({}, sources.hcp_terraform("run:needs_attention", "planned", "12:01:00")),
        ({}, sources.hcp_terraform("run:applying", "applying", "12:05:00")),
        ({}, sources.hcp_terraform("run:completed", "applied", "12:06:30")),
        query="project=acme&environment=prod",
    )

    run = "https://app.terraform.io/app/acme/network/runs/run-1"
    assert await first_hour.shows(*WHAT, "operation", "ended", "approvers", "labels") == [
        (
            "network", "prod", "completed", "carol", run, "apply", "2026-03-01T12:06:30.000000Z",
            ["dave"], {"organization": "acme", "reason": "Add five queue workers"},
        )
    ]  # fmt: skip


async def test_flux(first_hour: FirstHour):
    await first_hour.tell(
        "flux",
        ({}, sources.flux("Progressing", "info", "12:00:00")),
        ({}, sources.flux("HealthCheckFailed", "error", "12:05:00")),
        # Flux tries again, and says so again.
        ({}, sources.flux("HealthCheckFailed", "error", "12:10:00")),
        ({}, sources.flux("ReconciliationSucceeded", "info", "12:12:00")),
    )

    [failed, fixed] = await first_hour.shows(*WHAT, "id", "restores", "commits")
    assert failed[:5] == ("webapp", "prod", "failed", None, None)
    assert fixed[:5] == ("webapp", "prod", "completed", None, None)
    assert (fixed[6], fixed[7]) == (failed[5], [{"sha": sources.SHA}])


async def test_atlantis(first_hour: FirstHour):
    await first_hour.tell("atlantis", ({}, sources.atlantis(success=True)))

    assert await first_hour.shows(*WHAT[:4], "change_request", "commits") == [
        (
            "queue", "prod", "completed", "erin", "https://github.com/acme/infra/pull/2137",
            [{"sha": sources.SHA, "repository": "https://github.com/acme/infra"}],
        )
    ]  # fmt: skip


async def test_pulumi_cloud(first_hour: FirstHour):
    of_deployment = sources.pulumi_headers("deployment")

    await first_hour.tell(
        "pulumi",
        (of_deployment, sources.pulumi_deployment("queued")),
        (of_deployment, sources.pulumi_deployment("running")),
        (of_deployment, sources.pulumi_deployment("succeeded")),
    )

    url = "https://app.pulumi.com/acme/website/prod/deployments/127"
    assert await first_hour.shows(*WHAT, "tool", "operation") == [
        ("website", "prod", "completed", "frank", url, "pulumi", "update")
    ]


async def test_cdevents(first_hour: FirstHour):
    await first_hour.send(
        "/log/v1/ingest/cdevents?project=acme",
        cdevents.structured(cdevents.service("deployed", "12:00:00")),
        cdevents.structured(cdevents.incident("detected", "12:10:00")),
        cdevents.structured(cdevents.service("upgraded", "12:20:00")),
        cdevents.structured(cdevents.incident("resolved", "12:30:00")),
    )

    assert await first_hour.shows("stack", "environment", "status", "operation", "restores") == [
        ("myapp", "prod", "completed", "deploy", None),
        ("myapp", "prod", "completed", "upgrade", "incident-123"),
    ]


async def test_argo_cd(first_hour: FirstHour):
    argo = ArgoCd()

    await first_hour.send(
        "/log/v1/events",
        argo.event("started"),
        argo.event("failed", finishedAt="2026-03-01T12:01:00Z", message="no such image"),
        argo.event("started", startedAt="2026-03-01T12:05:00Z"),
        argo.event(
            "succeeded", startedAt="2026-03-01T12:05:00Z", finishedAt="2026-03-01T12:06:00Z"
        ),
        media="application/json",
    )

    page = "https://argocd.example.com/applications/web"
    [failed, fixed] = await first_hour.shows(*WHAT, "id", "restores", "message")
    assert failed[:5] == ("web", "prod", "failed", "alice", page)
    assert fixed[:5] == ("web", "prod", "completed", "alice", page)
    assert (failed[7], fixed[6]) == ("no such image", failed[5])


async def test_spacelift(first_hour: FirstHour):
    states = ("QUEUED", "PLANNING", "UNCONFIRMED", "APPLYING", "FAILED")

    await first_hour.send(
        "/log/v1/events",
        *(request["payload"] for state in states for request in spacelift(state)),
        media="application/json",
    )

    run = "https://acme.app.spacelift.io/stack/network/run/01EF9PFPNF"
    assert await first_hour.shows(*WHAT, "commits") == [
        ("network", "prod", "failed", "alice", run, [{"sha": SHA}])
    ]


async def test_a_script(first_hour: FirstHour):
    names = {"project": "acme", "stack": "web", "environment": "prod", "deployment": "build-7"}
    attributes = {"specversion": "1.0", "source": "/release", "actor": "grace", **names}

    await first_hour.send(
        "/log/v1/events",
        {"id": "1", "type": "deployment.started", "data": {"version": "1.4.2"}, **attributes},
        {"id": "2", "type": "deployment.completed", **attributes},
    )

    assert await first_hour.shows(*WHAT[:4], "version") == [
        ("web", "prod", "completed", "grace", "1.4.2")
    ]


async def test_cloudformation(first_hour: FirstHour):
    arn = arn_of("db")

    await first_hour.send(
        "/log/v1/ingest/eventbridge?project=acme",
        envelope(arn, "CREATE_IN_PROGRESS", id="e-1"),
        envelope(arn, "CREATE_COMPLETE", logical="Bucket", id="e-2"),
        envelope(arn, "CREATE_COMPLETE", id="e-3", time="2026-03-01T12:04:00Z"),
        media="application/json",
    )

    [shown] = await first_hour.shows("stack", "status", "operation", "counts")
    assert shown[:3] == ("db", "completed", "create")
    assert shown[3]["added"] == 1
