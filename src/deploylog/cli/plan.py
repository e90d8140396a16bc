"""``ingest plan``: stage a plan, and show what it would change while the server tells it."""

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

from deploylog.cli import options
from deploylog.cli.recording import log_line
from deploylog.cli.terminal.diff import render_end, render_resource
from deploylog.cli.terminal.formatting import plain, print_lines, screen
from deploylog.cli.terminal.input import open_source
from deploylog.cli.terminal.output import discard_stdout
from deploylog.client import CHANGESET_ENDS, Client, ClientError, Message, Params, open_client
from deploylog.deployments.changeset import Changes, ResourceChange
from deploylog.errors import DeploylogError, OperatorError

#: What a plan file begins with, as Terraform and OpenTofu write it.
_ZIP = b"PK\x03\x04"

_FAILURES = {"changeset.failed": "failed", "changeset.drift": "was stopped by drift"}

#: Takes each event of the change set.
View = Callable[[Message], None]


def plan(
    file: Annotated[
        Path, typer.Argument(help="Output of terraform show -json PLAN; - is standard input.")
    ] = Path("-"),
    *,
    project: options.Project,
    stack: Annotated[
        str,
        typer.Option(
            "--stack",
            envvar="DEPLOYLOG_STACK",
            callback=options.check_name,
            help="Stack that the plan is for; there need not be one yet.",
        ),
    ],
    destroy: Annotated[
        bool, typer.Option("--destroy", help="The plan is to destroy what is there.")
    ] = False,
    location: Annotated[
        str | None,
        typer.Option(
            "--location", help="Where the plan comes from.", show_default="the file's name"
        ),
    ] = None,
    actor: options.Actor,
    group: options.Groups = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Do not show what would change.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the events as they come, in JSON, one a line.")
    ] = False,
    retry_timeout: Annotated[
        float,
        typer.Option(
            "--retry-timeout",
            envvar="DEPLOYLOG_RETRY_TIMEOUT",
            min=1,
            help="Seconds to try on while the server does not answer.",
        ),
    ] = options.DEFAULT_PATIENCE,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Stage a plan of Terraform or OpenTofu, and show what it would change.

    Exits 0 once it is staged, 1 when it failed, was refused or was stopped by drift, and 75 when
    the server did not answer.
    """
    params = options.params(
        project=project, stack=stack, destroy="true" if destroy else None,
        location=location or (None if file == Path("-") else file.name),
        actor=actor, group=group,
    )  # fmt: skip
    view = _while_read(_view(quiet=quiet, as_json=json))
    asyncio.run(_stage(server, key, file, params, retry_timeout, view))


async def _stage(
    server: str, key: str | None, file: Path, params: Params, patience: float, view: View
) -> None:
    document = await _read(file)
    async with open_client(server, key) as client:
        staged = await client.stage(
            document, params, id=str(uuid4()), patience=patience, say=log_line
        )
        log_line(f"change set {staged.id} of {plain(f'{staged.project}/{staged.stack}')}")
        try:
            await _follow(client, staged.id, patience, view)
        except asyncio.CancelledError:
            log_line(f"interrupted; change set {staged.id} is staged all the same")
            raise


async def _read(file: Path) -> bytes:
    chunks: list[bytes] = []
    async with open_source(file, sys.stdin.fileno()) as source:
        while chunk := await source.read():
            chunks.append(chunk)
    document = b"".join(chunks)
    if document.startswith(_ZIP):
        raise OperatorError("this is the plan itself: give the output of terraform show -json PLAN")
    return document


async def _follow(client: Client, id: str, patience: float, view: View) -> None:
    """Show the change set's events; raises DeploylogError when it ended badly."""
    try:
        async with aclosing(
            client.follow_changeset(id, patience=patience, say=log_line)
        ) as messages:
            async for message in messages:
                view(message)
                _check(id, message)
    except ClientError as error:
        if error.status != 404:
            raise
        log_line("the key may not read it: what it would change is not shown")


def _check(id: str, message: Message) -> None:
    failure = _FAILURES.get(message.event)
    if failure is not None:
        reason = plain(_decode_end(message.data).message)
        raise DeploylogError(f"change set {id} {failure}: {reason}")


def _view(*, quiet: bool, as_json: bool) -> View:
    if as_json:
        return lambda message: print(message.data, flush=True)
    if quiet:
        return lambda message: None
    console = screen()
    return lambda message: _show(console, message)


def _while_read(view: View) -> View:
    """``view``, until nobody reads what it prints: the staging goes on."""

    def show(message: Message) -> None:
        try:
            view(message)
        except BrokenPipeError:
            discard_stdout()

    return show


class _Told(msgspec.Struct):
    data: ResourceChange


class _End(msgspec.Struct):
    message: str | None = None
    data: Changes | None = None


_decode_told = msgspec.json.Decoder(_Told, float_hook=Decimal).decode
_decode_end = msgspec.json.Decoder(_End, float_hook=Decimal).decode


def _show(console: Console, message: Message) -> None:
    if message.event == "gap":
        log_line(f"events that came next cannot be had: {plain(message.data)}")
    elif message.event == "changeset.resource":
        print_lines(console, render_resource(_decode_told(message.data).data))
    elif message.event in CHANGESET_ENDS and (changes := _decode_end(message.data).data):
        print_lines(console, render_end(changes))
