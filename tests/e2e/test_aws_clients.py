"""boto3 and ParallelCluster's command line against a running service."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.events.cloudevents import render_new_event
from deploylog.ingest.terraform.run import TerraformRun
from deploylog.store.contract import Store
from support.awsclients import Credentials, asked, cloudformation, pcluster
from support.factories import now
from support.paths import SAMPLES
from support.servers import EVENTS, LINES, Local, running
from support.stacks import ARN, NAME, collected, image_build, image_scope, stack_event

SAMPLE = SAMPLES / "02-apply-create.jsonl"


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def record_run(server: Local) -> Any:
    """A deployment whose run is recorded."""
    opened = await server.open(tool="terraform", operation="apply")
    run = TerraformRun(deployment_id=opened["id"])
    events = [e for line in SAMPLE.read_bytes().splitlines() for e in run.feed(line, now=now())]
    events += run.close(now=now(), exit_code=0)
    body = b"\n".join(render_new_event(event) for event in events)
    answer = await server.post(body, LINES, f"{EVENTS}?deployment={opened['id']}")
    assert answer.status == 201, answer.body
    return opened


async def refused(call: Any) -> tuple[int, str, str]:
    """How boto3 says that a call was refused."""
    with pytest.raises(ClientError) as raised:
        await asked(call)
    told = raised.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    return status, told["Error"]["Code"], told["Error"]["Message"]


# boto3


async def test_boto3_pages_through_the_events_of_a_stack(server: Local):
    role = "AWS::IAM::Role"
    events = [
        stack_event("CREATE_COMPLETE", f"R{n}", role, f"2022-03-30T23:26:01.{n:03}Z")
        for n in range(250)
    ]
    await server.store.log.append(collected(events))
    paginator = cloudformation(server).get_paginator("describe_stack_events")

    pages = await asked(lambda: list(paginator.paginate(StackName=NAME)))

    assert [len(page["StackEvents"]) for page in pages] == [100, 100, 50]
    found = [event for page in pages for event in page["StackEvents"]]
    assert [event["LogicalResourceId"] for event in found] == [f"R{n}" for n in range(249, -1, -1)]
    assert found[0] == {
        "StackId": ARN,
        "EventId": "R249-CREATE_COMPLETE-2022-03-30T23:26:01.249Z",
        "StackName": NAME,
        "LogicalResourceId": "R249",
        "PhysicalResourceId": "",
        "ResourceType": role,
        "Timestamp": datetime(2022, 3, 30, 23, 26, 1, 249_000, UTC),
        "ResourceStatus": "CREATE_COMPLETE",
    }


async def test_boto3_describes_a_terraform_run_as_a_stack(server: Local):
    opened = await record_run(server)
    client = cloudformation(server)

    [stack] = (await asked(client.describe_stacks))["Stacks"]
    events = await asked(lambda: client.describe_stack_events(StackName=stack["StackId"]))
    resource = await asked(
        lambda: client.describe_stack_resource(
            StackName="web", LogicalResourceId="TerraformDataProv"
        )
    )
    listed = await asked(lambda: client.list_stacks(StackStatusFilter=["CREATE_COMPLETE"]))

    assert stack["StackId"].endswith(f"stack/web/{opened['stack_id']}")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert (stack["Parameters"], stack["Outputs"]) == ([], [])
    assert {event["StackId"] for event in events["StackEvents"]} == {stack["StackId"]}
    assert {event["ClientRequestToken"] for event in events["StackEvents"]} == {opened["id"]}
    assert resource["StackResourceDetail"]["ResourceStatus"] == "CREATE_COMPLETE"
    assert [each["StackName"] for each in listed["StackSummaries"]] == ["web"]


async def test_boto3_waits_for_a_stack(server: Local):
    await record_run(server)
    waiter = cloudformation(server).get_waiter("stack_create_complete")

    await asked(lambda: waiter.wait(StackName="web"))


async def test_boto3_knows_the_errors(server: Local):
    client = cloudformation(server)

    assert await refused(lambda: client.describe_stacks(StackName="nope")) == (
        400,
        "ValidationError",
        "Stack with id nope does not exist",
    )
    assert await refused(lambda: client.describe_stack_events(StackName="nope")) == (
        400,
        "ValidationError",
        "Stack [nope] does not exist",
    )
    assert (await refused(lambda: client.list_types()))[:2] == (400, "InvalidAction")


async def test_boto3_may_show_a_key(store: Store):
    stored, key = make_key(
        name="ci", groups=(), grants=[parse_grant("read:project/acme")], now=now()
    )
    async with running(store) as server:
        await server.open("web")
        await server.open("hidden", project="beta")
    await store.credentials.add(stored)

    async with running(store) as server:
        named = cloudformation(server, Credentials(headers={"X-Api-Key": key}))
        stacks = (await asked(named.describe_stacks))["Stacks"]
        refusal = await refused(cloudformation(server).describe_stacks)

    assert [stack["StackName"] for stack in stacks] == ["web"]
    # It signs, though with a pair that nobody knows.
    message = "The security token included in the request is invalid."
    assert refusal == (403, "InvalidClientTokenId", message)


# pcluster


async def test_pcluster_shows_the_events_of_a_cluster(server: Local, tmp_path: Path):
    await record_run(server)
    shown = (await server.get("/v3/clusters/web/stackevents")).json

    code, said = await pcluster(server, tmp_path, "get-cluster-stack-events", "-n", "web")

    assert code == 0
    assert said == shown


async def test_pcluster_shows_the_events_of_an_image_page_by_page(server: Local, tmp_path: Path):
    role = "AWS::IAM::Role"
    time = "2022-03-30T23:26:01.000Z"
    events = [stack_event("CREATE_COMPLETE", f"R{n}", role, time) for n in range(101)]
    await server.store.log.append(collected(events, beside=(image_scope(),)))
    command = ("get-image-stack-events", "--image-id", NAME)

    code, first = await pcluster(server, tmp_path, *command)
    _, second = await pcluster(server, tmp_path, *command, "--next-token", first["nextToken"])

    assert code == 0
    assert len(first["events"]) == 100
    assert [event["logicalResourceId"] for event in second["events"]] == ["R0"]
    assert "nextToken" not in second
    assert (
        second["events"]
        == (
            await server.get(f"/v3/images/custom/{NAME}/stackevents?nextToken={first['nextToken']}")
        ).json["events"]
    )


async def test_pcluster_shows_what_was_recorded_as_an_image_only(server: Local, tmp_path: Path):
    events = [
        {"type": "deployment.started", "source": "builder", "scopes": "image/my-image"},
        {"type": "resource.create.started", "source": "builder", "scopes": "image/my-image"},
    ]
    await server.append(events)

    code, said = await pcluster(server, tmp_path, "get-image-stack-events", "-i", "my-image")

    assert code == 0
    assert [event["resourceStatus"] for event in said["events"]] == ["CREATE_IN_PROGRESS"] * 2


async def test_pcluster_says_what_is_not_there_as_we_do(server: Local, tmp_path: Path):
    await server.store.log.append(collected(image_build()))

    image = await pcluster(server, tmp_path, "get-image-stack-events", "-i", "nope")
    cluster = await pcluster(server, tmp_path, "get-cluster-stack-events", "-n", "nope")

    assert image == (1, (await server.get("/v3/images/custom/nope/stackevents")).json)
    assert cluster == (1, (await server.get("/v3/clusters/nope/stackevents")).json)
