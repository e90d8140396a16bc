"""A deployment as a trace: OTLP in JSON, with OpenTelemetry's conventions for CI/CD."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from deploylog.client.models import DeploymentState

_EPOCH = datetime.fromtimestamp(0, UTC)

#: Version, trace, parent, flags: https://www.w3.org/TR/trace-context/
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

#: What OTLP calls the kinds and the codes.
_SERVER, _INTERNAL = 2, 1
_OK, _ERROR = 1, 2

_RESULTS = {"completed": "success", "failed": "failure", "skipped": "skip"}


class TracedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of an event that a trace shows."""

    type: str
    time: datetime
    message: str | None = None
    resourceaddress: str | None = None
    resourcetype: str | None = None
    traceparent: str | None = None

    @property
    def is_of_resource(self) -> bool:
        return self.type.startswith("resource.") and self.resourceaddress is not None

    @property
    def action(self) -> str:
        return self.type.split(".")[1]

    @property
    def phase(self) -> str:
        return self.type.rpartition(".")[2]


class Ids(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a trace, the same whenever a deployment is exported."""

    trace: str
    root: str
    #: The span of the producer, if its events name one.
    parent: str | None

    def child(self, name: str) -> str:
        """Return the id of a span below the root."""
        return _digest(f"{self.root}/{name}", 16)


def ids_of(deployment: DeploymentState, events: Iterable[TracedEvent]) -> Ids:
    """Return the ids: those of the first event that names a trace, else those of the deployment."""
    found = (_TRACEPARENT.fullmatch(event.traceparent or "") for event in events)
    producer = next((match for match in found if match), None)
    return Ids(
        trace=producer[1] if producer else _digest(deployment.id, 32),
        root=_digest(f"{deployment.id}/root", 16),
        parent=producer[2] if producer else None,
    )


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def render_trace(
    deployment: DeploymentState, events: Sequence[TracedEvent], *, version: str
) -> bytes:
    """Return the body of an export: a span for the deployment, and one for each change."""
    ids = ids_of(deployment, events)
    spans = [_root(deployment, events, ids), *_children(deployment, events, ids)]
    scope = {"name": "deploylog", "version": version}
    resource = {"attributes": _attributes({"service.name": "deploylog"})}
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}
            ]
        }
    )


def _root(deployment: DeploymentState, events: Iterable[TracedEvent], ids: Ids) -> dict[str, Any]:
    name = deployment.tool or "deploy"
    pipeline = f"{deployment.project}/{deployment.stack}"
    status = deployment.status
    span = _span(ids, ids.root, f"{name} {pipeline}", _SERVER, deployment.started, deployment.ended)
    if ids.parent is not None:
        span["parentSpanId"] = ids.parent
    span["attributes"] = _attributes(
        {
            "cicd.pipeline.name": pipeline,
            "cicd.pipeline.run.id": deployment.id,
            "cicd.pipeline.run.url.full": deployment.url,
            "cicd.pipeline.result": _RESULTS.get(status),
            "deployment.id": deployment.id,
            "deployment.name": deployment.stack,
            "deployment.status": {"completed": "succeeded", "failed": "failed"}.get(status),
            "deployment.environment.name": deployment.environment,
            "vcs.ref.head.revision": next((each.sha for each in deployment.commits), None),
            "user.name": deployment.actor,
        }
    )
    span["status"] = _status(status, deployment.message)
    span["events"] = [_error(event) for event in events if event.type == "deployment.error"]
    return span


def _error(event: TracedEvent) -> dict[str, Any]:
    return {
        "name": "exception",
        "timeUnixNano": _nanoseconds(event.time),
        "attributes": _attributes({"exception.message": event.message}),
    }


def _children(
    deployment: DeploymentState, events: Iterable[TracedEvent], ids: Ids
) -> list[dict[str, Any]]:
    """Return a span for each change of a resource; without an end it ends with the run."""
    started: dict[tuple[str, str | None], TracedEvent] = {}
    spans = []
    for event in events:
        change = (event.action, event.resourceaddress) if event.is_of_resource else None
        if change is None:
            continue
        if event.phase == "started":
            started[change] = event
        elif event.phase in _RESULTS:
            spans.append(_child(ids, started.pop(change, event), event, event.time))
    return [*spans, *(_child(ids, each, None, deployment.ended) for each in started.values())]


def _child(
    ids: Ids, first: TracedEvent, last: TracedEvent | None, end: datetime | None
) -> dict[str, Any]:
    name = f"{first.action} {first.resourceaddress}"
    phase = last.phase if last is not None else ""
    id = ids.child(f"{name}/{_nanoseconds(first.time)}")
    span = _span(ids, id, name, _INTERNAL, first.time, end)
    span["parentSpanId"] = ids.root
    span["attributes"] = _attributes(
        {
            "cicd.pipeline.task.name": name,
            "cicd.pipeline.task.run.id": id,
            "cicd.pipeline.task.run.result": _RESULTS.get(phase),
            "deploylog.resource.type": first.resourcetype,
        }
    )
    span["status"] = _status(phase, last.message if last is not None else None)
    return span


def _span(
    ids: Ids, id: str, name: str, kind: int, start: datetime, end: datetime | None
) -> dict[str, Any]:
    return {
        "traceId": ids.trace,
        "spanId": id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(start),
        "endTimeUnixNano": _nanoseconds(end or start),
    }


def _status(phase: str, message: str | None) -> dict[str, Any]:
    if phase == "failed":
        return {"code": _ERROR, "message": message or ""}
    return {"code": _OK} if phase == "completed" else {}


def _attributes(values: Mapping[str, str | None]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"stringValue": value}}
        for key, value in values.items()
        if value is not None
    ]


def _nanoseconds(time: datetime) -> str:
    # 64-bit integers are strings in the JSON of Protocol Buffers.
    return str((time - _EPOCH) // timedelta(microseconds=1) * 1000)
