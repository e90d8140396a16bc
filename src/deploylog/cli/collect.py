"""``collect``: fetch events from where they happen, and record them."""

import asyncio
import math
import random
import signal
from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.recording import log_line, signal_handlers
from deploylog.client import open_client
from deploylog.client.collect.cloudformation import CloudFormation, RetryingCloudFormation
from deploylog.client.collect.collector import PollOptions
from deploylog.client.collect.stack_lookup import StackCollection, Wanted
from deploylog.client.retry import Backoff, RetryPolicy, RetryTimeout
from deploylog.errors import DeploylogError, InvalidEvent, OperatorError
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import name_in

app = typer.Typer(help="Fetch events, and record them.", no_args_is_help=True)


@app.callback()
def collect() -> None:
    """Fetch events from where they happen, and record them."""


@app.command()
def cloudformation(
    *,
    stack: Annotated[
        str,
        typer.Option(
            "--stack",
            envvar="DEPLOYLOG_STACK",
            callback=options.check_name,
            help="Stack in CloudFormation, by its name or its ARN.",
        ),
    ],
    region: Annotated[
        str | None,
        typer.Option("--region", help="AWS region; absent, the one that is configured for AWS."),
    ] = None,
    project: options.Project,
    image: Annotated[
        str | None,
        typer.Option("--image", help="Image that the stack builds; absent, what its tags say."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Cluster that it makes; absent, what its tags say."),
    ] = None,
    group: options.Groups = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on when nothing is going on, until interrupted.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")
    ] = 5.0,
    retry_timeout: Annotated[
        float,
        typer.Option(
            "--retry-timeout",
            envvar="DEPLOYLOG_RETRY_TIMEOUT",
            min=1,
            help="Seconds to try on when the server or AWS does not answer; with --follow, no end.",
        ),
    ] = options.DEFAULT_PATIENCE,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Record the events of a CloudFormation stack, and of those nested in it, each once.

    Without --follow it ends when nothing is going on: 0 if the stack's last operation completed,
    1 if it failed. It goes on where the log ends; needs the extra aws, and credentials as the
    AWS CLI finds them.
    """
    wanted = Wanted(
        stack=stack, project=project, image=image, cluster=cluster,
        groups=tuple(sorted(set(group or ()))),
    )  # fmt: skip
    _check(wanted)
    source = _open_cloudformation(region or _region_in(stack))
    patience = math.inf if follow else retry_timeout
    pace = PollOptions(interval=interval, follow=follow, sleep=asyncio.sleep)
    _end(stack, asyncio.run(_collect(server, key, wanted, source, patience, pace)))


def _check(wanted: Wanted) -> None:
    if wanted.is_arn:
        try:
            name_in(wanted.stack)
        except InvalidEvent as error:
            raise OperatorError(error.message) from error


def _region_in(stack: str) -> str | None:
    """The region in an ARN."""
    parts = stack.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 5 else None


def _open_cloudformation(region: str | None) -> CloudFormation:
    """CloudFormation by boto3; raises OperatorError where that is not installed."""
    try:
        from deploylog.client.collect.boto import BotoCloudFormation
    except ImportError as error:
        raise OperatorError(
            f"this needs boto3, which is not there ({error}): pip install 'deploylog[aws]'"
        ) from error
    return BotoCloudFormation(region)


async def _collect(
    server: str,
    key: str | None,
    wanted: Wanted,
    source: CloudFormation,
    patience: float,
    pace: PollOptions,
) -> Operation | None:
    async with open_client(server, key) as client:
        collection = StackCollection(
            wanted,
            RetryingCloudFormation(
                source, patience=patience, say=log_line, sleep=asyncio.sleep, jitter=random.random
            ),
            client,
            persistence=lambda: _persistence(patience),
            pace=pace,
            say=log_line,
        )
        return await _until_stopped(collection, follow=pace.follow)


def _persistence(seconds: float) -> RetryPolicy:
    return RetryPolicy(
        RetryTimeout(first=seconds, later=seconds),
        Backoff(random.random),
        sleep=asyncio.sleep,
        say=log_line,
        again="trying again",
    )


async def _until_stopped(collection: StackCollection, *, follow: bool) -> Operation | None:
    """Collect until the end, or a signal; to stop following is no failure."""
    task = asyncio.ensure_future(collection.run())
    stopped: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        stopped.append(number)
        task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    with signal_handlers({number: lambda number=number: stop(number) for number in numbers}):  # type: ignore[misc]
        try:
            return await task
        except asyncio.CancelledError:
            if not stopped:
                raise
    log_line("interrupted; what was read is recorded")
    raise typer.Exit(0 if follow else 128 + stopped[0])


def _end(stack: str, operation: Operation | None) -> None:
    if operation is None:
        log_line(f"nothing has happened to {stack} yet")
    elif operation.status == "failed":
        told = operation.message or "no reason was told"
        raise DeploylogError(f"{operation.verb or 'deployment'} of {stack} failed: {told}")
