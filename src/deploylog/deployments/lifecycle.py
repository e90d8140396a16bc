"""The types of the events that start and end deployments and change sets."""

from deploylog.deployments.catalog import Status
from deploylog.deployments.changeset import Status as ChangesetStatus

DEPLOYMENT_STARTED = "deployment.started"

#: The events that end a deployment, and the status that each leaves it in.
DEPLOYMENT_ENDS: dict[str, Status] = {
    "deployment.completed": "completed",
    "deployment.failed": "failed",
}

#: The events that say that a deployment is not over.
DEPLOYMENT_PHASES = ("deployment.queued", "deployment.waiting", "deployment.progress")

DEPLOYMENT_LIFECYCLE = (DEPLOYMENT_STARTED, *DEPLOYMENT_ENDS)

#: The events whose data may say what a deployment carries.
CARRIES_DETAILS = (*DEPLOYMENT_LIFECYCLE, *DEPLOYMENT_PHASES)

#: The events that end a change set, and the status that each leaves it in.
CHANGESET_ENDS: dict[str, ChangesetStatus] = {
    "changeset.completed": "staged",
    "changeset.drift": "drifted",
    "changeset.failed": "failed",
}


def ends_deployment(event_type: str) -> bool:
    """Whether an event of this type ends its deployment."""
    return event_type in DEPLOYMENT_ENDS
