"""One event in plain JSON, without the attributes that CloudEvents require; pure."""

from urllib.parse import quote

import msgspec

from deploylog.deployments.details import decode_named
from deploylog.errors import InvalidEvent, TooLarge
from deploylog.events.access import ANONYMOUS, Principal
from deploylog.events.cloudevents import MAX_EVENT_BYTES, Defaults, checked_json
from deploylog.events.event import NewEvent
from deploylog.events.scope import ROOT, Scope
from deploylog.events.times import Time, parse_time


class PlainEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event, in the place that its names say."""

    #: Such as ``build.completed``.
    type: str
    message: str | None = None
    project: str | None = None
    #: Name of a stack of the project.
    stack: str | None = None
    environment: str | None = None
    #: Id of a deployment, in place of the names; or with project and stack, the producer's own name
    #: of a deployment, which the first event opens.
    deployment: str | None = None
    #: Who says so; by default the name of the key.
    source: str | None = None
    #: Makes a retry idempotent: an id of the same source is recorded once.
    id: str | None = None
    #: By default when the request arrived.
    time: Time | None = None
    #: By default that of the deployment, or else the name of the key.
    actor: str | None = None
    subject: str | None = None
    #: Who may see it; by default those of the deployment, or else all who may read its place.
    groups: tuple[str, ...] = ()
    #: Any JSON.
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def names_place(self) -> bool:
        return not (self.project is self.stack is self.environment is None)

    @property
    def names_deployment(self) -> bool:
        """Whether it names its deployment by a key of the producer's own."""
        return None not in (self.project, self.stack, self.deployment)


def parse_plain_event(body: bytes) -> PlainEvent:
    """Parse one event; raises InvalidInput, which names the field, or TooLarge."""
    if len(body) > MAX_EVENT_BYTES:
        raise TooLarge(f"an event is longer than {MAX_EVENT_BYTES} bytes")
    event = decode_named(body, PlainEvent)
    if event.names_deployment:
        return event
    if event.deployment is not None and event.names_place:
        raise InvalidEvent("name a deployment, or its project and stack", field="deployment")
    if event.project is None and event.names_place:
        raise InvalidEvent("project is missing: whose stack or environment is it?", field="project")
    return event


def to_event(
    event: PlainEvent, principal: Principal, scopes: tuple[Scope, ...], defaults: Defaults
) -> NewEvent:
    """The event in ``scopes``; raises InvalidInput."""
    if not scopes:
        raise InvalidEvent("say where it happened: project, or deployment", field="project")
    groups = tuple(sorted(set(event.groups))) or defaults.groups
    return NewEvent(
        type=event.type,
        source=event.source or defaults.source or f"/{quote(principal.name, safe='')}",
        scopes=scopes,
        time=parse_time(event.time) if event.time is not None else defaults.time,
        producer_id=event.id,
        subject=event.subject,
        groups=groups,
        actor=event.actor or defaults.actor_of(groups) or _name_of(principal),
        message=event.message,
        data=checked_json(event.data) if event.data is not msgspec.UNSET else None,
    )


def to_named_event(event: PlainEvent, principal: Principal, defaults: Defaults) -> NewEvent:
    """The event without scopes: its attributes name its deployment."""
    names = {
        "project": event.project,
        "stack": event.stack,
        "environment": event.environment,
        "deployment": event.deployment,
    }
    given = {name: value for name, value in names.items() if value is not None}
    return msgspec.structs.replace(
        to_event(event, principal, (ROOT,), defaults),
        scopes=(),
        extensions=msgspec.Raw(msgspec.json.encode(given)),
    )


def _name_of(principal: Principal) -> str | None:
    return principal.name if principal != ANONYMOUS else None
