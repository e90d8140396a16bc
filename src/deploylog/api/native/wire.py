"""The native API's JSON and query strings; pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Literal
from urllib.parse import parse_qsl, urlencode

import msgspec

from deploylog.api.native.paths import EVENTS
from deploylog.deployments.catalog import Counts, Deployment, Stack, check_name
from deploylog.deployments.changeset import ChangeCounts, Changeset
from deploylog.errors import InvalidEvent, InvalidFilter, InvalidInput, TooLarge, UnsupportedMedia
from deploylog.events.access import Principal
from deploylog.events.cloudevents import (
    CloudEvent,
    Defaults,
    parse_batch,
    parse_binary,
    parse_event,
    parse_lines,
    render_event,
)
from deploylog.events.event import Event, NewEvent
from deploylog.events.filters import Field, Filter, any_of
from deploylog.events.hub import Gap
from deploylog.events.scope import Scope, parse_scope, scope
from deploylog.events.store import IdempotencyKey, Page
from deploylog.events.times import LATEST, parse_time_or_ago, render_time

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
LINES = ("application/x-ndjson", "application/ndjson")

REQUEST_ORIGIN = "WebHook-Request-Origin"
REQUEST_RATE = "WebHook-Request-Rate"

_ORIGIN = re.compile(r"[A-Za-z0-9*._:-]{1,255}")
_RATE = re.compile(r"0*[1-9][0-9]{0,17}")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_WAIT_SECONDS = 300
MAX_FILTER_VALUES = 100

#: Query parameter → field of the filter.
FILTERS: dict[str, Field] = {
    "type": "type",
    "source": "source",
    "actor": "actor",
    "subject": "subject",
    "resourcetype": "resource_type",
    "resourcename": "resource_name",
    "resourcekey": "resource_key",
}


class Receipt(msgspec.Struct, frozen=True):
    """Where an event was recorded."""

    id: str
    position: str


class Receipts(msgspec.Struct, frozen=True):
    """Where the events were recorded, in the order they were sent."""

    events: list[Receipt]


class DamagedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the page lacks, since the store does not hold what was recorded."""

    id: str
    position: str
    reason: Literal["checksum", "unreadable"]


class EventPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of events."""

    events: list[CloudEvent]
    #: Where the next page goes on, when there may be one.
    next: str | None = None
    previous: str | None = None
    #: Events that would be here, were they not damaged.
    damaged: list[DamagedEvent] = []


class DeploymentBody(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment."""

    id: str
    project: str
    stack: str
    stack_id: str
    status: str
    started: str
    ended: str | None
    tool: str | None
    operation: str | None
    environment: str | None
    actor: str | None
    message: str | None
    counts: Counts
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class DeploymentPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of deployments."""

    deployments: list[DeploymentBody]
    next: str | None = None


class ChangesetBody(msgspec.Struct, frozen=True, kw_only=True):
    """A change set, without its changes."""

    id: str
    project: str
    stack: str | None
    stack_id: str | None
    status: str
    destroy: bool
    location: str
    tool: str
    tool_version: str | None
    actor: str | None
    created: str
    ended: str | None
    message: str | None
    totals: ChangeCounts
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class ChangesetPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of change sets."""

    changesets: list[ChangesetBody]
    next: str | None = None


class StackBody(msgspec.Struct, frozen=True, kw_only=True):
    """A stack."""

    id: str
    project: str
    name: str
    created: str
    deleted: str | None
    scopes: tuple[str, ...]
    groups: tuple[str, ...]


class StackList(msgspec.Struct, frozen=True):
    """Stacks."""

    stacks: list[StackBody]


class ProjectList(msgspec.Struct, frozen=True):
    """Names of projects."""

    projects: list[str]


class Parameters:
    """A query string, each parameter taken by name; what is left over is refused."""

    def __init__(self, query: str) -> None:
        """Parse ``query``; raises InvalidInput."""
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> tuple[str, ...]:
        """Every value given, without the empty ones."""
        return tuple(value for value in self._values.pop(name, ()) if value)

    def one(self, name: str) -> str | None:
        """The one value given."""
        values = self.all(name)
        if len(values) > 1:
            raise InvalidInput(f"{name} is given twice", field=name)
        return values[0] if values else None

    def required(self, name: str) -> str:
        """The one value that must be given."""
        value = self.one(name)
        if value is None:
            raise InvalidInput(f"{name} is missing", field=name)
        return value

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """A whole number in a range."""
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise InvalidInput(f"{name} is a whole number from {low} to {high}", field=name)
        return int(text)

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of ``choices``, the first when it is not given."""
        text = self.one(name) or choices[0]
        if text not in choices:
            raise InvalidInput(f"{name} is one of {', '.join(choices)}", field=name)
        return text

    def done(self) -> None:
        """Raise InvalidInput if a parameter is left that nobody asked for."""
        for name in self._values:
            raise InvalidInput(f"there is no parameter {name[:64]!r}", field=name[:64])


class AppendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a request to append says of all its events."""

    scopes: tuple[Scope, ...]
    source: str | None
    deployment: str | None


def parse_append_query(query: str) -> AppendQuery:
    """Read the query of a request to append: a producer sends the same one time and again."""
    return _known_query(query) if len(query) <= _LONGEST_KNOWN else _append_query(query)


def _append_query(query: str) -> AppendQuery:
    parameters = Parameters(query)
    asked = AppendQuery(
        scopes=tuple(parse_scope(path) for path in parameters.all("scope")),
        source=parameters.one("source"),
        deployment=parameters.one("deployment"),
    )
    parameters.done()
    return asked


#: Characters of a query that is worth remembering.
_LONGEST_KNOWN = 1024

_known_query = lru_cache(maxsize=1024)(_append_query)


class StackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stack that somebody tells of belongs."""

    project: str | None
    scopes: tuple[Scope, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def required_project(self) -> str:
        """The project; raises InvalidInput when none is named."""
        if self.project is None:
            raise InvalidInput("project is missing", field="project")
        return self.project


def parse_stack_query(query: str) -> StackQuery:
    """Read the query of a request that tells of a stack."""
    parameters = Parameters(query)
    project = parameters.one("project")
    if project is not None:
        check_name("project", project)
    named = [(word, parameters.one(word)) for word in ("cluster", "image")]
    groups = tuple(sorted(set(parameters.all("group"))))
    parameters.done()
    scopes = tuple(scope(word, name) for word, name in named if name is not None)
    return StackQuery(project=project, scopes=scopes, groups=groups)


def parse_filter(parameters: Parameters, *, now: int) -> Filter:
    """The filter that the parameters make; values of one are ORed, different ones ANDed."""
    since, until = parameters.one("since"), parameters.one("until")
    return Filter(
        scopes=tuple(
            parse_scope(path) for path in check_filter_values("scope", parameters.all("scope"))
        ),
        all_of=tuple(
            any_of(field, values)
            for name, field in FILTERS.items()
            if (values := check_filter_values(name, parameters.all(name)))
        ),
        since=_moment("since", since, now) if since else None,
        until=_moment("until", until, now) if until else None,
    )


def events_path(filter: Filter, event: Event) -> str:
    """The path at which one reads what the filter finds before ``event``, oldest first.

    The filter has no times. Who knows the last event that came adds ``after``.
    """
    return f"{_filter_path(filter)}&before={event.id}"


@lru_cache(maxsize=64)
def _filter_path(filter: Filter) -> str:
    names = {field: name for name, field in FILTERS.items()}
    pairs = [("order", "oldest"), *(("scope", str(path)) for path in filter.scopes)]
    for condition in filter.all_of:
        patterns = (*condition.values, *(f"{prefix}*" for prefix in condition.prefixes))
        pairs += [(names[condition.field], pattern) for pattern in patterns]
    return f"{EVENTS}?{urlencode(pairs, safe='/*')}"


def check_filter_values(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a field; raises InvalidFilter for what no filter can ask."""
    if len(values) > MAX_FILTER_VALUES:
        raise InvalidFilter(f"{name} has more than {MAX_FILTER_VALUES} values", field=name)
    if name == "type" and any("*" in value.removesuffix(".*") for value in values):
        raise InvalidFilter("type: a * stands only at the end, as in resource.*", field=name)
    return values


def _moment(name: str, text: str, now: int) -> int:
    try:
        # No event is older or younger than what a filter can say.
        return min(max(parse_time_or_ago(text, now=now), 0), LATEST)
    except InvalidInput as error:
        raise InvalidFilter(f"{name}: {error.message}", field=name) from error


def parse_events(
    headers: Mapping[str, str], body: bytes, defaults: Defaults, *, limit: int
) -> list[NewEvent]:
    """The events of a request, by its content type; at most ``limit``."""
    media = _media(headers)
    if media == ONE:
        events = [parse_event(body, defaults)]
    elif media == BATCH:
        events = parse_batch(body, defaults, limit=limit)
    elif media in LINES:
        if body.count(b"\n") > 2 * limit:
            raise TooLarge(f"a request has at most {limit} events")
        events = parse_lines(body, defaults, limit=limit)
    elif "ce-specversion" in headers:
        events = [parse_binary(headers, body, defaults)]
    else:
        raise UnsupportedMedia(f"send {ONE}, {BATCH}, {LINES[0]}, or ce- headers")
    if not events and media != BATCH:
        raise InvalidInput("there is no event in the body")
    if len(events) > limit:
        raise TooLarge(f"a request has at most {limit} events")
    return events


class Handshake(msgspec.Struct, frozen=True):
    """A sender that asks whether it may deliver (CloudEvents' web hooks, section 4)."""

    origin: str


def parse_handshake(headers: Mapping[str, str]) -> Handshake | None:
    """What a request with OPTIONS asks, if it is a handshake; raises InvalidInput.

    A callback is ignored: the answer grants, or refuses, at once.
    """
    origin = headers.get(REQUEST_ORIGIN)
    if origin is None:
        return None
    if not _ORIGIN.fullmatch(origin):
        raise InvalidInput(f"{REQUEST_ORIGIN} is not a DNS name", field=REQUEST_ORIGIN)
    rate = headers.get(REQUEST_RATE)
    if rate is not None and not _RATE.fullmatch(rate):
        raise InvalidInput(f"{REQUEST_RATE} is not a number above zero", field=REQUEST_RATE)
    return Handshake(origin)


def render_handshake(asked: Handshake, *, max_requests_per_second: float) -> dict[str, str]:
    """The headers that agree: deliveries may come as often as requests may."""
    limit = max(int(max_requests_per_second * 60), 1)
    return {
        "allow": "GET, HEAD, OPTIONS, POST",
        "webhook-allowed-origin": asked.origin,
        "webhook-allowed-rate": str(limit) if max_requests_per_second else "*",
    }


def locate(error: InvalidEvent, headers: Mapping[str, str], body: bytes) -> InvalidEvent:
    """``error``, whose line is the event's place among all, with the line of the body instead."""
    media = _media(headers)
    if error.line is None or media not in (*LINES, BATCH):
        return InvalidEvent(error.message, field=error.field)
    line = error.line
    if media in LINES:
        filled = (number for number, text in enumerate(body.split(b"\n"), 1) if text.strip())
        line = next(islice(filled, error.line - 1, None))
    return InvalidEvent(f"line {line}: {error.message}", field=error.field, line=line)


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def parse_request_key(
    headers: Mapping[str, str], principal: Principal, query: str, body: bytes
) -> IdempotencyKey | None:
    """The ``Idempotency-Key``, which is the principal's own."""
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise InvalidInput("Idempotency-Key has 1 to 255 characters", field="Idempotency-Key")
    attributes = sorted(pair for pair in headers.items() if pair[0].startswith("ce-"))
    asked = msgspec.json.encode([query, _media(headers), attributes])
    # Joined with a separator, the keys of two principals could be the same.
    owned = msgspec.json.encode([principal.kind, principal.id, key]).decode()
    return IdempotencyKey(key=owned, fingerprint=hashlib.sha256(asked + body).digest())


def render_receipts(events: Sequence[Event]) -> bytes:
    """What an append answers."""
    receipts = [Receipt(event.id, str(event.position)) for event in events]
    return msgspec.json.encode(Receipts(receipts))


def render_page(page: Page) -> bytes:
    """A page."""
    body: dict[str, object] = {"events": [render_event(event) for event in page]}
    ids = {each.position: each.id for each in (*page, *page.damaged)}
    if page:
        body["previous"] = page[0].id
    if page.next is not None:
        body["next"] = ids[page.next]
    if page.damaged:
        body["damaged"] = [
            DamagedEvent(id=each.id, position=str(each.position), reason=each.reason)
            for each in page.damaged
        ]
    return msgspec.json.encode(body)


def render_one(event: Event) -> bytes:
    """One event."""
    return msgspec.json.encode(render_event(event))


def render_frame(event: Event) -> bytes:
    """One event on a stream."""
    head = f"id: {event.id}\nevent: {event.type}\ndata: ".encode()
    return head + msgspec.json.encode(render_event(event)) + b"\n\n"


def render_gap(gap: Gap) -> bytes:
    """Word of events that are gone."""
    body = {"after": str(gap.after), "oldest": str(gap.floor + 1), "reason": gap.reason}
    return b"event: gap\ndata: " + msgspec.json.encode(body) + b"\n\n"


def render_deployment(deployment: Deployment) -> DeploymentBody:
    """A deployment's JSON."""
    return DeploymentBody(
        id=deployment.id,
        project=deployment.project,
        stack=deployment.stack,
        stack_id=deployment.stack_id,
        status=deployment.status,
        started=render_time(deployment.started),
        ended=render_time(deployment.ended) if deployment.ended is not None else None,
        tool=deployment.tool,
        operation=deployment.operation,
        environment=deployment.environment,
        actor=deployment.actor,
        message=deployment.message,
        counts=deployment.counts,
        scopes=deployment.scopes,
        groups=deployment.groups,
    )


def render_deployments(deployments: Sequence[Deployment], *, limit: int) -> DeploymentPage:
    """A page of deployments."""
    return DeploymentPage(
        deployments=[render_deployment(deployment) for deployment in deployments],
        next=deployments[-1].id if len(deployments) == limit else None,
    )


def render_changeset(changeset: Changeset) -> ChangesetBody:
    """A change set's JSON."""
    return ChangesetBody(
        id=changeset.id,
        project=changeset.project,
        stack=changeset.stack,
        stack_id=changeset.stack_id,
        status=changeset.status,
        destroy=changeset.destroy,
        location=changeset.location,
        tool=changeset.tool,
        tool_version=changeset.tool_version,
        actor=changeset.actor,
        created=render_time(changeset.created),
        ended=render_time(changeset.ended) if changeset.ended is not None else None,
        message=changeset.message,
        totals=changeset.totals,
        scopes=changeset.scopes,
        groups=changeset.groups,
    )


def render_changesets(changesets: Sequence[Changeset], *, limit: int) -> ChangesetPage:
    """A page of change sets."""
    return ChangesetPage(
        changesets=[render_changeset(changeset) for changeset in changesets],
        next=changesets[-1].id if len(changesets) == limit else None,
    )


def render_stack(stack: Stack) -> StackBody:
    """A stack's JSON."""
    return StackBody(
        id=stack.id,
        project=stack.project,
        name=stack.name,
        created=render_time(stack.created),
        deleted=render_time(stack.deleted) if stack.deleted is not None else None,
        scopes=stack.scopes,
        groups=stack.groups,
    )
