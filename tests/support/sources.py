"""What the other sources post, with the fields of their documentation."""

from typing import Any

SHA = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"


# GitLab

GITLAB = {"X-Gitlab-Event": "Deployment Hook", "X-Gitlab-Instance": "https://gitlab.example.com"}


def gitlab(status: str, at: str, **fields: Any) -> dict[str, Any]:
    """A deployment event; ``at`` is the time of day, an hour east of UTC."""
    return {
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": f"2026-03-01 {at} +0100",
        "deployment_id": 15,
        "deployable_id": 796,
        "deployable_url": "https://gitlab.example.com/shop/web/-/jobs/796",
        "environment": "staging",
        "environment_tier": "staging",
        "environment_slug": "staging",
        "environment_external_url": "https://staging.example.com",
        "project": {
            "id": 30,
            "name": "Web Shop",
            "web_url": "https://gitlab.example.com/shop/web",
            "path_with_namespace": "shop/web",
            "default_branch": "main",
        },
        "short_sha": SHA[:8],
        "user": {"id": 1, "name": "Bob", "username": "bob", "email": "bob@example.com"},
        "user_url": "https://gitlab.example.com/bob",
        "commit_url": f"https://gitlab.example.com/shop/web/-/commit/{SHA}",
        "commit_title": "Add a queue",
        "ref": "main",
        **fields,
    }


# HCP Terraform


def hcp_terraform(trigger: str, status: str, at: str, **fields: Any) -> dict[str, Any]:
    """A notification about a run; ``at`` is the time of day."""
    return {
        "payload_version": 1,
        "notification_configuration_id": "nc-1",
        "run_url": "https://app.terraform.io/app/acme/network/runs/run-1",
        "run_id": "run-1",
        "run_message": "Add five queue workers",
        "run_created_at": "2026-03-01T12:00:00.000Z",
        "run_created_by": "carol",
        "workspace_id": "ws-1",
        "workspace_name": "network",
        "organization_name": "acme",
        "notifications": [
            {
                "message": f"Run {status}",
                "trigger": trigger,
                "run_status": status,
                "run_updated_at": f"2026-03-01T{at}.000Z",
                "run_updated_by": "dave",
            }
        ],
        **fields,
    }


def hcp_terraform_test() -> dict[str, Any]:
    """What is posted when a notification is created."""
    verification = {
        "message": "Verification of acme",
        "trigger": "verification",
        "run_status": None,
        "run_updated_at": None,
        "run_updated_by": None,
    }
    about = ("run_url", "run_id", "run_message", "run_created_at", "run_created_by")
    place = ("workspace_id", "workspace_name", "organization_name")
    return {
        "payload_version": 1,
        "notification_configuration_id": "nc-1",
        **dict.fromkeys((*about, *place)),
        "notifications": [verification],
    }


# Flux

REVISION = f"main@sha1:{SHA}"


def flux(reason: str, severity: str, at: str, **fields: Any) -> dict[str, Any]:
    """An event about a Kustomization; ``at`` is the time of day."""
    return {
        "involvedObject": {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "name": "webapp",
            "namespace": "apps",
            "uid": "7d0cdc51-ddcf-4743-b223-83ca5c699632",
        },
        "metadata": {"kustomize.toolkit.fluxcd.io/revision": REVISION, "env": "prod"},
        "severity": severity,
        "reason": reason,
        "message": f"{reason} in 2s",
        "reportingController": "kustomize-controller",
        "reportingInstance": "kustomize-controller-7c7b47f5f-8bhrp",
        "timestamp": f"2026-03-01T{at}Z",
        **fields,
    }


# Atlantis


def atlantis(*, success: bool, **fields: Any) -> dict[str, Any]:
    """The result of an apply."""
    repository = {
        "FullName": "acme/infra",
        "Owner": "acme",
        "Name": "infra",
        "CloneURL": "https://:@github.com/acme/infra.git",
        "SanitizedCloneURL": "https://:<redacted>@github.com/acme/infra.git",
        "VCSHost": {"Hostname": "github.com", "Type": 0},
    }
    return {
        "Workspace": "prod",
        "Repo": repository,
        "Pull": {
            "Num": 2137,
            "HeadCommit": SHA,
            "URL": "https://github.com/acme/infra/pull/2137",
            "HeadBranch": "feature/queue",
            "BaseBranch": "main",
            "Author": "erin",
            "Body": "Adds a queue.",
            "State": 0,
            "BaseRepo": repository,
        },
        "User": {"Username": "erin", "Teams": None},
        "Success": success,
        "Directory": "terraform/queue",
        "ProjectName": "queue",
        **fields,
    }


# Pulumi Cloud


def pulumi_update(result: str, **fields: Any) -> dict[str, Any]:
    """The body of ``stack_update``."""
    return {
        "user": {"name": "Frank", "githubLogin": "frank", "avatarUrl": "https://example.com/f.png"},
        "organization": {"name": "Acme", "githubLogin": "acme"},
        "projectName": "website",
        "stackName": "prod",
        "updateUrl": "https://app.pulumi.com/acme/website/prod/updates/42",
        "kind": "update",
        "result": result,
        "resourceChanges": {"create": 2, "update": 1},
        "isPreview": False,
        **fields,
    }


def pulumi_deployment(status: str, **fields: Any) -> dict[str, Any]:
    """The body of ``deployment``."""
    return {
        "user": {"name": "Frank", "githubLogin": "frank"},
        "organization": {"name": "Acme", "githubLogin": "acme"},
        "projectName": "website",
        "stackName": "prod",
        "deploymentUrl": "https://app.pulumi.com/acme/website/prod/deployments/127",
        "version": 127,
        "operation": "update",
        "status": status,
        **fields,
    }


def pulumi_headers(kind: str) -> dict[str, str]:
    """The headers of a webhook, but for the signature."""
    return {"Pulumi-Webhook-Kind": kind, "Pulumi-Webhook-ID": "11bf162b"}
