"""Clients that others wrote, as they call the service: each says what it was told.

Huawei Cloud's SDK, boto3 and ParallelCluster's command line list the events of a stack. Escape is
used by curl, and Bluelink by the requests that its own client makes.
"""

import asyncio
import json
import os
import re
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import boto3
import msgspec
from bench.servers import ROOT, Unavailable
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PROJECT, STACK, REGION = "acme", "web", "us-east-1"

#: What the producer writes into the message of an event: its number.
MESSAGE = re.compile(r"number (\d+)")

#: ParallelCluster's command line, in an environment of its own: see the Makefile.
_PCLUSTER = ROOT / ".venv-pcluster" / "bin" / "pcluster"

#: How often Bluelink's client sends a request, and the seconds between two tries.
_BLUELINK_TRIES, _BLUELINK_SECONDS = 5, 1.0

_BLUELINK_ENDS = ("changeStagingComplete", "driftDetected", "error")


class CallFailed(Exception):
    """A client gave up; the message is what it said."""


class Saw(msgspec.Struct):
    """What a client saw."""

    calls: int = 0
    #: Tries beyond the first that the client made by itself, and calls that it gave up.
    retries: int = 0
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    #: Seconds of the slowest call.
    slowest: float = 0.0
    faults: list[str] = msgspec.field(default_factory=list)

    async def call(self, ask: Callable[[], Any]) -> Any:
        """Call, in a thread; ``None`` when the client gives up."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.calls += 1
        try:
            return await asyncio.to_thread(ask)
        except CallFailed as error:
            self.failed[str(error)] += 1
            return None
        finally:
            self.slowest = max(self.slowest, loop.time() - start)


class Lister(Protocol):
    """A client that lists a stack's events."""

    name: str
    saw: Saw

    def numbers(self, url: str) -> list[int]:
        """The numbers of all events, oldest first. Raises CallFailed."""


class HuaweiSdk:
    """``ListStackEvents``, page by page."""

    name = "huaweicloudsdkaos"

    def __init__(self, home: Path) -> None:
        # Importing the SDK writes into the home directory.
        os.environ["HOME"] = str(home)
        from huaweicloudsdkaos.v1 import AosClient, ListStackEventsRequest
        from huaweicloudsdkcore.auth.credentials import BasicCredentials
        from huaweicloudsdkcore.exceptions.exceptions import SdkException

        self.saw = Saw()
        self._new_request = ListStackEventsRequest
        self._error = SdkException
        self._builder = lambda: AosClient.new_builder().with_credentials(
            BasicCredentials("ak", "sk", PROJECT)
        )

    def numbers(self, url: str) -> list[int]:
        client = self._builder().with_endpoint(url).build()
        messages: list[str] = []
        marker = None
        while True:
            request = self._new_request(
                client_request_id=str(uuid.uuid4()), stack_name=STACK, limit=50, marker=marker
            )
            try:
                page = client.list_stack_events(request)
            except self._error as error:
                raise CallFailed(f"HTTP {getattr(error, 'status_code', error)}") from error
            messages += [event.event_message or "" for event in page.stack_events]
            marker = getattr(page.page_info, "next_marker", None)
            if marker is None:
                return _numbers(messages)


class Boto3:
    """``DescribeStackEvents``, by its paginator, and its waiter for the end of the stack."""

    name = "boto3"

    def __init__(self) -> None:
        self.saw = Saw()

    def numbers(self, url: str) -> list[int]:
        pages = _cloudformation(url).get_paginator("describe_stack_events")
        events: list[Any] = []
        try:
            for page in pages.paginate(StackName=STACK):
                self.saw.retries += page["ResponseMetadata"]["RetryAttempts"]
                events += page["StackEvents"]
        except (ClientError, BotoCoreError) as error:
            raise CallFailed(_words_of(error)) from error
        return _numbers(event.get("ResourceStatusReason", "") for event in events)

    @staticmethod
    def wait(url: str) -> None:
        """Wait until the stack is created. Raises CallFailed."""
        waiter = _cloudformation(url).get_waiter("stack_create_complete")
        try:
            waiter.wait(StackName=STACK, WaiterConfig={"Delay": 2, "MaxAttempts": 90})
        except (ClientError, BotoCoreError) as error:
            raise CallFailed(_words_of(error)) from error


def _words_of(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"HTTP {error.response['ResponseMetadata']['HTTPStatusCode']}"
    return type(error).__name__


def _cloudformation(url: str) -> Any:
    session = boto3.Session(
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret", region_name=REGION
    )
    # With the retries that it makes by default.
    return session.client("cloudformation", endpoint_url=url, config=Config(read_timeout=60))


class Pcluster:
    """``pcluster get-cluster-stack-events``, a process for each page."""

    name = "pcluster"

    def __init__(self, home: Path) -> None:
        if not _PCLUSTER.exists():
            raise Unavailable("pcluster is not here: make .venv-pcluster/.ready")
        self.saw = Saw()
        self._home = home

    def numbers(self, url: str) -> list[int]:
        events: list[Any] = []
        token: str | None = ""
        while token is not None:
            page = self._page(url, *(("--next-token", token) if token else ()))
            events += page["events"]
            token = page.get("nextToken")
        return _numbers(event.get("resourceStatusReason", "") for event in events)

    def _page(self, url: str, *more: str) -> Any:
        environment = {
            "PATH": str(_PCLUSTER.parent),
            "HOME": str(self._home),
            "AWS_ENDPOINT_URL_CLOUDFORMATION": url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = (str(_PCLUSTER), "get-cluster-stack-events", "-n", STACK, *more)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CallFailed(f"exit code {done.returncode}: {done.stdout[:100]!r}")
        return json.loads(done.stdout)


class Escape:
    """curl, which creates an event or lists what was created."""

    name = "Escape by curl"

    def __init__(self) -> None:
        self.saw = Saw()
        self._known = 0

    def create(self, url: str, number: int) -> None:
        """Create the event with this number. Raises CallFailed."""
        event = {
            "type": "UPDATE_STATE_DEPLOYMENT",
            "state_project": PROJECT,
            "state_environment": "prod",
            "state_deployment": STACK,
            "username": "ann",
            "data": {"message": f"number {number}"},
        }
        json_type = ("-H", "Content-Type: application/json")
        self._curl(f"{url}/internal/create-event", *json_type, "-d", json.dumps(event))

    def numbers(self, url: str) -> list[int]:
        query = f"{url}/api/v1/events/query/project/{PROJECT}/?page_size=1000"
        events = json.loads(self._curl(query))
        return _numbers(event.get("data", {}).get("message", "") for event in events)

    def _curl(self, *words: str) -> str:
        command = ("curl", "--silent", "--show-error", "--fail", "--retry", "8", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.saw.retries += done.stderr.count("Will retry")
        if done.returncode:
            raise CallFailed(f"exit code {done.returncode}: {done.stderr.strip()[-80:]}")
        return done.stdout


class Bluelink:
    """Stages a plan and follows its stream, as Bluelink's client does."""

    name = "Bluelink's wire"

    def __init__(self, http: aiohttp.ClientSession, plan: Path, resources: int) -> None:
        self.saw = Saw()
        #: How often a stream was resumed.
        self.resumed = 0
        self._http = http
        self._plan = plan
        self._resources = resources

    async def stage(self, urls: Sequence[str]) -> None:
        """Stage the plan and follow it to its end, at one service after the other."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.saw.calls += 1
        id = await self._post(urls)
        if id is not None:
            self._judge(await self._follow(urls, id))
        self.saw.slowest = max(self.saw.slowest, loop.time() - start)

    async def _post(self, urls: Sequence[str]) -> str | None:
        body = {
            "directory": str(self._plan.parent),
            "blueprintFile": self._plan.name,
            "instanceName": "staged",
        }
        told = ""
        for turn in range(_BLUELINK_TRIES):
            self.saw.retries += turn > 0
            url = f"{urls[turn % len(urls)]}/v1/deployments/changes"
            try:
                async with self._http.post(url, json=body) as response:
                    if response.status == 202:
                        return str((await response.json())["data"]["id"])
                    told = f"HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                told = type(error).__name__
            await asyncio.sleep(_BLUELINK_SECONDS)
        self.saw.failed[told] += 1
        return None

    async def _follow(self, urls: Sequence[str], id: str) -> list[tuple[str, str]]:
        """The events of the stream: each one's name, and the resource that it is about."""
        seen: list[tuple[str, str]] = []
        # What is no id of an event requests everything.
        last, turn = "start", 0
        while not seen or seen[-1][0] not in _BLUELINK_ENDS:
            url = f"{urls[turn % len(urls)]}/v1/deployments/changes/{id}/stream"
            with suppress(aiohttp.ClientError, TimeoutError):
                last = await self._read(url, last, seen)
            if not seen or seen[-1][0] not in _BLUELINK_ENDS:
                self.resumed += 1
                await asyncio.sleep(_BLUELINK_SECONDS)
            turn += 1
        return seen

    async def _read(self, url: str, last: str, seen: list[tuple[str, str]]) -> str:
        async with self._http.get(url, headers={"Last-Event-ID": last}) as response:
            response.raise_for_status()
            fields: dict[str, str] = {}
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if line != b"\n":
                    fields[name] = value
                    continue
                if "id" in fields:
                    resource = json.loads(fields["data"]).get("resourceName", "")
                    seen.append((fields["event"], resource))
                    last = fields["id"]
                fields = {}
        return last

    def _judge(self, seen: Sequence[tuple[str, str]]) -> None:
        resources = [resource for event, resource in seen if event == "resourceChanges"]
        if len(resources) != self._resources or len(set(resources)) != self._resources:
            self.saw.faults.append(f"a stream had {len(resources)} of {self._resources} resources")
        if [event for event, _ in seen[-1:]] != ["changeStagingComplete"]:
            self.saw.faults.append(f"a stream ended with {seen[-1:]}")


def _numbers(newest_first: Any) -> list[int]:
    """The numbers in messages, of which the newest comes first; the oldest is first here."""
    found = [MESSAGE.search(message or "") for message in newest_first]
    return [int(match[1]) for match in reversed(found) if match is not None]
