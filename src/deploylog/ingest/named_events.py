"""CloudEvents that name their deployment: project, stack, environment and a key, but no scope."""

from typing import Any

import msgspec

from deploylog.deployments.details import NO_DETAILS, parse_details
from deploylog.deployments.lifecycle import CARRIES_DETAILS, DEPLOYMENT_STARTED
from deploylog.deployments.report import Report
from deploylog.errors import InvalidEvent, InvalidInput
from deploylog.events.event import NewEvent, check_nesting


class _Names(msgspec.Struct):
    """The extension attributes that name a deployment; each is a string if it is there."""

    project: str | None = None
    stack: str | None = None
    environment: str | None = None
    deployment: str | None = None


class _Said(msgspec.Struct):
    """What the data of a deployment's event may say."""

    tool: str | None = None
    operation: str | None = None


def named(event: NewEvent) -> NewEvent | Report:
    """The report that an event without scopes is, if it names its deployment; else the event.

    Raises InvalidEvent, which names the attribute or the field.
    """
    if event.scopes or event.extensions is None:
        return event
    names = _decode(event.extensions, _Names, "")
    if names.project is None or (names.stack is None and names.deployment is None):
        return event
    if names.stack is None or names.deployment is None or event.producer_id is None:
        missing = [name for name in ("stack", "deployment") if getattr(names, name) is None]
        field = missing[0] if missing else "id"
        raise InvalidEvent(f"an event that names its deployment needs {field}", field=field)
    return _report(event, names.project, names.stack, names.environment, names.deployment)


def _report(
    event: NewEvent, project: str, stack: str, environment: str | None, deployment: str
) -> Report:
    carries_details = event.type in CARRIES_DETAILS
    raw = bytes(event.data) if event.data is not None else b"{}"
    is_object = raw.lstrip().startswith(b"{")
    if event.type == DEPLOYMENT_STARTED and not is_object:
        raise InvalidEvent("data of deployment.started must be an object", field="data")
    said = _decode(raw, _Said, "data") if is_object else _Said()
    try:
        details = parse_details(raw) if carries_details else NO_DETAILS
    except InvalidInput as error:
        field = f"data.{error.field}" if error.field else "data"
        raise InvalidEvent(f"data: {error.message}", field=field) from error
    return Report(
        project=project,
        stack=stack,
        environment=environment,
        # The same build may go to several places.
        key="/".join((stack, environment or "", deployment)),
        event=event,
        tool=said.tool,
        operation=said.operation,
        details=details,
        data=_object(raw) if carries_details and is_object else None,
    )


def _object(raw: bytes) -> dict[str, Any]:
    check_nesting(raw, "data")
    found: dict[str, Any] = msgspec.json.decode(raw)
    return found


def _decode(raw: bytes | msgspec.Raw, kind: type[Any], place: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidEvent(f"{place or 'attributes'}: {error}", field=place or None) from error
