"""CDEvents 0.5: what happened to a service, as CloudEvents in structured mode."""

from typing import Any
from urllib.parse import quote

import msgspec

from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment
from deploylog.deployments.cdevents import (
    OUTCOME_BY_STATUS,
    PREDICATE_BY_OPERATION,
    SPECIFICATION,
    TYPE_VERSION,
)
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE
from deploylog.errors import InvalidEvent
from deploylog.events.event import SOURCE, Event
from deploylog.events.times import render_time
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, Notice
from deploylog.subscriptions.delivery.kinds.notice_sender import notice_senders
from deploylog.subscriptions.delivery.outcome import Request, classify_receiver_response
from deploylog.subscriptions.delivery.sender import USER_AGENT
from deploylog.subscriptions.subscription import Endpoint

#: The type of a test, which no deployment has: CDEvents lets tools define types of their own.
TEST_TYPE = "dev.cdeventsx.deploylog-subscription.tested.0.1.0"

_HEADERS = {"content-type": "application/cloudevents+json", "user-agent": USER_AGENT}


class CdEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CDEvent before it has a context."""

    #: Tells the CDEvents of one event apart.
    suffix: str = ""
    type: str
    subject: str
    content: dict[str, Any]


def render(endpoint: Endpoint, notice: Notice) -> list[Request]:
    """One request for each CDEvent; raises InvalidEvent when the event has none."""
    return [_request(endpoint, notice.event, each) for each in cdevents_of(notice)]


def cdevents_of(notice: Notice) -> list[CdEvent]:
    """The CDEvents of an event: of the run, and of the service when a deployment changed it."""
    event, deployment = notice.event, notice.lifecycle
    if event.type == "subscription.test":
        return [CdEvent(type=TEST_TYPE, subject=event.subject or "test", content={})]
    if deployment is None:
        raise InvalidEvent(f"an event of type {event.type[:64]} has no CDEvent")
    if deployment.ended is None:
        return [_run(notice, deployment, "started")]
    finished = _run(notice, deployment, "finished", outcome=OUTCOME_BY_STATUS[deployment.status])
    return [finished, *_service(deployment)]


def _run(notice: Notice, deployment: Deployment, predicate: str, **content: str) -> CdEvent:
    """What happened to the run of the tool."""
    page = deployment.details.url or notice.url
    content["uri"] = page or f"urn:deploylog:deployment:{deployment.id}"
    if deployment.status == "failed" and deployment.message:
        content["errors"] = deployment.message
    return CdEvent(
        type=f"dev.cdevents.pipelinerun.{predicate}.{TYPE_VERSION}",
        subject=deployment.id,
        content={"pipelineName": deployment.stack, **content},
    )


def _service(deployment: Deployment) -> list[CdEvent]:
    """What a completed deployment to an environment did to the service."""
    if deployment.status != "completed" or deployment.operation in NON_MUTATING_OPERATIONS:
        return []
    if deployment.environment is None:
        return []
    predicate = PREDICATE_BY_OPERATION.get(deployment.operation or "", "deployed")
    content: dict[str, Any] = {"environment": {"id": deployment.environment}}
    if predicate != "removed":
        content["artifactId"] = artifact_of(deployment)
    return [
        CdEvent(
            suffix="/service",
            type=f"dev.cdevents.service.{predicate}.{TYPE_VERSION}",
            subject=f"{deployment.project}/{deployment.stack}",
            content=content,
        )
    ]


def artifact_of(deployment: Deployment) -> str:
    """The package URL of what is deployed: the first artifact, or the stack at its version."""
    details = deployment.details
    if details.artifacts:
        return details.artifacts[0].purl
    version = details.version or (details.commits[0].sha if details.commits else None)
    name = f"pkg:generic/{quote(deployment.project, safe='')}/{quote(deployment.stack, safe='')}"
    return f"{name}@{quote(version, safe='')}" if version else name


def _request(endpoint: Endpoint, event: Event, cdevent: CdEvent) -> Request:
    id, time = f"{event.id}{cdevent.suffix}", render_time(event.time)
    body = {
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": cdevent.type,
        "subject": cdevent.subject,
        "time": time,
        "datacontenttype": "application/json",
        "data": {
            "context": {
                "specversion": SPECIFICATION,
                "id": id,
                "source": SOURCE,
                "type": cdevent.type,
                "timestamp": time,
            },
            "subject": {"id": cdevent.subject, "source": SOURCE, "content": cdevent.content},
        },
    }
    return Request(url=endpoint.url, headers=_HEADERS, body=msgspec.json.encode(body), id=id)


CDEVENTS = EndpointKind(
    name="cdevents",
    title="CDEvents",
    required=("url",),
    is_signed=True,
    default_types=lambda endpoint: DEPLOYMENT_LIFECYCLE,
    only_types=DEPLOYMENT_LIFECYCLE,
    open_senders=notice_senders(render, classify_receiver_response),
)
