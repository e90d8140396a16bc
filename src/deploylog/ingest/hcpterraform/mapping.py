"""HCP Terraform's run notifications, to deployments.

Source: HCP Terraform's documentation, "Notification configurations API reference", sections
"Notification triggers" and "Run notification payload".
"""

import msgspec

from deploylog.deployments.report import Report
from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, time_of, unknown_body

SOURCE = "hcp-terraform"

#: Types of events by the trigger of a notification.
TYPE_BY_TRIGGER = {
    "run:created": "deployment.queued",
    "run:planning": "deployment.progress",
    "run:needs_attention": "deployment.waiting",
    "run:applying": "deployment.progress",
    "run:completed": "deployment.completed",
    "run:errored": "deployment.failed",
}

#: What a run did, by the status in which it completed.
OPERATION_BY_STATUS = {
    "applied": "apply",
    "planned_and_finished": "plan",
    "planned_and_saved": "plan",
    "discarded": "plan",
}


class Notification(msgspec.Struct):
    """What happened to a run."""

    trigger: str
    run_status: str | None = None
    message: str | None = None
    run_updated_at: str | None = None
    run_updated_by: str | None = None


class Payload(msgspec.Struct):
    """The body of a notification; a test names no run."""

    payload_version: int
    notifications: list[Notification] = []
    run_id: str | None = None
    run_url: str | None = None
    run_message: str | None = None
    run_created_at: str | None = None
    run_created_by: str | None = None
    workspace_name: str | None = None
    organization_name: str | None = None
    #: Of a workspace notification, which is not about a run.
    trigger: str | None = None


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput or UnsupportedMedia."""
    payload = decode(delivery, Payload)
    if payload.trigger is not None:
        return Ignored(f"{payload.trigger[:64]!r} says nothing about a run")
    if payload.run_id is None or payload.workspace_name is None:
        if all(each.trigger == "verification" for each in payload.notifications):
            return Ignored("the notification is set up")
        raise unknown_body("run_id or workspace_name is missing", tuple(TYPE_BY_TRIGGER))
    reports = [
        _report(delivery, payload, payload.run_id, payload.workspace_name, each)
        for each in payload.notifications
        if each.trigger in TYPE_BY_TRIGGER
    ]
    if not reports:
        triggers = ", ".join(each.trigger[:64] for each in payload.notifications)
        return Ignored(f"the triggers {triggers!r} are not recorded")
    return reports


def _report(
    delivery: Delivery, payload: Payload, run_id: str, workspace: str, notification: Notification
) -> Report:
    trigger, status = notification.trigger, notification.run_status
    changed, created = notification.run_updated_at, payload.run_created_at
    return report(
        delivery,
        source=SOURCE,
        id=f"{trigger}/{status}",
        key=run_id,
        stack=workspace,
        type=TYPE_BY_TRIGGER[trigger],
        time=time_of("run_updated_at", changed) if changed else delivery.received,
        started=time_of("run_created_at", created) if created else None,
        tool="terraform",
        operation=OPERATION_BY_STATUS.get(status or ""),
        actor=payload.run_created_by,
        message=f"{workspace}: {notification.message or trigger}",
        details={
            "url": payload.run_url,
            # Whoever starts the apply has confirmed the plan.
            "approvers": _approvers(payload, notification),
            "labels": _labels(payload),
        },
        data={
            "trigger": trigger,
            "run_status": status,
            "operation": OPERATION_BY_STATUS.get(status or ""),
        },
    )


def _approvers(payload: Payload, notification: Notification) -> list[str]:
    by = notification.run_updated_by
    return [by] if by and notification.trigger == "run:applying" else []


def _labels(payload: Payload) -> dict[str, str]:
    labels = {"organization": payload.organization_name, "reason": payload.run_message}
    return {name: value[:256] for name, value in labels.items() if value}
