"""Spans by OpenTelemetry: of requests, of appends, and of deliveries."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploylog import __version__
from deploylog.events.access import Principal
from deploylog.events.event import MAX_EXTENSIONS_BYTES, Event, NewEvent
from deploylog.events.hub import Hub
from deploylog.events.service import EventService
from deploylog.events.store import EventLog, IdempotencyKey
from deploylog.events.streams import OpenStreams
from deploylog.server.requests import UNROUTED
from deploylog.subscriptions.delivery.kinds.webhook import trace_headers
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.sender import OutgoingBatch, Sender

#: Traces of other events that a span of several links to.
_MAX_LINKS = 128

_PROPAGATOR = TraceContextTextMapPropagator()

#: An append or a delivery whose events name no trace.
_NO_CONTEXT = Context()

_decode_extensions = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class SpanTracing:
    """Makes spans, and exports them in batches from a thread."""

    sees_requests = True

    def __init__(self, endpoint: str) -> None:
        """``endpoint`` is a collector's, as in ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        resource = Resource.create({"service.name": "deploylog", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("deploylog", __version__)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(self._provider.shutdown)

    def events(self, log: EventLog, hub: Hub, open_streams: OpenStreams) -> EventService:
        return _TracedEvents(self._tracer, log, hub, open_streams)

    def sender(self, sender: Sender) -> Sender:
        return _traced_sender(self._tracer, sender)

    def app(self, app: ASGIApp, routes: Iterable[Route]) -> ASGIApp:
        return _TracedApp(self._tracer, app, routes)


class _TracedEvents(EventService):
    """Appends in spans, and gives the trace to events that name none."""

    def __init__(self, tracer: Tracer, log: EventLog, hub: Hub, open_streams: OpenStreams) -> None:
        super().__init__(log, hub, open_streams=open_streams)
        self._tracer = tracer

    async def append_any(
        self,
        principal: Principal,
        events: Sequence[NewEvent],
        *,
        request: IdempotencyKey | None = None,
    ) -> list[Event]:
        named, asked = _contexts(events), get_current_span()
        # In the trace of the request, if a caller named one; else in that of the first event.
        other = named[0] if named and not _is_continued(asked) else None
        with self._tracer.start_as_current_span(
            "append",
            context=other,
            kind=SpanKind.PRODUCER,
            links=[*map(_link, named), *([Link(asked.get_span_context())] if other else [])],
            attributes=_about(events),
        ):
            own: dict[str, str] = {}
            _PROPAGATOR.inject(own)
            traced = [_with_trace(event, own) for event in events]
            return await super().append_any(principal, traced, request=request)


def _traced_sender(tracer: Tracer, sender: Sender) -> Sender:
    async def send(batch: OutgoingBatch) -> Outcome:
        named = _contexts(batch.events)
        with tracer.start_as_current_span(
            f"deliver {batch.subscription.kind}",
            context=named[0] if named else _NO_CONTEXT,
            kind=SpanKind.CLIENT,
            links=[_link(context) for context in named[1:]],
            attributes=_about(batch.events)
            | {
                "deploylog.subscription.id": batch.subscription.id,
                "deploylog.event.id": batch.events[0].id,
            },
        ) as span:
            outcome = await sender.send(batch)
            if outcome.response.status is not None:
                span.set_attribute("http.response.status_code", outcome.response.status)
            if outcome.result != "delivered":
                span.set_status(Status(StatusCode.ERROR, outcome.error))
            return outcome

    return msgspec.structs.replace(sender, send=send)


class _TracedApp:
    """Answers each request in a span, in the trace that its ``traceparent`` names."""

    def __init__(self, tracer: Tracer, app: ASGIApp, routes: Iterable[Route]) -> None:
        self._tracer = tracer
        self._app = app
        self._routes: Mapping[object, str] = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        with self._tracer.start_as_current_span(
            scope["method"],
            context=_PROPAGATOR.extract(headers, context=Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "url.path": scope["path"]},
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # The router has left in the scope which of its routes answers.
                    route = self._routes.get(scope.get("endpoint"), UNROUTED)
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, send_traced)


def _is_continued(span: Span) -> bool:
    """Whether the span is of a trace that somebody else began."""
    return isinstance(span, ReadableSpan) and span.parent is not None


def _about(events: Sequence[NewEvent]) -> dict[str, str | int]:
    """The attributes of a span that is about events, by the conventions for messaging."""
    return {"messaging.system": "deploylog", "messaging.batch.message_count": len(events)}


def _contexts(events: Sequence[NewEvent]) -> list[Context]:
    """The traces that events name, each once."""
    found: dict[str, dict[str, str]] = {}
    for event in events:
        headers = trace_headers(event)
        if headers and len(found) < _MAX_LINKS:
            found.setdefault(headers["traceparent"], headers)
    return [_PROPAGATOR.extract(headers, context=Context()) for headers in found.values()]


def _link(context: Context) -> Link:
    return Link(get_current_span(context).get_span_context())


def _with_trace(event: NewEvent, own: Mapping[str, str]) -> NewEvent:
    """The event with our trace, if its producer names none and there is room for it."""
    extensions = _decode_extensions(event.extensions) if event.extensions is not None else {}
    if "traceparent" in extensions or not own:
        return event
    named = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in own.items()}
    encoded = msgspec.json.encode({**extensions, **named})
    if len(encoded) > MAX_EXTENSIONS_BYTES:
        return event
    return msgspec.structs.replace(event, extensions=msgspec.Raw(encoded))
