"""What GitHub posts of deployments, with the fields of its documentation."""

from typing import Any

SHA = "9f2c1e7ab34d56ef9f2c1e7ab34d56ef9f2c1e7a"

REPOSITORY = {
    "id": 7,
    "name": "web",
    "full_name": "acme/web",
    "html_url": "https://github.com/acme/web",
    "private": True,
    "owner": {"login": "acme", "id": 3, "type": "Organization"},
}


def workflow_run(**fields: Any) -> dict[str, Any]:
    """A run of GitHub Actions."""
    return {
        "id": 5001,
        "name": "Deploy",
        "head_branch": "main",
        "head_sha": SHA,
        "run_number": 17,
        "run_attempt": 1,
        "event": "push",
        "status": "in_progress",
        "conclusion": None,
        "html_url": "https://github.com/acme/web/actions/runs/5001",
        "created_at": "2026-03-01T12:00:00Z",
        "run_started_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:05Z",
        "actor": {"login": "alice"},
        "triggering_actor": {"login": "alice"},
        "pull_requests": [],
        "head_commit": {"id": SHA, "timestamp": "2026-03-01T11:50:00+00:00"},
        **fields,
    }


def deployment(id: int = 42, **fields: Any) -> dict[str, Any]:
    """A deployment."""
    return {
        "id": id,
        "sha": SHA,
        "ref": "main",
        "task": "deploy",
        "payload": {},
        "environment": "prod",
        "original_environment": "prod",
        "description": None,
        "creator": {"login": "github-actions[bot]", "type": "Bot"},
        "created_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:00Z",
        "transient_environment": False,
        "production_environment": True,
        **fields,
    }


def deployment_event(**fields: Any) -> dict[str, Any]:
    """The body of ``deployment``."""
    return {
        "action": "created",
        "deployment": deployment(),
        "workflow_run": workflow_run(),
        "repository": REPOSITORY,
        "sender": {"login": "github-actions[bot]"},
        **fields,
    }


def status_event(
    state: str, at: str, *, id: int | None = None, of: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """The body of ``deployment_status``; ``at`` is the time of day."""
    of = of or deployment()
    return deployment_event(
        deployment=of,
        deployment_status={
            "id": id or int(at.replace(":", "")) * 1000 + len(state),
            "state": state,
            "creator": {"login": "github-actions[bot]"},
            "description": "",
            "environment": of["environment"],
            "target_url": "https://github.com/acme/web/actions/runs/5001/job/9",
            "log_url": "https://github.com/acme/web/actions/runs/5001/job/9",
            "environment_url": "",
            "created_at": f"2026-03-01T{at}Z",
            "updated_at": f"2026-03-01T{at}Z",
        },
        **fields,
    )


def headers(event: str, delivery: str = "d-1") -> dict[str, str]:
    """The headers of a delivery, but for the signature."""
    return {
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Hook-ID": "292430182",
    }
