"""``ingest plan``: stage a plan, and show its changes as the server reports them."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import msgspec
import typer
from rich.console import Console

from deploylog.cli import options, recording_options
from deploylog.cli.options import expanded
from deploylog.cli.printing import Jq, json_lines
from deploylog.cli.terminal.diff import render_end, render_resource
from deploylog.cli.terminal.formatting import print_lines, screen
from deploylog.cli.terminal.input import open_source
from deploylog.cli.terminal.json_lines import JsonLines
from deploylog.cli.terminal.streams import discard_stdout, log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import CHANGESET_ENDS, Client, ClientError, Message, Params
from deploylog.deployments.changeset import Changes, ResourceChange
from deploylog.errors import DeploylogError, OperatorError

#: The first bytes of a binary plan file of Terraform or OpenTofu.
_ZIP = b"PK\x03\x04"

_FAILURES = {"changeset.failed": "failed", "changeset.drift": "was stopped by drift"}

#: Takes each event of the change set.
View = Callable[[Message], None]


@expanded
def plan(
    file: Annotated[
        Path, typer.Argument(help="Output of terraform show -json PLAN. - reads standard input.")
    ] = Path("-"),
    *,
    project: recording_options.Project,
    stack: recording_options.PlannedStack,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Stage the plan as one that destroys the stack.")
    ] = False,
    location: Annotated[
        str | None,
        typer.Option(
            "--location",
            help="Where the plan comes from, as free text.",
            show_default="the file's name",
        ),
    ] = None,
    actor: recording_options.Actor,
    group: recording_options.Groups = None,
    quiet: options.Quiet = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the events as they arrive, one JSON object per line."),
    ] = False,
    jq: Jq = None,
    retry_timeout: recording_options.RetryTimeout = options.DEFAULT_RETRY_TIMEOUT,
    connection: options.Connection,
) -> None:
    """Stage a plan of Terraform or OpenTofu, and show what it would change.

    Exits 0 once the plan is staged, 1 if it failed, was refused or was stopped by drift, and 75 if
    the server did not respond.

    Example: terraform show -json PLAN | deploylog ingest plan --project acme --stack web
    """
    params = options.params(
        project=project, stack=stack, destroy="true" if destroy else None,
        location=location or (None if file == Path("-") else file.name),
        actor=actor, group=group,
    )  # fmt: skip
    view = _until_unread(_view(json_lines(json, jq), quiet=quiet))
    connection.call(lambda client: _stage(client, file, params, retry_timeout, view))


async def _stage(
    client: Client, file: Path, params: Params, retry_timeout: float, view: View
) -> None:
    document = await _read(file)
    staged = await client.stage(
        document, params, id=str(uuid4()), retry_timeout=retry_timeout, log=log_line
    )
    log_line(f"change set {staged.id} of {plain(f'{staged.project}/{staged.stack}')}")
    try:
        await _follow(client, staged.id, retry_timeout, view)
    except asyncio.CancelledError:
        log_line(f"interrupted; the server continues to stage change set {staged.id}")
        raise


async def _read(file: Path) -> bytes:
    chunks: list[bytes] = []
    async with open_source(file, sys.stdin.fileno()) as source:
        while chunk := await source.read():
            chunks.append(chunk)
    document = b"".join(chunks)
    if document.startswith(_ZIP):
        raise OperatorError(
            "this is a binary plan file: pass the output of terraform show -json PLAN"
        )
    return document


async def _follow(client: Client, id: str, retry_timeout: float, view: View) -> None:
    """Show the events of the change set; raises DeploylogError if it did not complete."""
    try:
        async with aclosing(
            client.follow_changeset(id, retry_timeout=retry_timeout, log=log_line)
        ) as messages:
            async for message in messages:
                view(message)
                _check(id, message)
    except ClientError as error:
        if error.status != 404:
            raise
        log_line("the changes are not shown: the key may not read the change set")


def _check(id: str, message: Message) -> None:
    failure = _FAILURES.get(message.event)
    if failure is not None:
        reason = plain(_decode_end(message.data).message)
        raise DeploylogError(f"change set {id} {failure}: {reason}")


def _view(lines: JsonLines | None, *, quiet: bool) -> View:
    if lines is not None:
        return lambda message: lines.print_text(message.data, flush=True)
    if quiet:
        return lambda message: None
    console = screen()
    return lambda message: _show(console, message)


def _until_unread(view: View) -> View:
    """Wrap ``view`` so that it prints nothing once standard output has no reader."""

    def show(message: Message) -> None:
        try:
            view(message)
        except BrokenPipeError:
            discard_stdout()

    return show


class _Resource(msgspec.Struct):
    data: ResourceChange


class _End(msgspec.Struct):
    message: str | None = None
    data: Changes | None = None


_decode_resource = msgspec.json.Decoder(_Resource, float_hook=Decimal).decode
_decode_end = msgspec.json.Decoder(_End, float_hook=Decimal).decode


def _show(console: Console, message: Message) -> None:
    if message.event == "gap":
        log_line(f"the next events are not available: {plain(message.data)}")
    elif message.event == "changeset.resource":
        print_lines(console, render_resource(_decode_resource(message.data).data))
    elif message.event in CHANGESET_ENDS and (changes := _decode_end(message.data).data):
        print_lines(console, render_end(changes))
