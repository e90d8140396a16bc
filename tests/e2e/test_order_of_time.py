"""A recorded Terraform run, as the clients of RFS and CloudFormation read it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.store.contract import Store
from support.awsclients import asked, cloudformation
from support.cli import Cli
from support.servers import EVENTS, Local, line, running

REQUEST = {"Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"}


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


def terraform_line(second: int, type: str, message: str, **fields: Any) -> str:
    time = f"2021-05-04T03:02:{second:02}.000000Z"
    return json.dumps(
        {"@level": "info", "@message": message, "@timestamp": time, "type": type, **fields}
    )


def resource(second: int, type: str, address: str) -> str:
    kind, _, name = address.rpartition(".")[0].rpartition(".")[2], "", address.rpartition(".")[2]
    at = {"addr": address, "resource_type": kind, "resource_name": name.partition("[")[0]}
    hook = {"resource": at, "action": "create"}
    return terraform_line(second, type, f"{address}: {type}", hook=hook)


#: Resources of one name, in two modules, of two types, and with two keys: all at one time.
SAME = [
    "module.a.aws_instance.web",
    "module.b.aws_instance.web",
    "aws_instance.web",
    "aws_eip.web",
    "aws_vpc.web[0]",
    "aws_vpc.web[1]",
]


def recorded_run() -> bytes:
    """Fourteen events of CloudFormation: the run's two, and two of each resource."""
    lines = [
        terraform_line(1, "version", "Terraform 1.9.0", terraform="1.9.0", ui="1.2"),
        *(resource(2, "apply_start", address) for address in SAME),
        *(resource(2, "apply_complete", address) for address in SAME),
        terraform_line(
            3, "change_summary", "Apply complete!", changes={"operation": "apply", "add": 6}
        ),
    ]
    return "\n".join(lines).encode() + b"\n"


async def ingest(server: Local, tmp_path: Path, *, piped: bool) -> None:
    file = tmp_path / "apply.jsonl"
    file.write_bytes(recorded_run())
    source = [] if piped else [str(file)]
    done = await Cli(tmp_path, server.url)(
        "ingest", "terraform", *source, "--quiet", "--operation", "apply",
        stdin=recorded_run() if piped else b"",
    )  # fmt: skip
    assert done.code == 0, done.err


@pytest.mark.parametrize("piped", [False, True])
async def test_a_recorded_run_of_another_year_has_its_own_times(
    server: Local, tmp_path: Path, piped: bool
):
    await ingest(server, tmp_path, piped=piped)

    [deployment] = (await server.get("/log/v1/deployments?project=acme")).json["deployments"]
    events = (await server.get("/log/v1/events?scope=project/acme&limit=100")).json["events"]
    page = (await server.get("/v1/acme/stacks/web/events", headers=REQUEST)).json

    assert deployment["started"] == "2021-05-04T03:02:01.000000Z"
    assert deployment["ended"].startswith("2021-05-04T03:02:03")
    assert {event["time"][:17] for event in events} == {"2021-05-04T03:02:"}
    times = [event["time"] for event in page["stack_events"]]
    assert times == sorted(times, reverse=True)
    assert page["stack_events"][-1]["event_message"] == "Apply of web started"
    assert page["stack_events"][0]["event_message"] == "Apply complete!"


async def test_rfs_pages_are_in_the_order_of_time_while_late_events_arrive(server: Local):
    opened = await server.open()
    path = f"{EVENTS}?deployment={opened['id']}"

    async def append(*seconds: int) -> None:
        events = [
            {**line("deployment.log", message=str(s)), "time": f"2022-01-01T00:00:{s:02}Z"}
            for s in seconds
        ]
        for each in events:
            each.pop("scopes")
        await server.append(events, path)

    await append(*range(30, 50), *range(10, 20))
    url = "/v1/acme/stacks/web/events?limit=7&filter=event_type==LOG"
    pages: list[list[str]] = []
    marker: str | None = None
    late = iter((55, 5, 25))
    while not pages or marker is not None:
        asked_for = url + (f"&marker={marker}" if marker else "")
        page = (await server.get(asked_for, headers=REQUEST)).json
        pages.append([event["event_message"] for event in page["stack_events"]])
        marker = page["page_info"].get("next_marker")
        if (second := next(late, None)) is not None:
            await append(second)

    joined = [int(message) for page in pages for message in page if message.isdigit()]
    # The one that is newer than the second page is in its place there, and not seen here.
    assert joined == [*range(49, 29, -1), 25, *range(19, 9, -1), 5]


async def test_a_reader_that_keys_on_event_ids_delivers_every_event(server: Local, tmp_path: Path):
    await ingest(server, tmp_path, piped=False)
    client = cloudformation(server)
    paginator = client.get_paginator("describe_stack_events")

    def tail() -> dict[str, Any]:
        pages = paginator.paginate(StackName="web")
        return {event["EventId"]: event for page in pages for event in page["StackEvents"]}

    delivered = await asked(tail)

    assert len(delivered) == 14
    logical_ids = {event["LogicalResourceId"] for event in delivered.values()}
    assert len(logical_ids) == len(SAME) + 1
    assert all(id.isalnum() for id in logical_ids)


async def test_boto3_reads_what_tools_ask_of_a_stack(server: Local, tmp_path: Path):
    await ingest(server, tmp_path, piped=False)
    client = cloudformation(server)

    def pages(name: str, key: str, **asked: str) -> list[Any]:
        found = client.get_paginator(name).paginate(**asked)
        return [each for page in found for each in page[key]]

    resources = await asked(
        lambda: pages("list_stack_resources", "StackResourceSummaries", StackName="web")
    )
    same = (await asked(lambda: client.describe_stack_resources(StackName="web")))["StackResources"]
    events = await asked(lambda: pages("describe_events", "OperationEvents", StackName="web"))
    change_sets = await asked(lambda: pages("list_change_sets", "Summaries", StackName="web"))
    exports = await asked(lambda: pages("list_exports", "Exports"))
    policy = await asked(lambda: client.get_stack_policy(StackName="web"))

    ids = [each["LogicalResourceId"] for each in resources]
    assert len(ids) == len(SAME)
    assert [each["LogicalResourceId"] for each in same] == ids
    assert len({event["EventId"] for event in events}) == 14
    assert {event.get("OperationType") for event in events} == {"CREATE_STACK", None}
    assert (change_sets, exports, policy.get("StackPolicyBody")) == ([], [], None)
