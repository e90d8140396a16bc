"""What messages say of events and deployments, in plain text, with names instead of ids."""

from collections.abc import Iterator
from uuid import UUID

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.events.event import Event
from deploylog.events.scope import Scope, segments
from deploylog.events.times import SECOND
from deploylog.subscriptions.delivery.kinds.kind import Notice

#: Digits of a commit that are shown.
COMMIT_DIGITS = 12


def headline(notice: Notice) -> str:
    """What happened, on one line."""
    deployment = notice.lifecycle
    if deployment is not None:
        return f"Deployment of {deployment_name(deployment)} {state(deployment)}"
    event = notice.event
    message = (event.message or "").strip().partition("\n")[0]
    return message or f"{event.type} {subject(event)}"


def deployment_name(deployment: Deployment) -> str:
    """``web 1.4.2 to prod``."""
    target = f"to {deployment.environment}" if deployment.environment else None
    return " ".join(filter(None, (deployment.stack, deployment.details.version, target)))


def state(deployment: Deployment) -> str:
    """``started``, ``completed after 42 s`` or ``failed after 42 s``."""
    if deployment.ended is None:
        return "started"
    return f"{deployment.status} after {duration(deployment.ended - deployment.started)}"


def counts(numbers: Counts) -> str:
    """How many resources were touched."""
    return (
        f"{numbers.added} added, {numbers.changed} changed, "
        f"{numbers.destroyed} destroyed, {numbers.failed} failed"
    )


def facts(notice: Notice) -> list[tuple[str, str]]:
    """What is known of the deployment, or of the event without one, by name."""
    deployment = notice.deployment
    found = _event_facts(notice.event) if deployment is None else _deployment_facts(deployment)
    return [(name, text) for name, text in found if text]


def _event_facts(event: Event) -> Iterator[tuple[str, str | None]]:
    yield "Event", event.type
    yield "Subject", subject(event)
    yield "Actor", event.actor
    yield "Scope", place(event.scopes[0])


def _deployment_facts(deployment: Deployment) -> Iterator[tuple[str, str | None]]:
    details = deployment.details
    yield "Project", deployment.project
    yield "Stack", deployment.stack
    yield "Environment", deployment.environment
    yield "Version", details.version
    yield "Commit", details.commits[0].sha[:COMMIT_DIGITS] if details.commits else None
    yield "Status", deployment.status
    if deployment.ended is not None:
        yield "Duration", duration(deployment.ended - deployment.started)
        yield "Changes", counts(deployment.counts)
    yield "Operation", " with ".join(filter(None, (deployment.operation, deployment.tool)))
    yield "Actor", deployment.actor
    yield "Approved by", ", ".join(details.approvers)


def links(notice: Notice) -> list[tuple[str, str]]:
    """The titles and the URLs of pages about the deployment."""
    if notice.deployment is None:
        return []
    details = notice.deployment.details
    found = (
        ("Deployment", notice.url),
        ("Run", details.url),
        ("Change request", details.change_request),
    )
    return [(title, url) for title, url in found if url]


def subject(event: Event) -> str:
    """The resource or the subject, or else the scope."""
    if event.resource is not None:
        return event.resource.address or f"{event.resource.type}.{event.resource.name}"
    return event.subject or place(event.scopes[0])


def place(scope: Scope) -> str:
    """A scope without the pairs of segments that name something by its UUID."""
    names = segments(scope)
    pairs = [names[start : start + 2] for start in range(0, len(names), 2)]
    return "/".join(name for pair in pairs if not _is_uuid(pair[-1]) for name in pair) or scope


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def duration(ns: int) -> str:
    """``850 ms``, ``42 s``, ``3 min 5 s`` or ``2 h 7 min``."""
    if ns < SECOND:
        return f"{max(ns, 0) // 1_000_000} ms"
    minutes, seconds = divmod(ns // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
