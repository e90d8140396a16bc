"""What the sources say: pure, from a delivery to reports. Over HTTP: ``test_first_hour``."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from deploylog.deployments.report import Report, check_report
from deploylog.errors import InvalidInput, NotFound, UnsupportedMedia
from deploylog.events.times import SECOND
from deploylog.ingest.delivery import Delivery, Ignored, Place, Said
from deploylog.ingest.github.mapping import TYPE_BY_STATE
from deploylog.ingest.sources import SOURCES, reader_of
from support import github, sources

NOW = 1_772_366_400 * SECOND


def said(source: str, body: Any, headers: Mapping[str, str] | None = None, **place: Any) -> Said:
    """What the source's delivery says."""
    delivery = Delivery(
        place=Place(project="acme", **place),
        headers={name.lower(): value for name, value in (headers or {}).items()},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        received=NOW,
    )
    return reader_of(source)(delivery)


def reported(source: str, body: Any, headers: Mapping[str, str] | None = None, **p: Any) -> Report:
    """The one report of the delivery."""
    [report] = said(source, body, headers, **p)  # type: ignore[misc]
    assert isinstance(report, Report)
    check_report(report)
    return report


def status(state: str, **deployment: Any) -> Report:
    """What GitHub says with a status of a deployment."""
    event = github.status_event(state, "12:00:00", of=github.deployment(**deployment))
    return reported("github", event, github.headers("deployment_status"))


# The address


def test_the_address_names_the_stack_and_the_environment_instead_of_the_source():
    place: dict[str, Any] = {"stack": "shop", "environment": "live", "groups": ("ops",)}

    report = reported("gitlab", sources.gitlab("running", "13:00:00"), sources.GITLAB, **place)

    assert (report.stack, report.environment, report.event.groups) == ("shop", "live", ("ops",))


def test_a_source_that_does_not_exist_is_told_which_do():
    with pytest.raises(NotFound, match="github, gitlab, hcp-terraform, flux, atlantis, pulumi"):
        reader_of("bitbucket")


# What is left out


@pytest.mark.parametrize(
    ("field", "value"),
    [("ref", "r" * 300), ("sha", "zzz"), ("payload", {"version": ["1"]}), ("payload", "1.4.2")],
)
def test_what_no_deployment_may_carry_is_left_out(field: str, value: object):
    report = status("queued", **{field: value})

    assert report.details.version is None
    assert report.details.url is not None


def test_the_version_is_that_of_the_payload_or_of_the_tag():
    assert status("queued", payload={"version": "1.4.2"}).details.version == "1.4.2"
    assert status("queued", ref="refs/tags/v1.5").details.version == "v1.5"
    assert status("queued", ref="main").details.version is None


def test_an_environment_that_is_not_said_to_be_production_is_not_said_to_be_none():
    unknown = sources.gitlab("running", "13:00:00", environment_tier=None)

    assert status("queued", production_environment=False).details.production is False
    assert status("queued", production_environment=None).details.production is None
    assert reported("gitlab", unknown, sources.GITLAB).details.production is None


# Phases


@pytest.mark.parametrize("state", TYPE_BY_STATE)
def test_each_state_of_github_is_a_phase(state: str):
    assert status(state).event.type == TYPE_BY_STATE[state]


@pytest.mark.parametrize(
    ("status", "type"),
    [
        ("created", "deployment.queued"),
        ("blocked", "deployment.waiting"),
        ("running", "deployment.progress"),
        ("canceled", "deployment.failed"),
    ],
)
def test_each_status_of_gitlab_is_a_phase(status: str, type: str):
    assert reported("gitlab", sources.gitlab(status, "13:00:00"), sources.GITLAB).event.type == type


@pytest.mark.parametrize("time", ["2026-03-01 12:00:00 UTC", "2026-03-01T13:00:00+01:00"])
def test_gitlab_writes_times_in_several_ways(time: str):
    body = sources.gitlab("running", "13:00:00", status_changed_at=time)

    assert reported("gitlab", body, sources.GITLAB).event.time == NOW


@pytest.mark.parametrize(
    ("trigger", "status", "type", "operation"),
    [
        ("run:completed", "applied", "deployment.completed", "apply"),
        ("run:completed", "planned_and_finished", "deployment.completed", "plan"),
        ("run:completed", "discarded", "deployment.completed", "plan"),
        ("run:errored", "canceled", "deployment.failed", None),
        ("run:needs_attention", "planned", "deployment.waiting", None),
    ],
)
def test_a_run_of_hcp_terraform_deploys_if_it_applies(
    trigger: str, status: str, type: str, operation: str | None
):
    report = reported("hcp-terraform", sources.hcp_terraform(trigger, status, "12:00:00"))

    assert (report.event.type, report.operation) == (type, operation)


def test_a_helm_release_has_the_version_of_its_chart():
    release = {"kind": "HelmRelease", "name": "podinfo", "namespace": "apps"}
    metadata = {"helm.toolkit.fluxcd.io/revision": "6.5.0"}
    body = sources.flux(
        "UpgradeSucceeded", "info", "12:00:00", involvedObject=release, metadata=metadata
    )

    report = reported("flux", body)

    assert (report.tool, report.operation, report.details.version) == ("helm", "upgrade", "6.5.0")
    assert report.details.commits == ()


@pytest.mark.parametrize("revision", [f"main/{sources.SHA}", sources.SHA, sources.REVISION])
def test_the_commit_is_read_from_each_form_of_a_revision(revision: str):
    metadata = {"kustomize.toolkit.fluxcd.io/revision": revision}
    body = sources.flux("Progressing", "info", "12:00:00", metadata=metadata)

    [commit] = reported("flux", body).details.commits

    assert commit.sha == sources.SHA


@pytest.mark.parametrize(
    ("fields", "stack"),
    [
        ({}, "queue"),
        ({"ProjectName": ""}, "terraform/queue"),
        ({"ProjectName": "", "Directory": "."}, "infra"),
    ],
)
def test_atlantis_names_the_stack_by_what_it_knows(fields: dict[str, Any], stack: str):
    assert reported("atlantis", sources.atlantis(success=False, **fields)).stack == stack


def test_the_default_workspace_is_no_environment():
    assert (
        reported("atlantis", sources.atlantis(success=True, Workspace="default")).environment
        is None
    )


def test_a_destroyed_stack_of_pulumi_is_destroyed():
    body = sources.pulumi_update("succeeded", kind="destroy")

    report = reported("pulumi", body, sources.pulumi_headers("stack_update"))

    assert (report.operation, report.event.type) == ("destroy", "deployment.completed")


# What says nothing

IGNORED = [
    ("github", {"ref": "main"}, github.headers("push")),
    ("gitlab", {"object_kind": "push"}, {"X-Gitlab-Event": "Push Hook"}),
    ("hcp-terraform", sources.hcp_terraform_test(), {}),
    ("hcp-terraform", {"payload_version": 2, "trigger": "assessment:drifted"}, {}),
    ("hcp-terraform", sources.hcp_terraform("run:unheard", "pending", "12:00:00"), {}),
    ("flux", sources.flux("DependencyNotReady", "error", "12:00:00"), {}),
    ("flux", sources.flux("Progressing", "info", "12:00:00", metadata={}), {}),
    ("atlantis", {"repository": "acme/infra", "detection_id": "1"}, {}),
    ("pulumi", {"action": "created"}, sources.pulumi_headers("stack")),
]


@pytest.mark.parametrize(("source", "body", "headers"), IGNORED)
def test_what_is_no_deployment_is_ignored_with_a_reason(
    source: str, body: Any, headers: dict[str, str]
):
    answer = said(source, body, headers)

    assert isinstance(answer, Ignored)
    assert answer.reason


UNKNOWN = [
    ("github", {}, {}),
    ("gitlab", {}, {}),
    ("gitlab", sources.gitlab("paused", "13:00:00"), sources.GITLAB),
    ("hcp-terraform", {"payload_version": 1, "notifications": [{"trigger": "run:created"}]}, {}),
    ("pulumi", {}, {}),
    ("pulumi", sources.pulumi_deployment("paused"), sources.pulumi_headers("deployment")),
]


@pytest.mark.parametrize(("source", "body", "headers"), UNKNOWN)
def test_what_nobody_knows_gets_the_list_of_what_is_known(
    source: str, body: Any, headers: dict[str, str]
):
    with pytest.raises(UnsupportedMedia, match="known are"):
        said(source, body, headers)


EVENT_HEADERS = {
    **github.headers("deployment_status"),
    **sources.GITLAB,
    **sources.pulumi_headers("deployment"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"a":', b"\xff", b"[" * 5_000, b'{"deployment": 7}',
     b'{"payload_version": 1, "run_id": 7}', b'{"involvedObject": {"kind": []}}'],
)  # fmt: skip
def test_damaged_input_is_ignored_or_an_error_that_says_so(source: str, body: bytes):
    with suppress(InvalidInput):
        assert isinstance(said(source, body, EVENT_HEADERS), Ignored)
