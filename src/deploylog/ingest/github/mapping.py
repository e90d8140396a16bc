"""GitHub's deployments, their statuses and workflow runs, to deployments.

Source: GitHub's documentation, "Webhook events and payloads" and "Validating webhook deliveries".
"""

from typing import Any
from urllib.parse import parse_qs

import msgspec

from deploylog.deployments.report import Report
from deploylog.errors import InvalidInput
from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, time_of, unknown_body

SOURCE = "github"

#: The events that are recorded.
EVENTS = ("deployment", "deployment_status", "workflow_run")

#: Types of events by the state of a deployment.
TYPE_BY_STATE = {
    "queued": "deployment.queued",
    "pending": "deployment.queued",
    "waiting": "deployment.waiting",
    "in_progress": "deployment.progress",
    "success": "deployment.completed",
    "failure": "deployment.failed",
    "error": "deployment.failed",
    "inactive": "deployment.inactive",
}

#: Types of events by the action or the status of a workflow run that is not complete.
TYPE_BY_ACTION = {"requested": "deployment.queued", "in_progress": "deployment.progress"}

#: The conclusions with which a workflow run has done its work.
SUCCESSES = ("success", "neutral")

_FORM = "application/x-www-form-urlencoded"


class User(msgspec.Struct):
    """A user or an app."""

    login: str


class Repository(msgspec.Struct):
    """A repository."""

    name: str
    full_name: str
    html_url: str


class PullRequest(msgspec.Struct):
    """A pull request, as a workflow run names it."""

    number: int


class HeadCommit(msgspec.Struct):
    """The newest commit of a workflow run."""

    id: str
    timestamp: str | None = None


class WorkflowRun(msgspec.Struct):
    """A run of GitHub Actions."""

    id: int
    html_url: str
    head_sha: str
    name: str | None = None
    run_attempt: int = 1
    event: str | None = None
    head_branch: str | None = None
    head_commit: HeadCommit | None = None
    actor: User | None = None
    triggering_actor: User | None = None
    pull_requests: list[PullRequest] = []
    conclusion: str | None = None
    created_at: str | None = None
    run_started_at: str | None = None
    updated_at: str | None = None


class Deployment(msgspec.Struct):
    """A deployment."""

    id: int
    sha: str
    ref: str
    environment: str
    created_at: str
    task: str | None = None
    creator: User | None = None
    production_environment: bool | None = None
    payload: Any = None


class DeploymentStatus(msgspec.Struct):
    """A state that a deployment is in."""

    id: int
    state: str
    created_at: str
    description: str | None = None
    target_url: str | None = None
    log_url: str | None = None
    environment_url: str | None = None


class DeploymentEvent(msgspec.Struct):
    """The body of ``deployment`` and ``deployment_status``."""

    deployment: Deployment
    repository: Repository
    deployment_status: DeploymentStatus | None = None
    workflow_run: WorkflowRun | None = None


class WorkflowRunEvent(msgspec.Struct):
    """The body of ``workflow_run``."""

    action: str
    workflow_run: WorkflowRun
    repository: Repository


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput or UnsupportedMedia."""
    event = delivery.headers.get("x-github-event")
    if event is None:
        raise unknown_body("X-GitHub-Event is missing", EVENTS)
    if event == "ping":
        return Ignored("the webhook is set up")
    if event not in EVENTS:
        return Ignored(f"{event[:64]!r} says nothing about a deployment: send {', '.join(EVENTS)}")
    delivery = _as_json(delivery)
    if event == "workflow_run":
        return _workflow_run(delivery, decode(delivery, WorkflowRunEvent))
    return _deployment(delivery, decode(delivery, DeploymentEvent), event)


def _as_json(delivery: Delivery) -> Delivery:
    """The delivery with its body as JSON: a webhook may be set to send a form."""
    media = delivery.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != _FORM:
        return delivery
    payload = parse_qs(delivery.body.decode("latin-1")).get("payload", [""])[0]
    return msgspec.structs.replace(delivery, body=payload.encode("utf-8", "surrogateescape"))


def _deployment(delivery: Delivery, body: DeploymentEvent, event: str) -> list[Report]:
    deployment, status = body.deployment, body.deployment_status
    started = time_of("deployment.created_at", deployment.created_at)
    if event == "deployment":
        return [_report(delivery, body, type="deployment.started", id="created", time=started)]
    if status is None:
        raise InvalidInput("deployment_status is missing", field="deployment_status")
    if status.state not in TYPE_BY_STATE:
        raise unknown_body(f"state {status.state[:64]!r} is unknown", tuple(TYPE_BY_STATE))
    return [
        _report(
            delivery,
            body,
            type=TYPE_BY_STATE[status.state],
            id=f"status/{status.id}",
            time=time_of("deployment_status.created_at", status.created_at),
        )
    ]


def _report(delivery: Delivery, body: DeploymentEvent, *, type: str, id: str, time: int) -> Report:
    deployment, status, run = body.deployment, body.deployment_status, body.workflow_run
    state = status.state if status else "created"
    what = f"Deployment of {body.repository.full_name} to {deployment.environment}: {state}"
    return report(
        delivery,
        source=SOURCE,
        id=id,
        key=f"deployment/{deployment.id}",
        stack=body.repository.name,
        environment=deployment.environment,
        type=type,
        time=time,
        started=time_of("deployment.created_at", deployment.created_at),
        tool=SOURCE,
        operation=deployment.task,
        actor=_actor(run) or (deployment.creator.login if deployment.creator else None),
        message=f"{what}, {status.description}" if status and status.description else what,
        details={
            "version": _version(deployment, run),
            "commits": [_commit(deployment.sha, body.repository, run)],
            "url": _url(status, run),
            "change_request": _change_request(body.repository, run),
            "production": deployment.production_environment,
            "labels": _labels(deployment, status),
        },
        data={"state": state, "repository": body.repository.full_name},
        opens=type != "deployment.inactive",
    )


def _workflow_run(delivery: Delivery, body: WorkflowRunEvent) -> Said:
    run, workflows = body.workflow_run, delivery.place.workflows
    if run.name not in workflows:
        return Ignored(
            f"workflow {(run.name or '')[:64]!r} is not named in the address as one that deploys:"
            " add workflow=NAME"
        )
    is_over = body.action == "completed"
    type = TYPE_BY_ACTION.get(body.action)
    if is_over:
        type = "deployment.completed" if run.conclusion in SUCCESSES else "deployment.failed"
    if type is None:
        return Ignored(f"the action {body.action[:64]!r} of a workflow run is not recorded")
    state = run.conclusion if is_over else body.action
    started = run.run_started_at or run.created_at
    changed = run.updated_at if is_over or body.action == "in_progress" else started
    return [
        report(
            delivery,
            source=SOURCE,
            id=body.action,
            key=f"run/{run.id}/{run.run_attempt}",
            stack=body.repository.name,
            type=type,
            time=time_of("workflow_run.updated_at", changed) if changed else delivery.received,
            started=time_of("workflow_run.run_started_at", started) if started else None,
            tool=SOURCE,
            operation=run.name,
            actor=_actor(run),
            message=f"Workflow {run.name} of {body.repository.full_name}: {state}",
            details={
                "version": run.head_branch if run.event == "release" else None,
                "commits": [_commit(run.head_sha, body.repository, run)],
                "url": run.html_url,
                "change_request": _change_request(body.repository, run),
            },
            data={"state": state, "repository": body.repository.full_name},
        )
    ]


def _actor(run: WorkflowRun | None) -> str | None:
    """Who started the run: a deployment of GitHub Actions names the app only."""
    user = (run.triggering_actor or run.actor) if run else None
    return user.login if user else None


def _version(deployment: Deployment, run: WorkflowRun | None) -> object:
    if isinstance(deployment.payload, dict) and deployment.payload.get("version"):
        return deployment.payload["version"]
    if deployment.ref.startswith("refs/tags/"):
        return deployment.ref.removeprefix("refs/tags/")
    return run.head_branch if run and run.event == "release" else None


def _commit(sha: str, repository: Repository, run: WorkflowRun | None) -> dict[str, str | None]:
    head = run.head_commit if run else None
    committed = head.timestamp if head and head.id == sha else None
    return {"sha": sha.lower(), "repository": repository.html_url, "committed": committed}


def _url(status: DeploymentStatus | None, run: WorkflowRun | None) -> str | None:
    said = (status.log_url or status.target_url) if status else None
    return said or (run.html_url if run else None)


def _change_request(repository: Repository, run: WorkflowRun | None) -> str | None:
    """The pull request, if there is exactly one."""
    requests = run.pull_requests if run else []
    return f"{repository.html_url}/pull/{requests[0].number}" if len(requests) == 1 else None


def _labels(deployment: Deployment, status: DeploymentStatus | None) -> dict[str, str]:
    url = status.environment_url if status else None
    return {"ref": deployment.ref} | ({"environment_url": url} if url else {})
