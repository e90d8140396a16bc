"""The live event channel of an instance."""

from deploylog.api.bluelink.instances import (
    STATUSES,
    History,
    Kind,
    deployment_id,
    is_mutating_event,
    operation_of,
    render_durations,
)
from deploylog.api.bluelink.resources import (
    RESOURCE_TYPES,
    Records,
    action_in_progress,
    elapsed_time,
    failure_reasons,
    id_value,
    is_deposed,
    newest_id,
    render_resource_durations,
    resource_name,
    resource_status,
)
from deploylog.api.bluelink.truncation import Json, no_forms, render_fitting_frame, render_json
from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment
from deploylog.deployments.catalog import Status as DeploymentStatus
from deploylog.deployments.lifecycle import (
    DEPLOYMENT_LIFECYCLE,
    DEPLOYMENT_STARTED,
    ends_deployment,
)
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.times import SECOND

CHANNEL = Filter(all_of=(any_of("type", (*DEPLOYMENT_LIFECYCLE, *RESOURCE_TYPES)),))

#: The status with which a deployment starts: PREPARING for the first.
_STARTING: dict[Kind, int] = {"deploy": 0, "update": 13, "destroy": 7}


class Channel:
    """Renders an instance's events as frames, and tracks its deployments as they start."""

    def __init__(self, instance_id: str, history: History, resources: Records) -> None:
        """``history`` is as of the start of the stream, ``resources`` as of its first event.

        Without ``resources``, the delete of a replaced object would look like the delete of the
        resource.
        """
        self._instance_id = instance_id
        self._history = history
        self._operations = dict(history.operations)
        self._kinds: dict[str, Kind] = {r.deployment.id: r.kind for r in history.runs}
        self._started = {r.deployment.id: r.deployment.started for r in history.runs}
        runs = (run.deployment for run in history.runs)
        self._running = [each.id for each in runs if each.status == "running"]
        self._ids = {name: each.id for name, each in resources.items()}
        self._in_progress = {name: each.in_progress for name, each in resources.items()}

    @property
    def awaited(self) -> str | None:
        """The id of the deployment whose end closes the stream: the last one started."""
        return self._running[-1] if self._running else None

    def frame(self, event: Event) -> bytes:
        """The event's frame; empty for an event that the stream leaves out."""
        id = deployment_id(event)
        if event.type == DEPLOYMENT_STARTED:
            self._register(id, event)
        if not is_mutating_event(event, self._operations):
            self.discard(id)
            return b""
        if event.action is not None and not self._update_id(event):
            return b""
        type, data = self._render(event, id)
        return render_fitting_frame(type, event.id, data, no_forms)

    def is_end(self, event: Event) -> bool:
        """Whether the event ends a mutating deployment, and so the stream."""
        return ends_deployment(event.type) and is_mutating_event(event, self._operations)

    def discard(self, id: str) -> None:
        """Stop awaiting a deployment that turned out to change nothing."""
        if id in self._running:
            self._running.remove(id)

    def finish(self, deployment: Deployment) -> bytes:
        """A frame for the end of a deployment that only the catalog knows.

        It has no id, so a client resumes after the last event that it received.
        """
        known = self._kinds.get(deployment.id) or self._history.kind_of(deployment.operation)
        kind: Kind = "destroy" if deployment.operation == "destroy" else known
        ended = deployment.ended or deployment.started
        status = STATUSES[kind][deployment.status]
        data = self._render_finish(status, deployment.started, ended)
        return b"event: finish\ndata: %b\n\n" % render_json(data)

    def _register(self, id: str, event: Event) -> None:
        if id in self._operations:
            return
        operation = self._operations[id] = operation_of(event)
        if operation not in NON_MUTATING_OPERATIONS:
            self._kinds[id] = self._history.kind_of(operation)
            self._started[id] = event.time
            self._running.append(id)

    def _update_id(self, event: Event) -> bool:
        """Whether the event is about the newest object of its name, whose id is then stored."""
        name = resource_name(event)
        known_id = self._ids.get(name)
        if is_deposed(event, known_id):
            return False
        is_deleted = event.type == "resource.delete.completed"
        self._ids[name] = None if is_deleted else newest_id(event, known_id)
        return True

    def _render(self, event: Event, id: str) -> tuple[str, Json]:
        """The type and data of the event's frame."""
        kind = self._kinds.get(id) or self._history.kind_of(None)
        if event.type == DEPLOYMENT_STARTED:
            return "instanceUpdate", self._render_update(event, kind)
        if event.action is not None:
            return "resource", self._render_resource(event)
        return "finish", self._render_finish_event(event, kind, id)

    def _render_update(self, event: Event, kind: Kind) -> Json:
        return {
            "instanceId": self._instance_id,
            "status": _STARTING[kind],
            "updateTimestamp": event.time // SECOND,
        }

    def _render_resource(self, event: Event) -> Json:
        status, precise = resource_status(event)
        name = resource_name(event)
        in_progress = self._in_progress.get(name)
        self._in_progress[name] = action_in_progress(event, in_progress)
        return {
            "instanceId": self._instance_id,
            "resourceId": id_value(event) or name,
            "resourceName": name,
            "group": 0,
            "status": status,
            "preciseStatus": precise,
            **_render_failure(event),
            "attempt": 1,
            "canRetry": False,
            "updateTimestamp": event.time // SECOND,
            **render_resource_durations(elapsed_time(event, in_progress)),
        }

    def _render_finish_event(self, event: Event, kind: Kind, id: str) -> Json:
        if self._operations.get(id) is None and operation_of(event) == "destroy":
            # No earlier event named the operation.
            kind = "destroy"
        ended: DeploymentStatus = "completed" if event.phase == "completed" else "failed"
        data = self._render_finish(STATUSES[kind][ended], self._started.get(id), event.time)
        return {**data, **_render_failure(event)}

    def _render_finish(self, status: int, started: int | None, ended: int) -> Json:
        return {
            "instanceId": self._instance_id,
            "status": status,
            "finishTimestamp": ended // SECOND,
            "updateTimestamp": ended // SECOND,
            **render_durations(max(ended - started, 0) if started is not None else None),
            "endOfStream": True,
        }


def _render_failure(event: Event) -> Json:
    reasons = failure_reasons(event)
    return {"failureReasons": list(reasons)} if reasons else {}
