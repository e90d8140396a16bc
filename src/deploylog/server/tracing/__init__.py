"""Spans of the service itself, over OTLP, or none."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from starlette.routing import Route
from starlette.types import ASGIApp

from deploylog.errors import OperatorError
from deploylog.events.hub import Hub
from deploylog.events.service import EventService
from deploylog.events.store import EventLog
from deploylog.events.streams import OpenStreams
from deploylog.subscriptions.delivery.sender import Sender


class Tracing(Protocol):
    """Gives the parts of the service that make spans."""

    #: Whether requests must go through ``app``, so that none is answered beside it.
    sees_requests: bool

    def running(self) -> AbstractAsyncContextManager[None]:
        """Export spans inside the block, and the last ones at its end."""
        ...

    def events(self, log: EventLog, hub: Hub, open_streams: OpenStreams) -> EventService:
        """The service of events, whose appends are spans."""
        ...

    def sender(self, sender: Sender) -> Sender:
        """The sender, whose requests are spans."""
        ...

    def app(self, app: ASGIApp, routes: Iterable[Route]) -> ASGIApp:
        """The application, whose requests are spans."""
        ...


class NoTracing:
    """Makes no spans."""

    sees_requests = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    def events(self, log: EventLog, hub: Hub, open_streams: OpenStreams) -> EventService:
        return EventService(log, hub, open_streams=open_streams)

    def sender(self, sender: Sender) -> Sender:
        return sender

    def app(self, app: ASGIApp, routes: Iterable[Route]) -> ASGIApp:
        return app


def make_tracing(endpoint: str) -> Tracing:
    """Trace to the collector at ``endpoint``, or not at all if that is empty.

    Raises OperatorError when OpenTelemetry is not installed.
    """
    if not endpoint:
        return NoTracing()
    # Imported here: it is optional, and takes 0.2 s.
    try:
        from deploylog.server.tracing.spans import SpanTracing
    except ModuleNotFoundError as error:
        raise OperatorError(f"otlp_endpoint needs {error.name}: install deploylog[otel]") from error
    return SpanTracing(endpoint)
