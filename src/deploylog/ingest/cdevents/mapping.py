"""CDEvents about services, runs and incidents, to deployments.

Source: the CDEvents specification 0.5, "Core", "Continuous Deployment", "Continuous Operations",
and "CloudEvents Binding for CDEvents".
"""

import re
from typing import Any
from urllib.parse import unquote

import msgspec

from deploylog.deployments.cdevents import (
    OPERATION_BY_PREDICATE,
    OUTCOME_BY_STATUS,
    TYPE_BY_PREDICATE,
)
from deploylog.deployments.incidents import INCIDENT_TYPES, incident_scopes
from deploylog.deployments.report import Report
from deploylog.events.event import NewEvent
from deploylog.ingest.delivery import Delivery, Ignored, Said, decode, report, time_of, unknown_body

SOURCE = "cdevents"

#: ``dev.cdevents.service.deployed.0.3.0``
_TYPE = re.compile(r"dev\.cdevents\.([a-z]+)\.([a-z]+)\.[0-9]+\.[0-9]+\.[0-9]+(?:-[a-z0-9.]+)?")

#: The version in a package URL.
_VERSION = re.compile(r"@([^?#]+)")

#: The subjects that are recorded, with their predicates.
PREDICATES = {
    "service": tuple(OPERATION_BY_PREDICATE),
    "pipelinerun": tuple(TYPE_BY_PREDICATE),
    "incident": tuple(INCIDENT_TYPES),
}

_KNOWN = [f"dev.cdevents.{s}.{p}" for s, predicates in PREDICATES.items() for p in predicates]


class Context(msgspec.Struct):
    """What every CDEvent says of itself."""

    id: str
    source: str
    type: str
    timestamp: str


class Reference(msgspec.Struct):
    """A subject that another one names."""

    id: str


class Content(msgspec.Struct, rename="camel"):
    """What a CDEvent says of its subject."""

    environment: Reference | None = None
    service: Reference | None = None
    artifact_id: str | None = None
    pipeline_name: str | None = None
    uri: str | None = None
    #: Until version 0.4, ``uri``.
    url: str | None = None
    outcome: str | None = None
    errors: str | None = None
    description: str | None = None
    ticket_uri: str | None = msgspec.field(name="ticketURI", default=None)

    @property
    def place(self) -> str | None:
        """The environment's id."""
        return self.environment.id if self.environment else None


class Subject(msgspec.Struct):
    """What a CDEvent is about."""

    id: str
    content: Content
    source: str | None = None


class CdEvent(msgspec.Struct):
    """A CDEvent."""

    context: Context
    subject: Subject


class _CloudEvent(msgspec.Struct):
    """A CloudEvent in structured mode, which holds a CDEvent."""

    data: CdEvent


def read(delivery: Delivery) -> Said:
    """What the delivery says; raises InvalidInput or UnsupportedMedia."""
    event = _cdevent(delivery)
    match = _TYPE.fullmatch(event.context.type)
    if match is None:
        raise unknown_body(f"{event.context.type[:128]!r} is no CDEvent", _KNOWN)
    subject, predicate = match.groups()
    if predicate not in PREDICATES.get(subject, ()):
        return Ignored(f"{event.context.type!r} says nothing about a deployment")
    if subject == "service":
        return [_service(delivery, event, predicate)]
    if subject == "pipelinerun":
        return [_run(delivery, event, predicate)]
    return _incident(delivery, event, predicate)


def _cdevent(delivery: Delivery) -> CdEvent:
    """The CDEvent: in binary mode the body, in structured mode the data of the CloudEvent."""
    if "ce-specversion" in delivery.headers:
        return decode(delivery, CdEvent)
    return decode(delivery, _CloudEvent).data


def _service(delivery: Delivery, event: CdEvent, predicate: str) -> Report:
    """A service that was changed: a deployment that is over."""
    context, subject = event.context, event.subject
    content = subject.content
    return report(
        delivery,
        source=SOURCE,
        id=context.id,
        key=f"{context.source}/{context.id}",
        stack=_name(subject.id),
        environment=content.place,
        type="deployment.completed",
        time=time_of("data.context.timestamp", context.timestamp),
        tool=SOURCE,
        operation=OPERATION_BY_PREDICATE[predicate],
        message=f"Service {subject.id} {predicate}",
        details=_artifact(content),
        data={"cdevent": context.type, "source": context.source},
    )


def _run(delivery: Delivery, event: CdEvent, predicate: str) -> Report:
    context, subject = event.context, event.subject
    content = subject.content
    type = TYPE_BY_PREDICATE[predicate]
    if predicate == "finished" and content.outcome != OUTCOME_BY_STATUS["completed"]:
        type = "deployment.failed"
    return report(
        delivery,
        source=SOURCE,
        id=context.id,
        key=f"{subject.source or context.source}/{subject.id}",
        stack=_name(content.pipeline_name or subject.id),
        environment=content.place,
        type=type,
        time=time_of("data.context.timestamp", context.timestamp),
        tool=SOURCE,
        message=content.errors or f"Run {subject.id} {content.outcome or predicate}",
        details={"url": content.uri or content.url, **_artifact(content)},
        data={"cdevent": context.type, "source": context.source, "outcome": content.outcome},
    )


def _incident(delivery: Delivery, event: CdEvent, predicate: str) -> Said:
    """An incident: an event of the state that it is about."""
    context, subject, place = event.context, event.subject, delivery.place
    service = subject.content.service
    environment = place.environment or subject.content.place
    stack = place.stack or (_name(service.id) if service else None)
    if environment is None or stack is None:
        return Ignored("the incident names no service and environment, so it is nobody's")
    return [
        NewEvent(
            type=INCIDENT_TYPES[predicate],
            source=SOURCE,
            scopes=incident_scopes(place.project, environment, stack, subject.id),
            time=time_of("data.context.timestamp", context.timestamp),
            producer_id=f"{context.source}/{context.id}",
            subject=subject.id,
            groups=place.groups,
            message=subject.content.description,
            data=_raw(subject.content.ticket_uri, context),
        )
    ]


def _raw(ticket: str | None, context: Context) -> msgspec.Raw:
    said = {"cdevent": context.type, "source": context.source, "ticket": ticket}
    return msgspec.Raw(msgspec.json.encode({k: v for k, v in said.items() if v is not None}))


def _name(id: str) -> str:
    """The name of a stack: ids may be paths."""
    return id.strip("/ ").rpartition("/")[2]


def _artifact(content: Content) -> dict[str, Any]:
    """The artifact, and the version that it has unless that is a digest."""
    purl = content.artifact_id
    if not purl:
        return {}
    found = _VERSION.search(purl)
    version = unquote(found[1]) if found else None
    is_digest = version is not None and version.startswith(("sha256:", "sha512:"))
    artifact = {"purl": purl, "digest": version if is_digest else None}
    return {"artifacts": [artifact], "version": None if is_digest else version}
