"""GitLab's deployment events, to deployments.

Source: GitLab's documentation, "Webhook events", section "Deployment events".
"""

import re

import msgspec

from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, time_of, unknown_body

SOURCE = "gitlab"

#: The event that is recorded, as ``X-Gitlab-Event`` names it.
EVENT = "Deployment Hook"

#: Types of events by the status of a deployment.
TYPE_BY_STATUS = {
    "created": "deployment.queued",
    "blocked": "deployment.waiting",
    "running": "deployment.progress",
    "success": "deployment.completed",
    "failed": "deployment.failed",
    "canceled": "deployment.failed",
    "skipped": "deployment.failed",
}

#: ``2026-03-01 13:00:00 +0100``, which is not RFC 3339.
_TIME = re.compile(r"(\S{10}) (\S{8}) (?:([+-]\d\d):?(\d\d)|UTC)")

_SHA_IN_URL = re.compile(r"/commit/([0-9a-f]{7,64})$")


class Project(msgspec.Struct):
    """A project of GitLab's."""

    name: str
    path_with_namespace: str
    web_url: str


class User(msgspec.Struct):
    """Who deploys."""

    username: str


class DeploymentHook(msgspec.Struct):
    """The body of a deployment event."""

    object_kind: str
    status: str
    status_changed_at: str
    deployment_id: int
    environment: str
    project: Project
    environment_tier: str | None = None
    environment_external_url: str | None = None
    deployable_url: str | None = None
    short_sha: str | None = None
    commit_url: str | None = None
    ref: str | None = None
    user: User | None = None


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput or UnsupportedMedia."""
    event = delivery.headers.get("x-gitlab-event")
    if event is None:
        raise unknown_body("X-Gitlab-Event is missing", (EVENT,))
    if event != EVENT:
        return Ignored(f"{event[:64]!r} says nothing about a deployment: send Deployment events")
    hook = decode(delivery, DeploymentHook)
    if hook.status not in TYPE_BY_STATUS:
        raise unknown_body(f"status {hook.status[:64]!r} is unknown", tuple(TYPE_BY_STATUS))
    project, tier = hook.project, hook.environment_tier
    return [
        report(
            delivery,
            source=SOURCE,
            id=f"{hook.status}/{hook.status_changed_at}",
            # Each GitLab numbers its deployments from 1.
            key=f"{project.web_url}/deployment/{hook.deployment_id}",
            stack=project.path_with_namespace.rpartition("/")[2],
            environment=hook.environment,
            type=TYPE_BY_STATUS[hook.status],
            time=time_of("status_changed_at", _rfc3339(hook.status_changed_at)),
            tool=SOURCE,
            operation="deploy",
            actor=hook.user.username if hook.user else None,
            message=f"Deployment of {project.path_with_namespace} to {hook.environment}:"
            f" {hook.status}",
            details={
                "commits": _commits(hook),
                "url": hook.deployable_url,
                "production": tier == "production" if tier else None,
                "labels": _labels(hook),
            },
            data={"status": hook.status, "project": project.path_with_namespace},
        )
    ]


def _rfc3339(time: str) -> str:
    match = _TIME.fullmatch(time)
    if match is None:
        return time
    day, second, hours, minutes = match.groups()
    return f"{day}T{second}{f'{hours}:{minutes}' if hours else 'Z'}"


def _commits(hook: DeploymentHook) -> list[dict[str, str]]:
    """The commit, in full if its URL has it."""
    in_url = _SHA_IN_URL.search(hook.commit_url or "")
    sha = in_url[1] if in_url else hook.short_sha
    return [{"sha": sha, "repository": hook.project.web_url}] if sha else []


def _labels(hook: DeploymentHook) -> dict[str, str]:
    labels = {
        "ref": hook.ref,
        "tier": hook.environment_tier,
        "environment_url": hook.environment_external_url,
    }
    return {name: value for name, value in labels.items() if value}
