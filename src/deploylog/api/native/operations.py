"""The operations of the native API."""

from deploylog.api.api import Resource
from deploylog.api.native.catalog.operations import CATALOG
from deploylog.api.native.endpoints import Events
from deploylog.api.native.errors import Problem
from deploylog.api.native.ingest.operations import INGEST
from deploylog.api.native.keys.operations import KEYS
from deploylog.api.native.metrics.operations import METRICS
from deploylog.api.native.parameters import IDEMPOTENCY_KEY, LIMIT, NAMES
from deploylog.api.native.paths import EVENTS
from deploylog.api.native.plain_event import PlainEvent
from deploylog.api.native.query_string import (
    DEFAULT_BUCKETS,
    DEFAULT_TOP,
    FILTERS,
    MAX_BUCKETS,
    MAX_LIMIT,
    MAX_WAIT_SECONDS,
)
from deploylog.api.native.subscriptions.operations import SUBSCRIPTIONS
from deploylog.api.native.wire import (
    REQUEST_ORIGIN,
    REQUEST_RATE,
    EventCount,
    EventHistogram,
    EventPage,
    FacetList,
    NewCloudEvent,
    Receipts,
    RecordedEvent,
)
from deploylog.api.operation import (
    Body,
    Operation,
    Parameter,
    flag,
    one_of,
    path_parameter,
    repeated,
    whole_number,
)

ERROR = Body(help="Problem details (RFC 9457).", media="application/problem+json", type=Problem)

_FILTERS = (
    Parameter(name="scope", help="Only events below one of these scopes.", schema=repeated()),
    Parameter(
        name="q", help="Words, and phrases in quotation marks, all of which the event's texts have."
    ),
    *(
        Parameter(name=name, help=f"The event's {field} is one of these.", schema=repeated())
        for name, field in FILTERS.items()
    ),
    Parameter(
        name="not",
        help="No event whose field has this value: FIELD=VALUE, such as type=deployment.log.",
        schema=repeated(),
    ),
    Parameter(
        name="resource",
        help="The address or the id of the event's resource is one of these.",
        schema=repeated(),
    ),
    Parameter(
        name="since",
        help="Only events at or after this time: RFC 3339, or relative such as -15m.",
        example="2h",
    ),
    Parameter(
        name="until", help="Only events before this time: RFC 3339, or relative such as -15m."
    ),
)

_PLAIN_EVENT = {"type": "build.completed", "message": "built 1.4.2", "project": "acme"}

_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "17",
    "source": "/ci",
    "type": "build.completed",
    "time": "2026-11-28T08:12:26Z",
    "scopes": "project/acme",
}

_LINES = '{"type": "build.started", "source": "/ci", "scopes": "project/acme"}\n'

RESOURCES = (
    Resource(
        endpoints=Events,
        operations=(
            Operation(
                id="appendEvents",
                method="POST",
                path=EVENTS,
                endpoint=Events.append,
                summary="Record events, all or none; responds once they are on disk",
                description="One event as application/json in plain words, or as a CloudEvent; many"
                " CloudEvents as application/x-ndjson, one a line, or as an array with the media"
                " type application/cloudevents-batch+json.",
                tag="events",
                parameters=(
                    Parameter(
                        name="scope", help="Scope of events without scopes.", schema=repeated()
                    ),
                    Parameter(name="deployment", help="Deployment of events without scopes."),
                    Parameter(name="source", help="Source of events without source."),
                    IDEMPOTENCY_KEY,
                ),
                request=(
                    Body(type=PlainEvent, example=_PLAIN_EVENT),
                    Body(
                        media="application/cloudevents+json",
                        type=NewCloudEvent,
                        example=_CLOUD_EVENT,
                    ),
                    Body(media="application/x-ndjson", example=_LINES),
                ),
                answers=(
                    Body(help="The ids and positions of the events.", status=201, type=Receipts),
                ),
            ),
            Operation(
                id="agreeToEvents",
                method="OPTIONS",
                path=EVENTS,
                endpoint=Events.agree,
                summary="Accept deliveries: the validation handshake of CloudEvents webhooks",
                tag="events",
                parameters=(
                    Parameter(
                        name=REQUEST_ORIGIN,
                        help="Origin of the sender.",
                        place="header",
                        required=True,
                    ),
                    Parameter(
                        name=REQUEST_RATE,
                        help="Requested rate, in requests per minute.",
                        place="header",
                    ),
                    Parameter(
                        name="scope", help="Scope of events without scopes.", schema=repeated()
                    ),
                    Parameter(name="deployment", help="Deployment of events without scopes."),
                    Parameter(name="source", help="Source of events without source."),
                ),
                answers=(
                    Body(help="Accepted: the headers state the origin and the rate.", media=""),
                ),
            ),
            Operation(
                id="listEvents",
                method="GET",
                path=EVENTS,
                endpoint=Events.list,
                summary="List events",
                tag="events",
                parameters=(
                    *NAMES,
                    *_FILTERS,
                    Parameter(name="order", help="Sort order.", schema=one_of("newest", "oldest")),
                    Parameter(name="before", help="Only events before the one with this id."),
                    Parameter(name="after", help="Only events after the one with this id."),
                    LIMIT,
                    Parameter(
                        name="wait",
                        help="Seconds to wait for an event if there is none; needs order=oldest.",
                        schema=whole_number(0, MAX_WAIT_SECONDS, 0),
                    ),
                    Parameter(
                        name="explain",
                        help="Whether to say how they were found; for who may read the whole log.",
                        schema=flag(),
                    ),
                ),
                answers=(Body(help="A page of events.", type=EventPage),),
            ),
            Operation(
                id="countEvents",
                method="GET",
                path=f"{EVENTS}/count",
                endpoint=Events.count,
                summary="Count events",
                tag="events",
                parameters=(*NAMES, *_FILTERS),
                answers=(Body(help="How many.", type=EventCount),),
            ),
            Operation(
                id="countEventsByField",
                method="GET",
                path=f"{EVENTS}/facets",
                endpoint=Events.facets,
                summary="Count events by the values of a field",
                tag="events",
                parameters=(
                    *NAMES,
                    *_FILTERS,
                    Parameter(name="field", help="The field.", schema=one_of(*FILTERS)),
                    Parameter(
                        name="top",
                        help="Most values to answer.",
                        schema=whole_number(1, MAX_LIMIT, DEFAULT_TOP),
                    ),
                ),
                answers=(Body(help="The most frequent values.", type=FacetList),),
            ),
            Operation(
                id="countEventsOverTime",
                method="GET",
                path=f"{EVENTS}/histogram",
                endpoint=Events.histogram,
                summary="Count events over time, by default over the last seven days",
                tag="events",
                parameters=(
                    *NAMES,
                    *_FILTERS,
                    Parameter(
                        name="buckets",
                        help="Parts of equal length.",
                        schema=whole_number(1, MAX_BUCKETS, DEFAULT_BUCKETS),
                    ),
                ),
                answers=(Body(help="How many in each part.", type=EventHistogram),),
            ),
            Operation(
                id="streamEvents",
                method="GET",
                path=f"{EVENTS}/stream",
                endpoint=Events.stream,
                summary="Follow events, history first, then live, as Server-Sent Events",
                tag="events",
                parameters=(
                    *NAMES,
                    *_FILTERS,
                    Parameter(name="after", help="Start after the event with this id."),
                    Parameter(name="from", help="Start at start, now, or a time of recording."),
                    Parameter(
                        name="Last-Event-ID",
                        help="Start after the event with this id; overrides after.",
                        place="header",
                    ),
                ),
                answers=(Body(help="An endless stream.", media="text/event-stream"),),
            ),
            Operation(
                id="getEvent",
                method="GET",
                path=f"{EVENTS}/{{id}}",
                endpoint=Events.get,
                summary="Get one event",
                tag="events",
                parameters=(path_parameter("id", "The event's id."),),
                answers=(Body(help="The event.", type=RecordedEvent),),
            ),
        ),
    ),
    *CATALOG,
    INGEST,
    KEYS,
    METRICS,
    SUBSCRIPTIONS,
)
