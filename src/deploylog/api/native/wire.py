"""The native API's JSON; pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal

import msgspec

from deploylog.errors import InvalidEvent, InvalidInput, TooLarge, UnsupportedMedia
from deploylog.events.access import Principal
from deploylog.events.batch import Gap
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
from deploylog.events.facets import Facet, Facets
from deploylog.events.index.trace import Trace
from deploylog.events.store import IdempotencyKey, Page
from deploylog.events.times import Time, render_time
from deploylog.ingest.sources import SOURCES

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PLAIN = "application/json"
LINES = ("application/x-ndjson", "application/ndjson")

REQUEST_ORIGIN = "WebHook-Request-Origin"
REQUEST_RATE = "WebHook-Request-Rate"

_ORIGIN = re.compile(r"[A-Za-z0-9*._:-]{1,255}")
_RATE = re.compile(r"0*[1-9][0-9]{0,17}")


class Receipt(msgspec.Struct, frozen=True):
    """Where an event was recorded."""

    id: str
    position: str


class Receipts(msgspec.Struct, frozen=True):
    """Where the events were recorded, in the order they were sent."""

    events: list[Receipt]


class DamagedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is missing from the page because its stored data is damaged."""

    id: str
    position: str
    reason: Literal["checksum", "unreadable"]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of a page were found."""

    #: Segments of the index in which they were looked for.
    segments: int
    #: Those of them that may have had some.
    hits: int
    #: Rows of events that were read.
    rows: int
    #: Those of them that did not match.
    rows_in_vain: int


class NewCloudEvent(CloudEvent, kw_only=True, forbid_unknown_fields=False):
    """One CloudEvent to record. It may have extension attributes."""

    specversion: str
    id: str


class RecordedEvent(CloudEvent, kw_only=True, forbid_unknown_fields=False):
    """An event of the log, as a CloudEvent. It may have more extension attributes."""

    specversion: str
    id: str
    source: str
    time: Time
    scopes: str
    position: str
    recordedtime: Time


class EventPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of events."""

    events: list[RecordedEvent]
    #: The cursor of the next page, when there may be one.
    next: str | None = None
    previous: str | None = None
    #: Events that would be on the page if they were not damaged.
    damaged: list[DamagedEvent] = []
    #: When it was asked for.
    explain: Explanation | None = None


class EventCount(msgspec.Struct, frozen=True):
    """How many events there are."""

    count: int


class FacetList(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values of a field, most frequent first."""

    field: str
    top: tuple[Facet, ...]
    #: Different values.
    values: int
    #: Events, with and without the field.
    total: int


class Bucket(msgspec.Struct, frozen=True):
    """How many events happened from a time to that of the next bucket."""

    time: Time
    count: int


class EventHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """How many events happened when."""

    since: Time
    until: Time
    total: int
    buckets: list[Bucket]


def parse_events(
    headers: Mapping[str, str], body: bytes, defaults: Defaults, *, limit: int
) -> list[NewEvent]:
    """Parse the events of a request by its content type; raises TooLarge above ``limit``."""
    media = _media(headers)
    if media == ONE:
        events = [parse_event(body, defaults)]
    elif media == BATCH:
        events = parse_batch(body, defaults, limit=limit)
    elif media in LINES:
        if body.count(b"\n") > 2 * limit:
            raise TooLarge(f"a request must have at most {limit} events")
        events = parse_lines(body, defaults, limit=limit)
    elif "ce-specversion" in headers:
        events = [parse_binary(headers, body, defaults)]
    else:
        sources = ", ".join(SOURCES)
        raise UnsupportedMedia(
            f"send {PLAIN}, {ONE}, {BATCH} or {LINES[0]}, or use ce- headers;"
            f" webhooks of {sources} go to /log/v1/ingest/SOURCE?project=PROJECT"
        )
    if not events and media != BATCH:
        raise InvalidInput("the body contains no event")
    if len(events) > limit:
        raise TooLarge(f"a request must have at most {limit} events")
    return events


def is_plain_event(headers: Mapping[str, str]) -> bool:
    """Whether the body of a request is one event without CloudEvents' attributes."""
    return _media(headers) == PLAIN and "ce-specversion" not in headers


class Handshake(msgspec.Struct, frozen=True):
    """A sender's request for permission to deliver (CloudEvents' web hooks, section 4)."""

    origin: str


def parse_handshake(headers: Mapping[str, str]) -> Handshake | None:
    """The handshake of an OPTIONS request, if it is one; raises InvalidInput.

    A callback URL is ignored: the response grants or denies permission at once.
    """
    origin = headers.get(REQUEST_ORIGIN)
    if origin is None:
        return None
    if not _ORIGIN.fullmatch(origin):
        raise InvalidInput(f"{REQUEST_ORIGIN} must be a DNS name", field=REQUEST_ORIGIN)
    rate = headers.get(REQUEST_RATE)
    if rate is not None and not _RATE.fullmatch(rate):
        raise InvalidInput(f"{REQUEST_RATE} must be a number above zero", field=REQUEST_RATE)
    return Handshake(origin)


def render_handshake(handshake: Handshake, *, max_requests_per_second: float) -> dict[str, str]:
    """The headers that grant permission, at the rate limit of all requests."""
    limit = max(int(max_requests_per_second * 60), 1)
    return {
        "allow": "GET, HEAD, OPTIONS, POST",
        "webhook-allowed-origin": handshake.origin,
        "webhook-allowed-rate": str(limit) if max_requests_per_second else "*",
    }


def locate(error: InvalidEvent, headers: Mapping[str, str], body: bytes) -> InvalidEvent:
    """``error`` with the body's line number in place of the event's index."""
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
    """The ``Idempotency-Key``, unique to the principal; raises InvalidInput."""
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise InvalidInput("Idempotency-Key must have 1 to 255 characters", field="Idempotency-Key")
    attributes = sorted(pair for pair in headers.items() if pair[0].startswith("ce-"))
    request = msgspec.json.encode([query, _media(headers), attributes])
    # As JSON, since keys of two principals, joined with a separator, could be equal.
    unique = msgspec.json.encode([principal.kind, principal.id, key]).decode()
    return IdempotencyKey(key=unique, fingerprint=hashlib.sha256(request + body).digest())


def render_receipts(events: Sequence[Event]) -> bytes:
    """The response to an append."""
    receipts = [Receipt(event.id, str(event.position)) for event in events]
    return msgspec.json.encode(Receipts(receipts))


def render_page(page: Page, trace: Trace | None = None) -> bytes:
    """A page of events, and how it was found if ``trace`` is given."""
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
    if trace is not None:
        body["explain"] = Explanation(**msgspec.structs.asdict(trace))
    return msgspec.json.encode(body)


def render_facets(name: str, facets: Facets) -> FacetList:
    """The values of the field that is asked for as ``name``."""
    return FacetList(field=name, top=facets.top, values=facets.values, total=facets.total)


def render_histogram(edges: Sequence[int], counts: Sequence[int]) -> EventHistogram:
    """The number of events between each two of the ``edges`` (ns)."""
    return EventHistogram(
        since=render_time(edges[0]),
        until=render_time(edges[-1]),
        total=sum(counts),
        buckets=[
            Bucket(render_time(edge), count) for edge, count in zip(edges[:-1], counts, strict=True)
        ],
    )


def render_one(event: Event) -> bytes:
    """One event."""
    return msgspec.json.encode(render_event(event))


def render_frame(event: Event) -> bytes:
    """One event as a frame of a stream."""
    head = f"id: {event.id}\nevent: {event.type}\ndata: ".encode()
    return head + msgspec.json.encode(render_event(event)) + b"\n\n"


def render_gap(gap: Gap) -> bytes:
    """A gap: events that the stream cannot send."""
    body = {"after": str(gap.after), "oldest": str(gap.floor + 1), "reason": gap.reason}
    return b"event: gap\ndata: " + msgspec.json.encode(body) + b"\n\n"
