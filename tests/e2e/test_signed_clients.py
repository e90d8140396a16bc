"""AWS's and Huawei Cloud's own clients, with stored pairs, against a service that asks for them."""

import asyncio
import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from deploylog.auth.api_keys import make_key
from deploylog.auth.request_signing import WINDOW
from deploylog.auth.store import AccessKeyKind
from deploylog.events.access import parse_grant
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from support.awsclients import Credentials, asked, cloudformation, pcluster
from support.cloudformation import aws_environ, scripted_cloudformation
from support.factories import now
from support.forked import fork
from support.paths import ROOT
from support.servers import Answer, Local, running
from support.signing import add_key_pair, send, signed_by_botocore
from support.stacks import ARN, NAME, collected, image_build, image_scope, own_event, stack_event
from support.waiting import PATIENCE

Pair = tuple[str, str]
Keep = Callable[..., Any]

#: More than a client's clock may be off, in seconds.
TOO_MUCH = WINDOW + 60

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your"
    " AWS Secret Access Key and signing method. Consult the service documentation for details."
)
UNKNOWN_KEY = "The security token included in the request is invalid."

#: A stack of another name, and two moments.
WEB = ARN.replace(NAME, "web")
T1, T2 = "2022-03-30T23:26:21.100Z", "2022-03-30T23:26:22.100Z"

#: What fills more than one page.
ROLES = [
    stack_event("CREATE_COMPLETE", f"R{n}", "AWS::IAM::Role", f"2022-03-30T23:59:01.{n:03}Z")
    for n in range(120)
]


@pytest.fixture
def options(encryption_key_file: str) -> dict[str, Any]:
    return {
        "secret_key_file": encryption_key_file,
        "base_paths": "/prod",
        "max_failures_per_minute": 0,
    }


@pytest.fixture
def keep(store: Store, encryption_key: str) -> Keep:
    """Stores a pair of a kind, with grants."""

    async def keep(kind: AccessKeyKind, *grants: str) -> Pair:
        return await add_key_pair(store, encryption_key, kind, *grants)

    return keep


@pytest.fixture
async def pair(keep: Keep) -> Pair:
    """One of AWS's, which may read the project that the stack is in."""
    return await keep("aws", "read:project/acme", f"read:image/{NAME}")


@pytest.fixture
async def server(store: Store, options: dict[str, Any], pair: Pair) -> AsyncIterator[Local]:
    """One that asks for credentials, and has a stack that was collected from CloudFormation."""
    await store.log.append(collected([*image_build(), *ROLES], beside=(image_scope(),)))
    async with running(store, **options) as server:
        yield server


def credentials_of(pair: Pair, token: str | None = None) -> Credentials:
    return Credentials(access_key=pair[0], secret_key=pair[1], session_token=token)


async def refused(call: Callable[[], Any]) -> tuple[int, str, str]:
    """How boto3 says that a call was refused."""
    with pytest.raises(ClientError) as raised:
        await asked(call)
    response = raised.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


def calls(client: Any) -> list[Callable[[], Any]]:
    """Each of the actions, by boto3."""
    events = client.get_paginator("describe_stack_events")
    return [
        lambda: client.describe_stacks(StackName=NAME),
        lambda: list(events.paginate(StackName=NAME)),
        lambda: client.list_stacks(),
        lambda: client.describe_stack_resource(StackName=NAME, LogicalResourceId="R1"),
    ]


# boto3


@pytest.mark.parametrize("token", [None, "a session's token+/="])
async def test_boto3_reads_with_the_right_secret(server: Local, pair: Pair, token: str | None):
    client = cloudformation(server, credentials_of(pair, token))

    [stack] = (await asked(lambda: client.describe_stacks(StackName=NAME)))["Stacks"]
    events = client.get_paginator("describe_stack_events")
    pages = await asked(lambda: list(events.paginate(StackName=NAME)))
    listed = await asked(client.list_stacks)

    assert (stack["StackId"], stack["StackStatus"]) == (ARN, "ROLLBACK_COMPLETE")
    assert [len(page["StackEvents"]) for page in pages] == [100, 31]
    assert [each["StackId"] for each in listed["StackSummaries"]] == [ARN]


async def test_boto3_learns_of_a_wrong_secret(server: Local, pair: Pair):
    client = cloudformation(server, credentials_of((pair[0], pair[1][::-1])))

    told = [await refused(call) for call in calls(client)]

    assert told == [(403, "SignatureDoesNotMatch", MISMATCH)] * 4


async def test_boto3_learns_of_an_unknown_key(server: Local, keep: Keep, pair: Pair):
    of_another_kind = await keep("huawei")
    clients = [
        cloudformation(server, credentials_of(each))
        for each in (("AKIANOBODY", pair[1]), of_another_kind)
    ]

    told = [await refused(call) for client in clients for call in calls(client)]

    assert told == [(403, "InvalidClientTokenId", UNKNOWN_KEY)] * 8


@pytest.mark.parametrize("skew", [-TOO_MUCH, TOO_MUCH])
async def test_boto3_learns_that_its_clock_is_wrong(
    server: Local, pair: Pair, monkeypatch: pytest.MonkeyPatch, skew: int
):
    client = cloudformation(server, credentials_of(pair))
    off = timedelta(seconds=skew)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) + off)

    told = [await refused(call) for call in calls(client)]

    assert told == [(403, "SignatureDoesNotMatch", "Signature expired")] * 4


async def test_boto3_sees_nothing_of_what_others_may_read(server: Local, keep: Keep):
    other = await keep("aws", "read:project/other", "write:/")
    client = cloudformation(server, credentials_of(other))

    described = await asked(client.describe_stacks)
    listed = await asked(client.list_stacks)
    told = [await refused(call) for call in calls(client)[:2]]

    assert (described["Stacks"], listed["StackSummaries"]) == ([], [])
    assert told == [
        (400, "ValidationError", f"Stack with id {NAME} does not exist"),
        (400, "ValidationError", f"Stack [{NAME}] does not exist"),
    ]


async def test_a_token_that_another_was_given_shows_no_more_than_ones_own(
    server: Local, keep: Keep, pair: Pair
):
    other = cloudformation(server, credentials_of(await keep("aws", "read:project/other")))
    client = cloudformation(server, credentials_of(pair))
    page = await asked(lambda: client.describe_stack_events(StackName=ARN))

    told = await refused(
        lambda: other.describe_stack_events(StackName=ARN, NextToken=page["NextToken"])
    )

    assert told == (400, "ValidationError", f"Stack [{ARN}] does not exist")


# pcluster

IMAGE_EVENTS = ("get-image-stack-events", "--image-id", NAME)


@pytest.mark.parametrize("token", [None, "a session's token+/="])
async def test_pcluster_reads_with_the_right_secret(
    server: Local, tmp_path: Path, pair: Pair, token: str | None
):
    signed = await generated(server, pair, f"/v3/images/custom/{NAME}/stackevents")

    code, said = await pcluster(
        server, tmp_path, *IMAGE_EVENTS, credentials=credentials_of(pair, token)
    )

    assert code == 0
    assert len(said["events"]) == 100
    assert said == signed.json


async def test_pcluster_says_what_is_wrong_and_fails(
    server: Local, tmp_path: Path, keep: Keep, pair: Pair
):
    async def said(credentials: Pair) -> tuple[int, Any]:
        return await pcluster(
            server, tmp_path, *IMAGE_EVENTS, credentials=credentials_of(credentials)
        )

    assert MISMATCH in str(await failed(said((pair[0], "wrong"))))
    assert UNKNOWN_KEY in str(await failed(said(("AKIANOBODY", pair[1]))))
    assert await failed(said(await keep("aws", "read:project/other"))) == {
        "message": f"CloudFormation Stack for Image {NAME} does not exist."
    }


async def failed(said: Any) -> Any:
    code, told = await said
    assert code == 1
    return told


async def test_pcluster_learns_that_its_clock_is_wrong(
    store: Store, options: dict[str, Any], tmp_path: Path, pair: Pair
):
    late = Clock(now=lambda: now() + TOO_MUCH * SECOND)
    async with running(store, clock=late, **options) as server:
        code, said = await pcluster(
            server, tmp_path, *IMAGE_EVENTS, credentials=credentials_of(pair)
        )

    assert code == 1
    assert "Signature expired" in said["message"]


# The client that is generated from ParallelCluster's model


async def generated(
    server: Local, pair: Pair, target: str, *, token: str | None = None, **changed: str
) -> Answer:
    """The answer to a request as that client signs and sends it.

    It takes the third part between dots of host and path for the region, which of an address of
    loopback is ``0``, and signs the query as its form encoding made it.
    """
    url = server.url + target
    region = url.partition("://")[2].split(".", 3)[2]
    signed = signed_by_botocore(pair, "GET", url, region=region, token=token)
    own = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "OpenAPI-Generator/1.0.0/python",
    }
    headers = {**own, **signed, **{name.replace("_", "-"): v for name, v in changed.items()}}
    return await asyncio.to_thread(send, "GET", url, headers)


@pytest.mark.parametrize("prefix", ["", "/prod"])
@pytest.mark.parametrize("token", [None, "a session's token+/="])
async def test_the_generated_client_pages_through_an_image(
    server: Local, pair: Pair, prefix: str, token: str | None
):
    path = f"{prefix}/v3/images/custom/{NAME}/stackevents?region=us-east-1"

    first = await generated(server, pair, path, token=token)
    next_token = first.json["nextToken"]
    second = await generated(server, pair, f"{path}&nextToken={next_token}", token=token)

    assert (first.status, second.status) == (200, 200)
    assert (len(first.json["events"]), len(second.json["events"])) == (100, 31)


@pytest.mark.parametrize("prefix", ["", "/prod"])
async def test_the_generated_client_may_write_a_blank_as_a_plus(
    server: Local, pair: Pair, prefix: str
):
    path = f"{prefix}/v3/images/custom/{NAME}/stackevents"

    region = await generated(server, pair, f"{path}?region=us+east%2B1&nextToken=a+b%2Bc%2F%3D")
    token = await generated(server, pair, f"{path}?region=us-east-1&nextToken=a+b%2Bc%2F%3D")

    assert (region.status, region.json) == (
        400,
        {"message": "Bad Request: invalid or unsupported region 'us east+1'"},
    )
    assert (token.status, token.json) == (400, {"message": "Bad Request: nextToken is not valid"})


async def test_the_generated_client_asks_for_clusters_too(server: Local, pair: Pair):
    found = await generated(server, pair, f"/v3/clusters/{NAME}/stackevents?region=us-east-1")
    other = await generated(server, pair, f"/v3/clusters/{NAME}/stackevents?region=eu-west-1")

    assert (found.status, len(found.json["events"])) == (200, 100)
    assert other.status == 404, "the region in the scope, 0, is not that of the stack"


async def test_the_port_in_the_host_is_part_of_what_is_signed(server: Local, pair: Pair):
    path = f"/v3/images/custom/{NAME}/stackevents"
    host = urlsplit(server.url).netloc
    assert host == f"127.0.0.1:{server.port}"

    signed = await generated(server, pair, path, Host=host)
    others = [
        await generated(server, pair, path, Host=other)
        for other in ("127.0.0.1", "127.0.0.1:1", f"localhost:{server.port}", f"{host} ")
    ]

    assert signed.status == 200
    # A blank at the end of a header's value is no part of it.
    assert [answer.status for answer in others] == [403, 403, 403, 200]
    assert others[0].headers["x-amzn-errortype"] == "InvalidSignatureException"


async def test_the_session_token_is_part_of_what_is_signed(server: Local, pair: Pair):
    path = f"/v3/images/custom/{NAME}/stackevents"

    signed = await generated(server, pair, path, token="one")
    another = await generated(server, pair, path, token="one", X_Amz_Security_Token="two")

    assert signed.status == 200
    assert another.status == 403
    assert another.headers["x-amzn-errortype"] == "InvalidSignatureException"


async def test_a_session_token_that_was_signed_must_be_sent(server: Local, pair: Pair):
    url = f"{server.url}/v3/images/custom/{NAME}/stackevents"
    headers = signed_by_botocore(pair, "GET", url, token="one")
    assert "x-amz-security-token" in headers["Authorization"]
    del headers["X-Amz-Security-Token"]

    answer = await asyncio.to_thread(send, "GET", url, headers)

    assert answer.status == 403
    assert answer.headers["x-amzn-errortype"] == "IncompleteSignatureException"


# Huawei Cloud's SDK


async def test_huaweis_sdk_lists_what_was_collected_from_cloudformation(
    server: Local, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Importing the SDK writes into the home directory.
    monkeypatch.setenv("HOME", str(tmp_path))
    aksk = await keep("huawei", "read:project/acme")

    found = await listed(server, aksk, filter="event_type==CREATION_FAILED")

    [event] = found.stack_events
    assert event.resource_type == "AWS::ImageBuilder::Image"
    assert event.resource_name == "ParallelClusterImage"
    assert event.event_message.startswith('Phase "build" <failed>')


async def test_huaweis_sdk_sees_nothing_of_what_others_may_read(
    server: Local, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as of_others:
        await listed(server, await keep("huawei", "read:project/other"))
    with pytest.raises(ClientRequestException) as of_aws:
        await listed(server, await keep("aws", "read:project/acme"))

    assert (of_others.value.status_code, of_others.value.error_code) == (403, "RF.10012507")
    assert (of_aws.value.status_code, of_aws.value.error_code) == (401, "APIGW.0301")
    assert of_aws.value.error_msg.endswith("Get secretKey failed,err:ak not exist")


async def listed(server: Local, aksk: Pair, *, stack: str = NAME, **how: Any) -> Any:
    """What the SDK lists of the stack's events."""
    from huaweicloudsdkaos.v1 import AosClient, ListStackEventsRequest
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    credentials = BasicCredentials(*aksk, "acme")
    client = AosClient.new_builder().with_credentials(credentials).with_endpoint(server.url).build()
    request = ListStackEventsRequest(client_request_id=str(uuid.uuid4()), stack_name=stack, **how)
    return await asked(lambda: client.list_stack_events(request))


# What the documentation says

PAGE = ROOT / "docs" / "how-to" / "read-with-boto3-and-pcluster.md"


async def test_the_documented_program_reads_with_a_pair(
    store: Store, options: dict[str, Any], pair: Pair, tmp_path: Path
):
    created = [
        own_event("CREATE_IN_PROGRESS", T1, arn=WEB),
        own_event("CREATE_COMPLETE", T2, arn=WEB),
    ]
    await store.log.append(collected(created, arn=WEB))
    [example] = [text for text in PAGE.read_text().split("```") if "boto3.client(" in text]
    environment = {
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AWS_ACCESS_KEY_ID": pair[0],
        "AWS_SECRET_ACCESS_KEY": pair[1],
    }

    async with running(store, **options) as server:
        program = example.removeprefix("python\n").replace("http://127.0.0.1:8325", server.url)
        code, said = await run(sys.executable, "-c", program, environment=environment)

    assert code == 0
    assert [line.split()[-2:] for line in said.splitlines()] == [
        ["CREATE_COMPLETE", "web"],
        ["CREATE_IN_PROGRESS", "web"],
    ]


async def test_curl_signs_as_the_documentation_says(server: Local, pair: Pair):
    [option] = re.findall(r"`(--aws-sigv4 \S+) --user ", PAGE.read_text())
    target = f"/prod/v3/images/custom/{NAME}/stackevents?region=us-east-1"

    code, said = await run(
        "curl", "--silent", "--fail", *option.split(), "--user", ":".join(pair),
        server.url + target,
    )  # fmt: skip
    refused, _ = await run(
        "curl", "--silent", "--fail", *option.split(), "--user", f"{pair[0]}:wrong",
        server.url + target,
    )  # fmt: skip

    assert (code, refused) == (0, 22)
    assert len(json.loads(said)["events"]) == 100


async def run(*command: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


# From CloudFormation to every client


async def test_a_stack_that_is_collected_is_the_same_to_every_client_that_signs(
    store: Store, options: dict[str, Any], keep: Keep, pair: Pair, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    writer = await keep_key(store, "read:project/acme", "write:project/acme", "write:cluster/hpc")
    tags = {
        "parallelcluster:cluster-name": "hpc",
        "parallelcluster:version": "3.11.0",
    }
    async with scripted_cloudformation() as aws, running(store, **options) as server:
        stack = aws.stack("hpc", tags=tags)
        stack.own("CREATE_IN_PROGRESS", 0)
        stack.add("HeadNode", "CREATE_FAILED", 1, resource_status_reason="no capacity")
        stack.own("ROLLBACK_IN_PROGRESS", 2)
        stack.own("ROLLBACK_COMPLETE", 3)
        environment = {
            "DEPLOYLOG_SERVER": server.url,
            "DEPLOYLOG_KEY": writer,
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **aws_environ(aws.url),
        }
        collector = ("collect", "cloudformation", "--stack", "hpc", "--project", "acme")
        collecting = await fork(*collector, "--interval", "0.1", environ=environment)
        await collecting.communicate()

        client = cloudformation(server, credentials_of(pair))
        [described] = (await asked(lambda: client.describe_stacks(StackName="hpc")))["Stacks"]
        by_boto3 = await asked(lambda: client.describe_stack_events(StackName="hpc"))
        exit_code, by_pcluster = await pcluster(
            server, tmp_path, "get-cluster-stack-events", "-n", "hpc", "-r", "eu-west-1",
            credentials=credentials_of(pair),
        )  # fmt: skip
        by_generated = await generated(
            server, pair, "/v3/clusters/hpc/stackevents?region=eu-west-1"
        )
        by_huawei = await listed(server, await keep("huawei", "read:project/acme"), stack="hpc")

    ids = [event.event_id for event in reversed(stack.events)]
    assert collecting.returncode == 1, "the stack has failed"
    assert {tag["Key"]: tag["Value"] for tag in described["Tags"]} == tags
    assert [event["EventId"] for event in by_boto3["StackEvents"]] == ids
    assert [event["eventId"] for event in by_generated.json["events"]] == ids
    assert (exit_code, [event["eventId"] for event in by_pcluster["events"]]) == (0, ids)
    # The command line passes on what CloudFormation says; the API's model lacks rollbacks.
    assert by_pcluster["events"][0]["resourceStatus"] == "ROLLBACK_COMPLETE"
    assert by_generated.json["events"][0]["resourceStatus"] == "DELETE_COMPLETE"
    failed = [e.event_message for e in by_huawei.stack_events if e.event_type == "CREATION_FAILED"]
    assert failed == ["no capacity"]


async def keep_key(store: Store, *grants: str) -> str:
    granted = [parse_grant(grant) for grant in grants]
    stored, key = make_key(name="collector", groups=(), grants=granted, now=now())
    await store.credentials.add(stored)
    return key
