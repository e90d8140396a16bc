"""A deployment as a trace."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from deploylog.client.collector import parse_headers
from deploylog.client.models import DeploymentState
from deploylog.client.otlp import TracedEvent, render_trace
from deploylog.deployments.catalog import Counts
from deploylog.errors import OperatorError

START = datetime(2026, 11, 28, 12, tzinfo=UTC)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

DEPLOYMENT = DeploymentState(
    id="4be37088-7d53-4b0c-9a43-0a6d4a3a3f10", project="acme", stack="web", stack_id="s1",
    status="failed", started=START, ended=START + timedelta(seconds=9), tool="terraform",
    environment="prod", actor="alice", message="out of quota",
    counts=Counts(failed=1),
)  # fmt: skip


def change(phase: str, seconds: int, address: str = "aws_instance.web") -> TracedEvent:
    return TracedEvent(
        type=f"resource.create.{phase}", time=START + timedelta(seconds=seconds),
        resourceaddress=address, resourcetype="aws_instance", message=f"{phase} it",
    )  # fmt: skip


def spans(*events: TracedEvent) -> list[dict[str, Any]]:
    body = msgspec.json.decode(render_trace(DEPLOYMENT, events, version="1"))
    return body["resourceSpans"][0]["scopeSpans"][0]["spans"]


def attributes(span: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in span["attributes"]}


def test_the_deployment_is_the_root_by_the_conventions_for_ci_and_cd():
    [root] = spans()

    assert (root["name"], root["status"]) == (
        "terraform acme/web", {"code": 2, "message": "out of quota"},
    )  # fmt: skip
    assert int(root["endTimeUnixNano"]) - int(root["startTimeUnixNano"]) == 9_000_000_000
    assert attributes(root) == {
        "cicd.pipeline.name": "acme/web",
        "cicd.pipeline.run.id": DEPLOYMENT.id,
        "cicd.pipeline.result": "failure",
        "deployment.id": DEPLOYMENT.id,
        "deployment.name": "web",
        "deployment.status": "failed",
        "deployment.environment.name": "prod",
        "user.name": "alice",
    }


def test_a_change_of_a_resource_is_a_span_below_it():
    root, child = spans(change("started", 1), change("progress", 2), change("completed", 4))

    assert (child["name"], child["parentSpanId"]) == ("create aws_instance.web", root["spanId"])
    assert int(child["endTimeUnixNano"]) - int(child["startTimeUnixNano"]) == 3_000_000_000
    assert attributes(child)["cicd.pipeline.task.run.result"] == "success"
    assert child["status"] == {"code": 1}


def test_a_change_that_fails_has_its_message():
    _, child = spans(change("started", 1), change("failed", 4))

    assert child["status"] == {"code": 2, "message": "failed it"}


def test_a_change_that_never_ended_ends_with_the_deployment():
    root, child = spans(change("started", 1))

    assert child["endTimeUnixNano"] == root["endTimeUnixNano"]
    assert "cicd.pipeline.task.run.result" not in attributes(child)


def test_the_same_deployment_has_the_same_ids_each_time():
    events = change("started", 1), change("completed", 4), change("completed", 4, "aws_vpc.main")

    assert spans(*events) == spans(*events)
    assert len({span["spanId"] for span in spans(*events)}) == 3
    assert {len(span["traceId"]) for span in spans(*events)} == {32}


def test_the_trace_of_the_producer_is_continued():
    traced = msgspec.structs.replace(change("completed", 4), traceparent=PARENT)

    root, child = spans(traced)

    assert root["traceId"] == child["traceId"] == PARENT.split("-")[1]
    assert root["parentSpanId"] == PARENT.split("-")[2]


def test_what_is_no_trace_context_is_ignored():
    [root, _] = spans(msgspec.structs.replace(change("completed", 4), traceparent="nonsense"))

    assert "parentSpanId" not in root


def test_headers_for_a_collector_are_pairs():
    assert parse_headers("authorization=Bearer a=b, x=1") == {
        "authorization": "Bearer a=b", "x": "1",
    }  # fmt: skip
    with pytest.raises(OperatorError) as raised:
        parse_headers("secret")
    assert "'secret'" not in str(raised.value)
