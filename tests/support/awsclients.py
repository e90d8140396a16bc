"""AWS's own clients, pointed at a service."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config

from support.paths import ROOT
from support.servers import Running
from support.waiting import PATIENCE

#: ParallelCluster's command line, in an environment of its own; make makes it.
PCLUSTER = ROOT / ".venv-pcluster" / "bin" / "pcluster"

REGION = "us-east-1"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a client signs with, and what it shows beside."""

    access_key: str = "AKIDEXAMPLE"
    secret_key: str = "secret"
    session_token: str | None = None
    #: Headers of each request, which AWS's clients have none of; boto3 alone can be told to.
    headers: dict[str, str] = {}


def cloudformation(server: Running, credentials: Credentials | None = None) -> Any:
    """boto3's client."""
    shown = credentials or Credentials()
    client = boto3.client(
        "cloudformation",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=shown.access_key,
        aws_secret_access_key=shown.secret_key,
        aws_session_token=shown.session_token,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
    )

    def add_headers(request: AWSPreparedRequest, **_: object) -> None:
        for name, value in shown.headers.items():
            request.headers[name] = value

    client.meta.events.register("before-send.cloudformation", add_headers)
    return client


async def asked(call: Callable[[], Any]) -> Any:
    """What a client answers, which it does in a thread."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.to_thread(call)


async def pcluster(
    server: Running, home: Path, *words: str, credentials: Credentials | None = None
) -> tuple[int, Any]:
    """The exit code of ParallelCluster's command line, and what it prints."""
    assert PCLUSTER.exists(), "make .venv-pcluster/.ready"
    shown = credentials or Credentials()
    environment = {
        # Nothing else is there: it needs no Node, as other commands of it do.
        "PATH": str(PCLUSTER.parent),
        # It writes a log there.
        "HOME": str(home),
        "AWS_ENDPOINT_URL_CLOUDFORMATION": server.url,
        "AWS_ACCESS_KEY_ID": shown.access_key,
        "AWS_SECRET_ACCESS_KEY": shown.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if shown.session_token is not None:
        environment["AWS_SESSION_TOKEN"] = shown.session_token
    process = await asyncio.create_subprocess_exec(
        PCLUSTER,
        *words,
        env=environment,
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(3 * PATIENCE):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            os.kill(process.pid, 9)
    assert said, errors.decode()
    assert process.returncode is not None
    return process.returncode, json.loads(said)
