"""Pulumi Cloud's webhooks about updates and deployments, to deployments.

Source: Pulumi's documentation, "Pulumi Cloud Webhooks".
"""

import msgspec

from deploylog.deployments.report import Report
from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, unknown_body

SOURCE = "pulumi"

#: The kinds that are recorded.
KINDS = ("stack_update", "stack_preview", "deployment")

#: Types of events by the result of an update, and by the status of a deployment.
TYPE_BY_STATUS = {
    "not-started": "deployment.queued",
    "accepted": "deployment.queued",
    "queued": "deployment.queued",
    "running": "deployment.progress",
    "in-progress": "deployment.progress",
    "succeeded": "deployment.completed",
    "failed": "deployment.failed",
    "skipped": "deployment.failed",
}


class User(msgspec.Struct, kw_only=True, rename="camel"):
    """Who asked for it."""

    name: str = ""
    github_login: str = ""


class _Webhook(msgspec.Struct, kw_only=True, rename="camel"):
    """What every webhook about a stack names."""

    project_name: str
    stack_name: str
    user: User | None = None


class Update(_Webhook, kw_only=True, rename="camel"):
    """The body of ``stack_update`` and ``stack_preview``."""

    update_url: str
    kind: str
    result: str
    resource_changes: dict[str, int] = {}


class Deployment(_Webhook, kw_only=True, rename="camel"):
    """The body of ``deployment``."""

    deployment_url: str
    operation: str
    status: str


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput or UnsupportedMedia."""
    kind = delivery.headers.get("pulumi-webhook-kind")
    if kind is None:
        raise unknown_body("Pulumi-Webhook-Kind is missing", KINDS)
    if kind not in KINDS:
        return Ignored(f"{kind[:64]!r} says nothing about a deployment: send {', '.join(KINDS)}")
    if kind == "deployment":
        run = decode(delivery, Deployment)
        return [_report(delivery, run, run.deployment_url, run.operation, run.status)]
    update = decode(delivery, Update)
    operation = "preview" if kind == "stack_preview" else update.kind
    return [_report(delivery, update, update.update_url, operation, update.result)]


def _report(delivery: Delivery, body: _Webhook, url: str, operation: str, status: str) -> Report:
    if status not in TYPE_BY_STATUS:
        raise unknown_body(f"status {status[:64]!r} is unknown", tuple(TYPE_BY_STATUS))
    changes = body.resource_changes if isinstance(body, Update) else {}
    return report(
        delivery,
        source=SOURCE,
        id=status,
        # Of an update or a deployment there is one; Pulumi sends no time.
        key=url[:900],
        stack=body.project_name,
        environment=body.stack_name,
        type=TYPE_BY_STATUS[status],
        time=delivery.received,
        tool=SOURCE,
        operation=operation,
        actor=(body.user.github_login or body.user.name or None) if body.user else None,
        message=f"{operation.capitalize()} of {body.project_name}/{body.stack_name}: {status}",
        details={"url": url},
        data={"status": status, "changes": changes or None},
    )
