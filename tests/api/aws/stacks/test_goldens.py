"""One recorded stack and one Terraform run, through each of the APIs."""

import json
import re
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploylog.events.cloudevents import render_new_event
from deploylog.events.times import parse_time
from deploylog.ingest.cloudformation.parsing import parse_stack_event
from deploylog.ingest.terraform.run import TerraformRun
from support.paths import SAMPLES
from support.servers import EVENTS, LINES, Answer, Local
from support.stacks import NAME, collected, image_build, image_scope

GOLDEN = Path(__file__).parent / "golden"
SAMPLE = SAMPLES / "02-apply-create.jsonl"

RUN = "11111111-2222-4333-8444-555555555555"
STARTED = "2026-11-21T04:12:20Z"
ENDED = parse_time("2026-11-21T04:12:30Z")

REQUEST = {"Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"}

TAGS = {"parallelcluster:version": "3.1.2", "parallelcluster:image_id": NAME, "team": "hpc"}

VIEWS = {
    "parallelcluster.json": "/v3/clusters/{name}/stackevents",
    "cloudformation.xml": "/?Action=DescribeStackEvents&Version=2010-05-15&StackName={name}",
    "cloudformation-stack.xml": "/?Action=DescribeStacks&Version=2010-05-15&StackName={name}",
    "native.json": "/log/v1/events?scope=project/acme",
    "rfs.json": "/v1/acme/stacks/{name}/events",
    "bluelink.json": "/v1/deployments/instances/{name}",
    "bluelink.sse": "/v1/deployments/instances/{name}/stream",
    "escape.json": "/api/v1/events/query/project/acme/prod/",
}

Record = Callable[[Local], Awaitable[str]]

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

#: The time at which the service recorded a stack; a recorded stack has its own creation time.
_CREATED = re.compile(r"(?<=<CreationTime>)20(?!22-03)[^<]*")

#: Those that are the same each time.
_KNOWN = re.compile(rf"{RUN}|[0-9a-f]{{8}}-b080-11ec-845e-0e2dc6386985")


@pytest.fixture
def options() -> dict[str, Any]:
    # Streams replay old events too.
    return {"bluelink_recent_seconds": 0}


async def record_collected(server: Local) -> str:
    # As boto3 gives them.
    events = [parse_stack_event(msgspec.to_builtins(event)) for event in image_build()]
    await server.store.log.append(collected(events, beside=(image_scope(),), tags=TAGS))
    return NAME


async def record_terraform(server: Local) -> str:
    await server.open(
        id=RUN,
        tool="terraform",
        operation="apply",
        started=STARTED,
        environment="prod",
        actor="ann",
    )
    run = TerraformRun(deployment_id=RUN)
    lines = SAMPLE.read_bytes().splitlines()
    events = [event for line in lines for event in run.feed(line, now=ENDED)]
    events += run.close(now=ENDED, exit_code=0)
    body = b"\n".join(render_new_event(event) for event in events)
    response = await server.post(body, LINES, f"{EVENTS}?deployment={RUN}")
    assert response.status == 201, response.body
    return "web"


async def test_a_cloudformation_failure_is_found_through_rfs(server: Local):
    await record_collected(server)
    request = "filter=event_type==CREATION_FAILED,resource_name==ParallelClusterImage"

    response = await server.get(f"/v1/acme/stacks/{NAME}/events?{request}", headers=REQUEST)

    [event] = response.json["stack_events"]
    assert event["resource_type"] == "AWS::ImageBuilder::Image"
    assert event["event_message"].startswith('Phase "build" <failed>')


def settled(response: Answer, *, is_json: bool) -> str:
    """The response, indented, without values that differ each time."""
    text = _CREATED.sub("now", response.body.decode().replace("<member>", "\n<member>"))
    if is_json:
        text = json.dumps(_undated(response.json), indent=1, ensure_ascii=False)
    numbers: dict[str, int] = {}
    numbering = count(1)

    def number(match: re.Match[str]) -> str:
        id = match[0]
        if _KNOWN.fullmatch(id):
            return id
        if id not in numbers:
            numbers[id] = next(numbering)
        return f"(id {numbers[id]})"

    return _UUID.sub(number, text).rstrip("\n") + "\n"


def _undated(page: Any) -> Any:
    """Without the times that the service's own clock gave."""
    for event in page.get("events", ()) if isinstance(page, dict) else ():
        event.pop("recordedtime", None)
        if event.get("type") == "stack.created":
            event.pop("time")
    return page


@pytest.mark.parametrize(
    ("record", "view"),
    [
        (record, view)
        for record in (record_collected, record_terraform)
        for view in VIEWS
        # A stack of CloudFormation has no environment, by which EscapeKit knows deployments.
        if (record, view) != (record_collected, "escape.json")
    ],
)
async def test_each_view_is_the_golden_one(server: Local, record: Record, view: str):
    name = await record(server)

    response = await server.get(VIEWS[view].format(name=name), headers=REQUEST)

    assert response.status == 200
    golden = GOLDEN / f"{record.__name__.removeprefix('record_')}-{view}"
    assert settled(response, is_json=view.endswith("json")) == golden.read_text()
