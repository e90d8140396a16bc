"""A collector of OpenTelemetry: it takes OTLP over HTTP, and keeps the spans."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_TYPE = "application/x-protobuf"


class OtlpCollector:
    """The spans that have arrived."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.services: set[str] = set()

    def named(self, name: str) -> Span:
        """The only span of that name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == _TYPE
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            attributes = {each.key: each.value for each in of_resource.resource.attributes}
            self.services.add(attributes["service.name"].string_value)
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type=_TYPE)


@asynccontextmanager
async def collecting() -> AsyncIterator[OtlpCollector]:
    """A collector that listens on a port of its own."""
    collector = OtlpCollector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def attributes_of(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
