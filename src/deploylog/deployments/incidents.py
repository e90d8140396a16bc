"""Incidents: what was broken when, in a stack and an environment."""

from collections.abc import Iterable

from deploylog.events.event import NewEvent
from deploylog.events.scope import Scope, scope, state_scope

#: Types of events, by what they say about an incident.
INCIDENT_TYPES = {
    "detected": "incident.detected",
    "reported": "incident.reported",
    "resolved": "incident.resolved",
}


def incident_scopes(project: str, environment: str, stack: str, incident: str) -> tuple[Scope, ...]:
    """The scopes of an event about an incident: its own, and that of the state that is broken."""
    return (incident_scope(project, incident), state_scope(project, environment, stack))


def incident_scope(project: str, incident: str) -> Scope:
    """The scope of an incident."""
    return scope("project", project, "incident", incident)


#: The types of events with which an incident begins.
INCIDENT_STARTS = (INCIDENT_TYPES["detected"], INCIDENT_TYPES["reported"])


def open_incident(events: Iterable[NewEvent], time: int) -> str | None:
    """The incident that began first of those open at ``time`` (ns); ``events`` in any order."""
    before = sorted((each for each in events if each.time <= time), key=lambda each: each.time)
    is_open: dict[str, None] = {}
    for event in before:
        if event.subject is not None and event.type == INCIDENT_TYPES["resolved"]:
            is_open.pop(event.subject, None)
        elif event.subject is not None:
            is_open.setdefault(event.subject)
    return next(iter(is_open), None)
