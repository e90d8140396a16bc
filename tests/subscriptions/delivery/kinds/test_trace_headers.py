"""Webhooks carry the trace that the producer named."""

import msgspec
import pytest

from deploylog.subscriptions.delivery.kinds.webhook import trace_headers
from support.factories import event

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def headers_of(**extensions: object) -> dict[str, str]:
    return trace_headers(event(extensions=msgspec.Raw(msgspec.json.encode(extensions))))


def test_a_webhook_carries_the_trace_of_its_event():
    assert headers_of(traceparent=PARENT, tracestate="vendor=1") == {
        "traceparent": PARENT, "tracestate": "vendor=1",
    }  # fmt: skip


def test_an_event_without_a_trace_adds_no_header():
    assert trace_headers(event()) == {}
    assert headers_of(other=1) == {}


@pytest.mark.parametrize(
    "extensions",
    [
        {"traceparent": "nonsense"},
        {"traceparent": 7},
        {"traceparent": f"{PARENT}\r\nx-injected: 1"},
        {"tracestate": "vendor=1"},
    ],
)
def test_what_is_no_trace_context_is_no_header(extensions: dict[str, object]):
    assert headers_of(**extensions) == {}


def test_a_trace_state_with_a_line_break_is_left_out():
    assert headers_of(traceparent=PARENT, tracestate="a=1\r\nx: y") == {"traceparent": PARENT}
