"""Figures of requests, the access log, and the service log as JSON."""

import json
import logging
import sys

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message

from deploylog.server.logs import JsonFormatter
from deploylog.server.metrics import Metrics
from deploylog.server.requests import ACCESS_LOG, Answered, ObservedApp, log_access

GET = Answered(
    method="GET", route="/items/{id}", path="/items/7", status=200, seconds=0.002, client="::1"
)


def record(message: str, *, failed: bool = False, **fields: object) -> logging.LogRecord:
    exception = None
    if failed:
        try:
            raise ValueError("out of range")
        except ValueError:
            exception = sys.exc_info()
    made = logging.LogRecord("deploylog.x", logging.INFO, "", 0, message, (), exception)
    if fields:
        made.fields = fields
    return made


async def get(app: ASGIApp, path: str, *, query: bytes = b"") -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        pass

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": query, "headers": [],
        "client": ("::1", 1),
    }  # fmt: skip
    await app(scope, receive, send)


async def test_a_request_is_observed_by_its_route_and_not_by_its_path():
    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse("seven", status_code=203)

    routes = [Route("/items/{id}", item)]
    observed: list[Answered] = []
    app = ObservedApp(Router(routes), routes, observed.append)

    await get(app, "/items/7", query=b"secret=x")
    await get(app, "/nowhere/8")

    assert [(each.route, each.path, each.status) for each in observed] == [
        ("/items/{id}", "/items/7", 203),
        ("none", "/nowhere/8", 404),
    ]


def test_the_duration_of_requests_is_a_histogram_by_method_route_and_status():
    metrics = Metrics()

    metrics.answered(GET)
    metrics.answered(GET)

    labels = 'method="GET",route="/items/{id}",status="200"'
    rendered = metrics.render().decode()
    assert f'deploylog_request_seconds_bucket{{le="0.001",{labels}}} 0.0' in rendered
    assert f'deploylog_request_seconds_bucket{{le="0.0025",{labels}}} 2.0' in rendered
    assert f"deploylog_request_seconds_count{{{labels}}} 2.0" in rendered
    assert f"deploylog_request_seconds_sum{{{labels}}} 0.004" in rendered


def test_the_access_log_has_no_query(caplog):
    caplog.set_level(logging.INFO, logger=ACCESS_LOG.name)

    log_access(GET)

    assert caplog.messages == ["::1 GET /items/7 200 2.0 ms"]


def test_a_json_line_has_the_fields_of_its_record():
    line = json.loads(JsonFormatter().format(record("done", status=201)))

    assert (line["message"], line["level"], line["logger"]) == ("done", "info", "deploylog.x")
    assert line["status"] == 201
    assert line["time"].endswith("+00:00")


def test_a_json_line_has_the_exception_in_one_line():
    text = JsonFormatter(worker=2).format(record("failed", failed=True))

    assert text.count("\n") == 0
    line = json.loads(text)
    assert "ValueError: out of range" in line["exception"]
    assert line["worker"] == 2
