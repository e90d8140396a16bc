"""The commands that read the log: ``events``, ``tail``, ``wait``, ``deployments``, ``projects``."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.terminal.formatting import (
    deployment_line,
    deployment_table,
    event_line,
    event_table,
    print_listing,
    screen,
)
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import Client, Message, Params, ServerUnreachable, parse_event
from deploylog.errors import DeploylogError

#: The exit code of ``timeout`` when the time is over.
_STILL_RUNNING = 124

#: The exit code of ``wait`` when the server refuses to say.
_REFUSED = 2

app = new_app()


class Order(StrEnum):
    """Which events come first."""

    newest = "newest"
    oldest = "oldest"


@app.command()
@expanded
def events(
    *,
    scope: options.Scope = None,
    filter: options.EventFilter,
    since: options.Since = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Only events before this time, written as in --since."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Maximum number of events to list.")
    ] = 100,
    order: Annotated[
        Order,
        typer.Option("--order", parser=options.choice_of(Order), help="Which events come first."),
    ] = Order.newest,
    json: options.Json = False,
    connection: options.Connection,
) -> None:
    """List events.

    Example: deploylog events --scope project/acme --type deployment.* --since -2h
    """
    params = [
        *options.params(scope=scope, since=since, until=until, order=order.value),
        *filter.params(),
    ]
    connection.call(lambda client: _list_events(client, params, order, limit, as_json=json))


async def _list_events(
    client: Client, params: Params, order: Order, limit: int, *, as_json: bool
) -> None:
    found = _pages(client, params, order, limit)
    if as_json:
        async for event in found:
            print(bytes(event).decode())
    else:
        event_table([parse_event(event) async for event in found]).print(screen())


async def _pages(
    client: Client, params: Params, order: Order, limit: int
) -> AsyncIterator[msgspec.Raw]:
    """Yield up to ``limit`` events, page by page."""
    direction = "before" if order is Order.newest else "after"
    cursor: Params = []
    while limit > 0:
        size = min(limit, options.MAX_LIMIT)
        page = await client.events([*params, ("limit", str(size)), *cursor])
        for event in page.events:
            yield event
        for damaged in page.damaged:
            log_line(f"skipped a damaged event at position {plain(damaged.position)}")
        if page.next is None:
            return
        cursor = [(direction, page.next)]
        limit -= len(page.events)


@app.command()
@expanded
def tail(
    *,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="DEPLOYLOG_TAIL_FROM",
            help="Where to start: start, now, or the RFC 3339 time at which an event was recorded.",
            show_default="now, or start with --since",
        ),
    ] = None,
    scope: options.Scope = None,
    filter: options.EventFilter,
    since: options.Since = None,
    json: options.Json = False,
    connection: options.Connection,
) -> None:
    """Follow events live, until Ctrl-C.

    Example: deploylog tail --scope project/acme --type deployment.*
    """
    params = [
        *options.params(scope=scope, since=since),
        ("from", start or ("start" if since else "now")),
        *filter.params(),
    ]
    try:
        connection.call(lambda client: _follow(client, params, as_json=json))
    except KeyboardInterrupt:
        # This is the normal end of a tail.
        return


async def _follow(client: Client, params: Params, *, as_json: bool) -> None:
    console = screen()
    async with aclosing(client.stream(params, log=log_line)) as messages:
        async for message in messages:
            _show(console, message, as_json=as_json)


def _show(console: Console, message: Message, *, as_json: bool) -> None:
    if message.event == "gap":
        log_line(f"the next events are not available: {plain(message.data)}")
    elif as_json:
        print(message.data, flush=True)
    else:
        console.print(event_line(parse_event(message.data)), soft_wrap=True)


@app.command()
@expanded
def wait(
    deployment: Annotated[
        str, typer.Argument(help="Id of the deployment.", callback=options.check_name)
    ],
    *,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, help="Maximum number of seconds to wait.")
    ] = 3600,
    json: options.Json = False,
    connection: options.Connection,
) -> None:
    """Wait until a deployment ends.

    Exits 0 if it completed, 1 if it failed, 124 if it is still running, 2 if the server refused the
    request, and 75 if the server did not respond.
    """
    try:
        state = connection.call(lambda client: client.wait(deployment, timeout))
    except DeploylogError as error:
        log_line(error.message)
        unreachable = isinstance(error, ServerUnreachable)
        raise typer.Exit(os.EX_TEMPFAIL if unreachable else _REFUSED) from error
    print(msgspec.json.encode(state).decode() if json else deployment_line(state))
    raise typer.Exit({"completed": 0, "failed": 1, "running": _STILL_RUNNING}[state.status])


@app.command()
@expanded
def deployments(
    *,
    filter: options.StackFilter,
    json: options.Json = False,
    connection: options.Connection,
) -> None:
    """List deployments, newest first."""
    page = connection.call(lambda client: client.deployments(filter.params()))
    print_listing(page.deployments, deployment_table, as_json=json)


@app.command()
@expanded
def projects(*, connection: options.Connection) -> None:
    """List projects."""
    for project in connection.call(Client.projects):
        print(plain(project))
