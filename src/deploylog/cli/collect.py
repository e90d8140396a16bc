"""``collect``: fetch events from the services that report them, and record them."""

import asyncio
import math
import signal
from typing import Annotated

import typer

from deploylog.cli import options, recording_options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.recording import signal_handlers
from deploylog.cli.terminal.streams import log_line
from deploylog.client import Timing
from deploylog.client.collect.cloudformation import CloudFormation, RetryingCloudFormation
from deploylog.client.collect.collector import PollOptions
from deploylog.client.collect.stack_lookup import CollectOptions, StackCollection
from deploylog.errors import DeploylogError, InvalidEvent, OperatorError
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.parsing import name_in

app = new_app(no_args_is_help=True)


@app.callback()
def collect() -> None:
    """Collect events from other services, and record them."""


@app.command()
@expanded
def cloudformation(
    *,
    stack: recording_options.CloudFormationStack,
    region: Annotated[
        str | None,
        typer.Option("--region", help="AWS region. Defaults to the region configured for AWS."),
    ] = None,
    project: recording_options.Project,
    image: Annotated[
        str | None,
        typer.Option("--image", help="Image that the stack builds. Defaults to the stack's tags."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="Cluster that the stack creates. Defaults to the stack's tags."
        ),
    ] = None,
    group: recording_options.Groups = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Continue when no operation is running, until interrupted."),
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two polls.")
    ] = 5.0,
    retry_timeout: recording_options.CollectRetryTimeout = options.DEFAULT_RETRY_TIMEOUT,
    connection: options.Connection,
) -> None:
    """Record the events of a CloudFormation stack and of its nested stacks, each once.

    Without --follow it exits when no operation is running: 0 if the last operation of the stack
    completed, 1 if it failed. It resumes where the log ends. It needs the extra aws, and
    credentials where the AWS CLI looks for them.

    Example: deploylog collect cloudformation --project acme --stack web --follow
    """
    collected = CollectOptions(
        stack=stack, project=project, image=image, cluster=cluster,
        groups=tuple(sorted(set(group or ()))),
    )  # fmt: skip
    _check(collected)
    cloudformation = _open_cloudformation(region or _region_in(stack))
    limit = math.inf if follow else retry_timeout
    poll = PollOptions(interval=interval, follow=follow)
    _report(stack, asyncio.run(_collect(connection, collected, cloudformation, limit, poll)))


def _check(collected: CollectOptions) -> None:
    if collected.is_arn:
        try:
            name_in(collected.stack)
        except InvalidEvent as error:
            raise OperatorError(error.message) from error


def _region_in(stack: str) -> str | None:
    """Return the region of an ARN."""
    parts = stack.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 5 else None


def _open_cloudformation(region: str | None) -> CloudFormation:
    """Open CloudFormation through boto3; raises OperatorError if that is not installed."""
    try:
        from deploylog.client.collect.boto import BotoCloudFormation
    except ImportError as error:
        raise OperatorError(
            f"boto3 is not installed ({error}): run pip install 'deploylog[aws]'"
        ) from error
    return BotoCloudFormation(region)


async def _collect(
    connection: options.Connection,
    collected: CollectOptions,
    cloudformation: CloudFormation,
    retry_timeout: float,
    poll: PollOptions,
) -> Operation | None:
    timing = Timing()
    async with connection.open() as client:
        collection = StackCollection(
            collected,
            RetryingCloudFormation(
                cloudformation, retry_timeout=retry_timeout, timing=timing, log=log_line
            ),
            client,
            poll=poll,
            retry_timeout=retry_timeout,
            timing=timing,
            log=log_line,
        )
        return await _until_stopped(collection, follow=poll.follow)


async def _until_stopped(collection: StackCollection, *, follow: bool) -> Operation | None:
    """Collect to the end, or until a signal, which is no failure with ``follow``."""
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
    log_line("interrupted; everything read so far is recorded")
    raise typer.Exit(0 if follow else 128 + stopped[0])


def _report(stack: str, operation: Operation | None) -> None:
    """Log that there was no operation, or raise DeploylogError for one that failed."""
    if operation is None:
        log_line(f"stack {stack} has had no operation yet")
    elif operation.status == "failed":
        reason = operation.message or "CloudFormation gave no reason"
        raise DeploylogError(f"{operation.verb or 'deployment'} of {stack} failed: {reason}")
