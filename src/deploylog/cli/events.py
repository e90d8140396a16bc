"""The commands that read the log: ``events``, ``tail``, ``wait``, ``deployments``, ``projects``."""

import asyncio
import math
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from deploylog.cli import options
from deploylog.cli.terminal.formatting import (
    deployment_line,
    deployment_table,
    event_line,
    event_table,
    plain,
    print_json_lines,
    screen,
)
from deploylog.client import (
    MAX_WAIT,
    Backoff,
    Client,
    ClientError,
    DeploymentState,
    Message,
    Params,
    ServerUnreachable,
    open_client,
    parse_event,
)
from deploylog.errors import DeploylogError

#: The most events of one page.
_PAGE = 1000

#: What ``timeout`` ends with when the time is over.
_STILL_RUNNING = 124

#: The service would not say.
_REFUSED = 2


class Order(StrEnum):
    """Which events come first."""

    newest = "newest"
    oldest = "oldest"


def events(
    *,
    scope: options.Scope = None,
    type: options.Types = None,
    source: options.Sources = None,
    actor: options.Actors = None,
    subject: options.Subjects = None,
    resource_type: options.ResourceTypes = None,
    resource_name: options.ResourceNames = None,
    resource_key: options.ResourceKeys = None,
    since: options.Since = None,
    until: options.Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most events to list.")] = 100,
    order: Annotated[
        Order, typer.Option("--order", parser=options.choice_of(Order), help="Which come first.")
    ] = Order.newest,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List events."""
    selected = options.params(
        scope=scope, type=type, source=source, actor=actor, subject=subject,
        resource_type=resource_type, resource_name=resource_name, resource_key=resource_key,
        since=since, until=until, order=order.value,
    )  # fmt: skip
    asyncio.run(_list_events(server, key, selected, order, limit, as_json=json))


async def _list_events(
    server: str, key: str | None, selected: Params, order: Order, limit: int, *, as_json: bool
) -> None:
    async with open_client(server, key) as client:
        found = _pages(client, selected, order, limit)
        if as_json:
            async for event in found:
                print(bytes(event).decode())
        else:
            event_table([parse_event(event) async for event in found]).print(screen())


async def _pages(
    client: Client, selected: Params, order: Order, limit: int
) -> AsyncIterator[msgspec.Raw]:
    """Up to ``limit`` events, page by page."""
    direction = "before" if order is Order.newest else "after"
    cursor: Params = []
    while limit > 0:
        size = min(limit, _PAGE)
        page = await client.events([*selected, ("limit", str(size)), *cursor])
        for event in page.events:
            yield event
        for each in page.damaged:
            _warn(f"the event at position {plain(each.position)} is damaged and left out")
        if page.next is None:
            return
        cursor = [(direction, page.next)]
        limit -= len(page.events)


def tail(
    *,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="DEPLOYLOG_TAIL_FROM",
            help="Begin at start, now, or what was recorded at an RFC 3339 time.",
            show_default="now, or start with --since",
        ),
    ] = None,
    scope: options.Scope = None,
    type: options.Types = None,
    source: options.Sources = None,
    actor: options.Actors = None,
    subject: options.Subjects = None,
    resource_type: options.ResourceTypes = None,
    resource_name: options.ResourceNames = None,
    resource_key: options.ResourceKeys = None,
    since: options.Since = None,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Follow events as they happen, until Ctrl-C."""
    selected = options.params(
        scope=scope, type=type, source=source, actor=actor, subject=subject,
        resource_type=resource_type, resource_name=resource_name, resource_key=resource_key,
        since=since, **{"from": start or ("start" if since else "now")},
    )  # fmt: skip
    try:
        asyncio.run(_follow(server, key, selected, as_json=json))
    except KeyboardInterrupt:
        # It is how a tail ends.
        return


async def _follow(server: str, key: str | None, selected: Params, *, as_json: bool) -> None:
    console = screen()
    async with (
        open_client(server, key) as client,
        aclosing(client.stream(selected, say=_warn)) as messages,
    ):
        async for message in messages:
            _show(console, message, as_json=as_json)


def _show(console: Console, message: Message, *, as_json: bool) -> None:
    if message.event == "gap":
        _warn(f"events that came next cannot be had: {plain(message.data)}")
    elif as_json:
        print(message.data, flush=True)
    else:
        console.print(event_line(parse_event(message.data)), soft_wrap=True)


def _warn(sentence: str) -> None:
    print(f"deploylog: {sentence}", file=sys.stderr)


def wait(
    deployment: Annotated[
        str, typer.Argument(help="Id of the deployment.", callback=options.check_name)
    ],
    *,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait.")] = 3600,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Wait until a deployment has ended.

    Exits 0 completed, 1 failed, 124 still running, 2 refused, 75 no answer.
    """
    try:
        state = asyncio.run(_wait(server, key, deployment, timeout))
    except DeploylogError as error:
        print(f"deploylog: {error.message}", file=sys.stderr)
        unreachable = isinstance(error, ServerUnreachable)
        raise typer.Exit(os.EX_TEMPFAIL if unreachable else _REFUSED) from error
    print(msgspec.json.encode(state).decode() if json else deployment_line(state))
    raise typer.Exit({"completed": 0, "failed": 1, "running": _STILL_RUNNING}[state.status])


async def _wait(server: str, key: str | None, id: str, timeout: float) -> DeploymentState:
    deadline = time.monotonic() + timeout
    backoff = Backoff(random.random)
    async with open_client(server, key) as client:
        while True:
            left = max(deadline - time.monotonic(), 0)
            try:
                state = await client.wait(id, min(math.ceil(left), MAX_WAIT))
                if state.status != "running" or not left:
                    return state
            except (ServerUnreachable, ClientError) as error:
                if not left or (isinstance(error, ClientError) and not error.transient):
                    raise
                await asyncio.sleep(min(backoff.next(), left))


def deployments(
    *,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    stack: Annotated[
        str | None, typer.Option("--stack", help="Only of this stack; needs --project.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=_PAGE, help="Most deployments to list.")
    ] = 20,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List deployments, last started first."""
    selected = options.params(project=project, stack=stack, limit=limit)
    found = asyncio.run(_list_deployments(server, key, selected))
    if json:
        print_json_lines(found)
    else:
        deployment_table(found).print(screen())


async def _list_deployments(
    server: str, key: str | None, selected: Params
) -> tuple[DeploymentState, ...]:
    async with open_client(server, key) as client:
        return (await client.deployments(selected)).deployments


def projects(*, server: options.Server = options.DEFAULT_SERVER, key: options.Key = None) -> None:
    """List projects."""
    for project in asyncio.run(_list_projects(server, key)):
        print(plain(project))


async def _list_projects(server: str, key: str | None) -> tuple[str, ...]:
    async with open_client(server, key) as client:
        return await client.projects()
