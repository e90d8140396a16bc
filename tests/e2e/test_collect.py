"""Collecting from a CloudFormation: scripted ones with all their faults, and moto's."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.ingest.cloudformation.parsing import parse_stack_event
from deploylog.ingest.cloudformation.stack_event import STACK_TYPE
from deploylog.store.contract import Store
from support.awsclients import asked, cloudformation
from support.cloudformation import (
    ScriptedCloudFormation,
    ScriptedStack,
    arn_of,
    aws_environ,
    own_ids,
    scripted_cloudformation,
    stack_event,
)
from support.factories import now
from support.forked import Forked, fork
from support.paths import SAMPLES
from support.servers import Local, running
from support.sns import envelope
from support.waiting import PATIENCE, until

CASES = SAMPLES / "cases"


class Collected:
    """How a collector ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Collector:
    """The command, in a process of its own."""

    def __init__(self, server: str, cloudformation: str, home: Path) -> None:
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(home),
            "DEPLOYLOG_SERVER": server,
            "DEPLOYLOG_PROJECT": "acme",
            **aws_environ(cloudformation),
        }

    async def __call__(self, *args: str, stack: str = "web") -> Collected:
        """Collect to the end."""
        async with self.running(*args, stack=stack) as process:
            return await ended(process)

    @asynccontextmanager
    async def running(self, *args: str, stack: str = "web") -> AsyncIterator[Forked]:
        process = await fork(
            "collect", "cloudformation", "--stack", stack, "--interval", "0.1", *args,
            environ=self.environ,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            await process.communicate()


async def said(process: Forked, words: str) -> None:
    """Wait until the process says so."""
    async with asyncio.timeout(PATIENCE):
        while words not in (line := (await process.stderr.readline()).decode()):
            assert line, "it ended"


async def ended(process: Forked) -> Collected:
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Collected(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


@pytest.fixture
async def aws() -> AsyncIterator[ScriptedCloudFormation]:
    async with scripted_cloudformation() as aws:
        yield aws


@pytest.fixture
def collect(server: Local, aws: ScriptedCloudFormation, tmp_path: Path) -> Collector:
    return Collector(server.url, aws.url, tmp_path)


async def logged(server: Local, query: str = "") -> list[Any]:
    """The events that were collected, oldest first."""
    events: list[Any] = []
    after = ""
    while True:
        path = f"/log/v1/events?source=cloudformation&order=oldest&limit=1000{query}{after}"
        page = (await server.get(path)).json
        events += page["events"]
        if "next" not in page:
            return events
        after = f"&after={page['next']}"


async def ids(server: Local) -> list[str]:
    """CloudFormation's ids of what was collected, in the log's order."""
    return [event["producerid"] for event in await logged(server) if event["type"][:6] != "stack."]


async def deployments(server: Local) -> list[Any]:
    """Newest first."""
    return (await server.get("/log/v1/deployments?project=acme")).json["deployments"]


async def test_the_reason_of_a_hook_is_collected(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    [(arn, told)] = json.loads((CASES / "cfn-hook-failed.json").read_bytes()).items()
    stack = ScriptedStack(arn, {})
    stack.events = [parse_stack_event(event) for event in reversed(told["events"])]
    aws.stacks.append(stack)

    collected = await collect(stack="guarded")

    reason = "Hook failed with message: the rule bucket_is_encrypted failed"
    assert collected.code == 1
    assert f"create of guarded failed: {reason}" in collected.err
    events = await logged(server)
    assert [event["type"] for event in events].count("resource.create.started") == 1
    [refused] = [event for event in events if event["type"] == "deployment.error"]
    assert (refused["message"], refused["data"]["HookStatusReason"]) == (reason, reason)
    [deployment] = await deployments(server)
    assert (deployment["status"], deployment["message"]) == ("failed", reason)
    client = cloudformation(server)
    shown = await asked(lambda: client.describe_stack_events(StackName="guarded"))
    pages = shown["StackEvents"]
    assert [event["HookStatusReason"] for event in pages if "HookStatusReason" in event] == [
        reason,
        "Invoking hook",
    ]


def create(stack: ScriptedStack, *, start: float = 0, buckets: int = 3) -> None:
    """A create that goes well."""
    stack.own("CREATE_IN_PROGRESS", start, resource_status_reason="User Initiated")
    for number in range(buckets):
        at = start + 1 + number / 1000
        stack.add(f"Bucket{number}", "CREATE_IN_PROGRESS", at, physical_resource_id="")
        stack.add(f"Bucket{number}", "CREATE_COMPLETE", at + buckets)
    stack.own("CREATE_COMPLETE", start + 2 * buckets + 2)


def update(stack: ScriptedStack, *, start: float) -> None:
    stack.own("UPDATE_IN_PROGRESS", start)
    stack.add("Bucket0", "UPDATE_IN_PROGRESS", start + 1)
    stack.add("Bucket0", "UPDATE_COMPLETE", start + 2)
    stack.own("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", start + 3)
    stack.own("UPDATE_COMPLETE", start + 4)


async def test_a_create_is_one_deployment_of_a_stack(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    create(aws.stack())

    collected = await collect()

    [deployment] = await deployments(server)
    [stack] = (await server.get("/log/v1/stacks?project=acme")).json["stacks"]
    assert (collected.code, stack["name"]) == (0, "web"), collected.err
    assert (deployment["status"], deployment["tool"]) == ("completed", "cloudformation")
    assert deployment["operation"] == "create"
    assert deployment["counts"] == {"added": 3, "changed": 0, "destroyed": 0, "failed": 0}
    assert await ids(server) == own_ids(aws.stacks[0].events)


async def test_every_event_is_collected_once_over_many_pages_throttles_and_reorderings(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    create(stack, buckets=120)
    aws.page_size, aws.throttled, aws.shuffles = 7, 2, True

    collected = await collect()

    assert collected.code == 0, collected.err
    assert "Rate exceeded" in collected.err
    assert await ids(server) == own_ids(stack.events)


async def test_what_a_proxy_answers_in_place_of_aws_is_tried_again(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    create(aws.stack())
    aws.proxied = [200, 502]

    collected = await collect()

    assert collected.code == 0, collected.err
    assert "Traceback" not in collected.err
    assert await ids(server) == own_ids(aws.stacks[0].events)


async def test_a_throttled_collector_waits_as_long_as_required(
    aws: ScriptedCloudFormation, collect: Collector
):
    create(aws.stack())
    aws.throttled, aws.retry_after = 1, 2
    begun = now()

    collected = await collect()

    assert collected.code == 0, collected.err
    assert now() - begun >= 2_000_000_000


async def test_a_failed_operation_is_known_by_the_exit_code(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    stack.own("CREATE_IN_PROGRESS", 0)
    stack.add("Bucket", "CREATE_FAILED", 1, resource_status_reason="Bucket exists")
    stack.own("ROLLBACK_IN_PROGRESS", 2, resource_status_reason="Rollback requested by user.")
    stack.add("Bucket", "DELETE_COMPLETE", 3)
    stack.own("ROLLBACK_COMPLETE", 4)

    collected = await collect()

    [deployment] = await deployments(server)
    types = [event["type"] for event in await logged(server)]
    assert collected.code == 1
    assert collected.err.endswith("deploylog: create of web failed: Bucket exists\n")
    assert (deployment["status"], deployment["message"]) == ("failed", "Bucket exists")
    assert types == [
        "stack.created",
        "deployment.started",
        "resource.create.failed",
        "deployment.log",
        "resource.delete.completed",
        "deployment.failed",
    ]


async def test_an_operation_is_followed_to_its_end_and_late_events_are_found(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    stack.own("CREATE_IN_PROGRESS", 0)
    stack.add("Bucket", "CREATE_IN_PROGRESS", 2)
    async with collect.running() as process:
        await until(lambda: _has(server, 2))

        late = stack_event(stack.arn, "Queue", "CREATE_IN_PROGRESS", 1)
        stack.events.insert(1, late)
        await until(lambda: _has(server, 3))
        stack.add("Queue", "CREATE_COMPLETE", 3)
        stack.own("CREATE_COMPLETE", 4)
        collected = await ended(process)

    assert collected.code == 0, collected.err
    recorded = await ids(server)
    assert sorted(recorded) == sorted(own_ids(stack.events))
    assert recorded[2] == late.event_id


async def _has(server: Local, number: int) -> bool:
    return len(await ids(server)) >= number


async def test_a_collector_that_is_killed_goes_on_where_the_log_ends(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    stack.own("CREATE_IN_PROGRESS", 0)
    for number in range(1, 1201):
        stack.add(f"Bucket{number}", "CREATE_IN_PROGRESS", number / 10)
    for kills in range(3):
        async with collect.running() as process:
            await until(partial(_has, server, 1 + 500 * kills))
            process.send_signal(signal.SIGKILL)
            await process.wait()
        stack.add(f"Queue{kills}", "CREATE_COMPLETE", 130 + kills)
    stack.own("CREATE_COMPLETE", 140)
    aws.requests.clear()

    collected = await collect()

    assert collected.code == 0, collected.err
    assert await ids(server) == own_ids(stack.events)
    [deployment] = await deployments(server)
    assert (deployment["status"], deployment["counts"]["added"]) == ("completed", 3)


async def test_a_restart_reads_no_more_than_the_last_minute(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    create(stack, buckets=500)
    await collect()
    update(stack, start=5_000)
    aws.requests.clear()

    await collect()

    assert aws.requests.count("DescribeStackEvents") == 2
    assert await ids(server) == own_ids(stack.events)
    assert [each["operation"] for each in await deployments(server)] == ["update", "create"]


async def test_two_collectors_record_each_event_once(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    create(aws.stack(), buckets=300)

    both = await asyncio.gather(collect(), collect())

    assert [each.code for each in both] == [0, 0], both[0].err + both[1].err
    assert sorted(await ids(server)) == sorted(own_ids(aws.stacks[0].events))
    assert len(await deployments(server)) == 1


async def test_what_happens_in_nested_stacks_is_in_the_deployment_of_the_outermost(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    root, inner, deep = (aws.stack(name, number) for number, name in enumerate("abc"))
    for outer, nested in ((root, inner), (inner, deep)):
        outer.own("CREATE_IN_PROGRESS", nested is deep)
        fields: dict[str, str] = {"resource_type": STACK_TYPE, "event_id": f"{outer.name}-first"}
        outer.add("Nested", "CREATE_IN_PROGRESS", 2, **fields, physical_resource_id="")
        fields |= {"physical_resource_id": nested.arn, "event_id": f"{outer.name}-second"}
        outer.add("Nested", "CREATE_IN_PROGRESS", 3, **fields)
    deep.own("CREATE_IN_PROGRESS", 4)
    deep.add("Bucket", "CREATE_COMPLETE", 5)
    deep.own("CREATE_COMPLETE", 6)
    for outer, nested in ((inner, deep), (root, inner)):
        seconds = 7 + 2 * (outer is root)
        outer.add("Nested", "CREATE_COMPLETE", seconds, resource_type=STACK_TYPE,
                  physical_resource_id=nested.arn)  # fmt: skip
        outer.own("CREATE_COMPLETE", seconds + 1)

    collected = await collect(stack="a")

    [deployment] = await deployments(server)
    events = await logged(server)
    told = [*root.events, *inner.events, *deep.events]
    assert collected.code == 0, collected.err
    assert sorted(await ids(server)) == sorted(event.event_id for event in told)
    assert [event["time"] for event in events[1:]] == sorted(event["time"] for event in events[1:])
    assert {event["scopes"] for event in events[1:]} == {deployment["scopes"][0]}
    assert deployment["counts"]["added"] == 3
    assert [e["resourceaddress"] for e in events if e["subject"] == "Bucket"] == ["c/Bucket"]


async def test_a_nested_stack_is_read_on_after_a_restart(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    root, inner = aws.stack("a", 1), aws.stack("b", 2)
    root.own("CREATE_IN_PROGRESS", 0)
    root.add("Nested", "CREATE_IN_PROGRESS", 1, resource_type=STACK_TYPE,
             physical_resource_id=inner.arn)  # fmt: skip
    inner.own("CREATE_IN_PROGRESS", 1)
    inner.add("Bucket", "CREATE_IN_PROGRESS", 500)
    async with collect.running(stack="a") as process:
        await until(lambda: _has(server, 4))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    inner.add("Bucket", "CREATE_COMPLETE", 900)
    async with collect.running(stack="a"):
        await until(lambda: _has(server, 5))

    assert len(await deployments(server)) == 1


async def test_a_stack_that_is_deleted_frees_its_name(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    create(stack)
    stack.own("DELETE_IN_PROGRESS", 1_000)
    async with collect.running() as process:
        await until(lambda: _has(server, len(stack.events)))

        stack.add("Bucket0", "DELETE_COMPLETE", 1_001)
        stack.own("DELETE_COMPLETE", 1_002)
        collected = await ended(process)

    assert collected.code == 0, collected.err
    assert (await server.get("/log/v1/stacks?project=acme")).json["stacks"] == []
    assert [each["operation"] for each in await deployments(server)] == ["delete", "create"]
    assert await ids(server) == own_ids(stack.events)


async def test_a_stack_recreated_between_two_polls_is_another(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    first = aws.stack(number=1)
    create(first)
    await collect()
    first.own("DELETE_IN_PROGRESS", 1_000)
    first.own("DELETE_COMPLETE", 1_001)
    second = aws.stack(number=2)
    create(second, start=2_000)

    collected = await collect()

    stacks = (await server.get("/log/v1/stacks?project=acme&deleted=true")).json["stacks"]
    assert collected.code == 0, collected.err
    assert [(s["name"], s["deleted"] is None) for s in stacks] == [("web", True), ("web", False)]
    assert await ids(server) == own_ids([*first.events, *second.events])


async def test_stacks_of_one_name_in_two_regions_are_two(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    here, there = aws.stack(), aws.stack()
    there.arn = arn_of("web", region="us-east-1")
    for stack in (here, there):
        create(stack)

    codes = [(await collect(stack=stack.arn)).code for stack in (here, there)]

    names = [s["name"] for s in (await server.get("/log/v1/stacks?project=acme")).json["stacks"]]
    assert codes == [0, 0]
    assert sorted(names) == ["web", f"web/{there.arn.rpartition('/')[2]}"]
    assert len(await ids(server)) == len(here.events) + len(there.events)


async def test_a_stack_is_awaited_and_followed_from_one_life_to_the_next(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    async with collect.running("--follow") as process:
        await said(process, "has no stack 'web' yet; waiting")
        first = aws.stack(number=1)
        create(first)
        await until(lambda: _has(server, len(first.events)))
        first.own("DELETE_IN_PROGRESS", 100)
        first.own("DELETE_COMPLETE", 101)
        await until(lambda: _has(server, len(first.events)))
        second = aws.stack(number=2)
        create(second, start=200)
        await until(lambda: _has(server, len(first.events) + len(second.events)))
        process.send_signal(signal.SIGINT)
        collected = await ended(process)

    assert collected.code == 0, collected.err
    assert await ids(server) == own_ids([*first.events, *second.events])


async def test_an_interrupt_ends_the_collector_while_aws_is_silent(server: Local, tmp_path: Path):
    asked, answer = asyncio.Event(), asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer.wait()
        writer.close()

    silent = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, Collector(server.url, url, tmp_path).running() as process:
        async with asyncio.timeout(PATIENCE):
            await asked.wait()

        process.send_signal(signal.SIGINT)
        collected = await ended(process)

        answer.set()
    assert collected.code == 128 + signal.SIGINT
    assert collected.err == "deploylog: interrupted; everything read so far is recorded\n"


async def test_tags_say_which_cluster_or_image_it_is(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    tags = {
        "parallelcluster:cluster-name": "hpc",
        "parallelcluster:image_id": "alinux",
    }
    create(aws.stack(tags=tags))
    await collect("--cluster", "other")

    counts = [
        len(await logged(server, f"&scope={scope}"))
        for scope in ("image/alinux", "cluster/other", "cluster/hpc")
    ]

    assert counts == [8, 8, 0]


async def test_clients_of_cloudformation_see_the_stacks_own_tags(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    tags = {
        "parallelcluster:version": "3.11.1",
        "parallelcluster:cluster-name": "hpc",
        "k": "<v>",
    }
    create(aws.stack(tags=tags))
    await collect()
    client = cloudformation(server)

    answer = await asked(lambda: client.describe_stacks(StackName="web"))

    [stack] = answer["Stacks"]
    assert {tag["Key"]: tag["Value"] for tag in stack["Tags"]} == tags


async def test_the_service_may_be_away_for_a_while(
    store: Store, aws: ScriptedCloudFormation, tmp_path: Path
):
    stack = aws.stack()
    stack.own("CREATE_IN_PROGRESS", 0)
    async with AsyncExitStack() as collecting:
        async with running(store) as server:
            collect = Collector(server.url, aws.url, tmp_path)
            process = await collecting.enter_async_context(collect.running())
            await until(lambda: _has(server, 1))
        stack.add("Bucket", "CREATE_COMPLETE", 1)
        stack.own("CREATE_COMPLETE", 2)
        await said(process, "retrying")
        async with running(store, port=server.port) as server:
            collected = await ended(process)
            recorded = await ids(server)

    assert collected.code == 0, collected.err
    assert recorded == own_ids(stack.events)


async def test_a_key_that_may_write_only_the_project_is_enough_to_write_and_read_it(
    store: Store, server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    create(aws.stack())
    grants = [parse_grant("read:project/acme"), parse_grant("write:project/acme")]
    stored, key = make_key(name="ci", groups=(), grants=grants, now=now())
    await store.credentials.add(stored)
    collect.environ["DEPLOYLOG_KEY"] = key

    collected = await collect()

    assert collected.code == 0, collected.err
    assert key not in collected.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--stack", "nothing"), "CloudFormation has no stack 'nothing'"),
        (("--stack", "arn:aws:what"), "'arn:aws:what' is not the id of a stack"),
    ],
)
async def test_what_is_not_there_is_one_plain_line(collect: Collector, args: Any, said: str):
    collected = await collect(*args)

    assert collected.code in (1, 2)
    assert collected.err == f"deploylog: {said}\n"


async def test_an_aws_that_does_not_answer_is_one_plain_line(server: Local, tmp_path: Path):
    collect = Collector(server.url, "http://127.0.0.1:1", tmp_path)

    collected = await collect("--retry-timeout", "1")

    first, last = collected.err.splitlines()
    assert collected.code == os.EX_TEMPFAIL
    assert first == f"{last}; retrying for up to 1 s"
    assert last.startswith("deploylog: no response from CloudFormation (")


async def test_missing_credentials_are_one_plain_line(collect: Collector):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del collect.environ[name]

    collected = await collect()

    assert collected.code == 2
    assert collected.err.startswith("deploylog: cannot use CloudFormation: ")
    assert collected.err.count("\n") == 1


async def test_a_missing_boto3_is_one_plain_line(collect: Collector, tmp_path: Path):
    (tmp_path / "boto3.py").write_text("raise ImportError(\"No module named 'boto3'\")\n")
    path = f"{tmp_path}{os.pathsep}{collect.environ['PYTHONPATH']}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploylog", "collect", "cloudformation", "--stack", "web",
        stderr=asyncio.subprocess.PIPE, env={**collect.environ, "PYTHONPATH": path},
    )  # fmt: skip

    _, said = await process.communicate()

    assert process.returncode == 2
    assert said.decode() == (
        "deploylog: boto3 is not installed (No module named 'boto3'):"
        " run pip install 'deploylog[aws]'\n"
    )


# Moto's CloudFormation, by the real boto3


@pytest.fixture
async def moto() -> AsyncIterator[str]:
    """The address of a moto server in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while b"Running on " not in (line := await process.stderr.readline()):
                assert line, "moto did not start"
        yield line.decode().split("Running on ")[1].strip()
    finally:
        process.kill()
        await process.communicate()


def template(*buckets: str) -> str:
    resources = {name: {"Type": "AWS::S3::Bucket"} for name in buckets}
    return json.dumps({"Resources": resources})


def by_key(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


async def test_motos_stacks_are_collected_through_all_their_life(
    server: Local, moto: str, tmp_path: Path
):
    client = boto3.client(
        "cloudformation",
        endpoint_url=moto,
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    collect = Collector(server.url, moto, tmp_path)
    tags = [
        {"Key": "parallelcluster:cluster-name", "Value": "hpc"},
        {"Key": "parallelcluster:version", "Value": "3.12.0"},
    ]
    ours = cloudformation(server)

    arn = client.create_stack(StackName="web", TemplateBody=template("A"), Tags=tags)["StackId"]
    codes = [(await collect()).code]
    for buckets in (("A", "B"), ("B",)):
        client.update_stack(StackName="web", TemplateBody=template(*buckets), Tags=tags)
    codes.append((await collect()).code)
    [theirs] = (await asked(lambda: client.describe_stacks(StackName="web")))["Stacks"]
    [described] = (await asked(lambda: ours.describe_stacks(StackName=arn)))["Stacks"]
    client.delete_stack(StackName="web")
    codes.append((await collect()).code)

    told = client.describe_stack_events(StackName=arn)["StackEvents"]
    shown = (await asked(lambda: ours.describe_stack_events(StackName=arn)))["StackEvents"]
    for field in ("StackId", "StackName", "StackStatus"):
        assert described[field] == theirs[field]
    assert by_key(described["Tags"]) == by_key(theirs["Tags"]) == by_key(tags)
    assert [event["EventId"] for event in shown] == [event["EventId"] for event in told]
    assert codes == [0, 0, 0]
    assert await ids(server) == [event["EventId"] for event in reversed(told)]
    assert [(d["operation"], d["status"]) for d in await deployments(server)] == [
        (operation, "completed") for operation in ("delete", "update", "update", "create")
    ]
    assert len(await logged(server, "&scope=cluster/hpc")) == len(told)
    assert (await server.get("/log/v1/stacks?project=acme")).json["stacks"] == []


# With others that tell of the same


async def test_what_eventbridge_reported_before_is_not_collected_again(
    server: Local, aws: ScriptedCloudFormation, collect: Collector
):
    stack = aws.stack()
    create(stack)
    told = [("web", "CREATE_IN_PROGRESS", "12:00:00Z"), ("Bucket0", "CREATE_COMPLETE", "12:00:04Z")]
    for number, (logical, status, time) in enumerate(told):
        event = envelope(
            stack.arn,
            status,
            logical=logical if logical != "web" else None,
            reason="User Initiated" if logical == "web" else "",
            id=f"e-{number}",
            time=f"2026-03-01T{time}",
        )
        path = "/log/v1/ingest/eventbridge?project=acme"
        assert (await server.post(event, "application/json", path)).status == 201

    collected = await collect()

    [deployment] = await deployments(server)
    assert collected.code == 0, collected.err
    assert deployment["counts"]["added"] == 3
    assert len(await ids(server)) == len(stack.events)
    assert len([id for id in await ids(server) if id.startswith("eventbridge/")]) == 2
