"""The service's own spans, as a collector gets them: of requests, of appends, of deliveries."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.errors import OperatorError
from deploylog.events.event import MAX_EXTENSIONS_BYTES
from deploylog.server.tracing import NoTracing, make_tracing
from deploylog.store.contract import Store
from support.collectors import OtlpCollector, attributes_of, collecting
from support.receivers import receiving, status
from support.servers import EVENTS, line, running
from support.subscribers import caught_up, encryption_key_file, subscribe
from support.waiting import until

pytestmark = pytest.mark.process

TRACE = "0af7651916cd43dd8448eb211c80319c"
PRODUCER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PRODUCER}-01"


@pytest.fixture
async def collector() -> AsyncIterator[OtlpCollector]:
    async with collecting() as collector:
        yield collector


@pytest.fixture
def settings(collector: OtlpCollector, tmp_path: Path) -> dict[str, Any]:
    return {
        "otlp_endpoint": collector.url,
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": "127.0.0.0/8",
    }


async def test_a_request_its_append_and_its_delivery_are_one_trace(
    store: Store, collector: OtlpCollector, settings: dict[str, Any]
):
    async with receiving() as receiver, running(store, **settings) as service:
        made = await subscribe(service, receiver.url)
        await service.post(line("build.started"), headers={"traceparent": TRACEPARENT})
        await caught_up(service, made["id"])

    request, append = collector.named(f"POST {EVENTS}"), collector.named("append")
    delivery = collector.named("deliver webhook")
    assert {span.trace_id.hex() for span in (request, append, delivery)} == {TRACE}
    assert request.parent_span_id.hex() == PRODUCER
    assert append.parent_span_id == request.span_id
    assert delivery.parent_span_id == append.span_id
    assert attributes_of(request)["http.response.status_code"] == 201
    assert attributes_of(delivery)["deploylog.subscription.id"] == made["id"]
    assert collector.services == {"deploylog"}
    [(head, _)] = receiver.requests
    assert f"traceparent: 00-{TRACE}-{append.span_id.hex()}-01".encode() in head.lower()


async def test_an_event_that_names_its_trace_keeps_it(
    store: Store, collector: OtlpCollector, settings: dict[str, Any]
):
    async with receiving() as receiver, running(store, **settings) as service:
        made = await subscribe(service, receiver.url)
        await service.post(line("build.started", traceparent=TRACEPARENT, tracestate="ci=1"))
        await caught_up(service, made["id"])
        [event] = (await service.get(f"{EVENTS}?type=build.started")).json["events"]

    spans = [collector.named("append"), collector.named("deliver webhook")]
    assert (event["traceparent"], event["tracestate"]) == (TRACEPARENT, "ci=1")
    assert [(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans] == [
        (TRACE, PRODUCER),
        (TRACE, PRODUCER),
    ]


async def test_an_event_without_room_for_our_trace_is_recorded_as_it_is(
    store: Store, settings: dict[str, Any]
):
    full = "x" * (MAX_EXTENSIONS_BYTES - len('{"filled":""}'))
    async with running(store, **settings) as service:
        answer = await service.post(line("build.started", filled=full))
        [event] = (await service.get(EVENTS)).json["events"]

    assert answer.status == 201
    assert (event["filled"], "traceparent" in event) == (full, False)


async def test_a_refused_delivery_is_an_error_of_its_span(
    store: Store, collector: OtlpCollector, settings: dict[str, Any]
):
    async with receiving(status(410)) as receiver, running(store, **settings) as service:
        await subscribe(service, receiver.url)
        await service.post(line("build.started"))
        await until(lambda: len(receiver.requests) == 1)

    delivery = collector.named("deliver webhook")
    assert attributes_of(delivery)["http.response.status_code"] == 410
    assert delivery.status.code == delivery.status.STATUS_CODE_ERROR


async def test_a_collector_that_is_down_costs_no_event(store: Store, settings: dict[str, Any]):
    down = settings | {"otlp_endpoint": "http://127.0.0.1:1"}
    async with running(store, **down) as service:
        answer = await service.post(line("build.started"))

    assert answer.status == 201


def test_without_an_endpoint_nothing_is_traced():
    assert isinstance(make_tracing(""), NoTracing)


def test_without_opentelemetry_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "deploylog.server.tracing.spans", None)

    with pytest.raises(OperatorError, match=r"install deploylog\[otel\]"):
        make_tracing("http://127.0.0.1:4318")
