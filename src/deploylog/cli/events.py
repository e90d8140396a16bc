"""The commands that read the log: ``events``, ``history``, ``tail``, ``wait`` and lists."""

import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from functools import partial
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from deploylog.cli import filter_options, options
from deploylog.cli.application import new_app
from deploylog.cli.names import Places, hint_project, misspelt_types
from deploylog.cli.options import expanded
from deploylog.cli.printing import Printing, TablePrinting
from deploylog.cli.terminal.formatting import (
    current_table,
    deployment_line,
    deployment_table,
    event_line,
    event_table,
    facet_table,
    screen,
)
from deploylog.cli.terminal.json_lines import JsonLines
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import (
    Client,
    DeploymentState,
    EventCount,
    Explanation,
    Message,
    Params,
    ServerUnreachable,
    parse_event,
)
from deploylog.errors import DeploylogError

#: The exit code of ``timeout`` when the time is over.
_STILL_RUNNING = 124

#: The exit code of ``wait`` when the server refuses to say.
_REFUSED = 2

#: Deployments that are listed.
_LISTED = 20

#: The start of a UUID; other ids are sent as they are.
_SHORT_ID = re.compile(r"[0-9A-Fa-f-]{4,35}")

app = new_app()


class Order(StrEnum):
    """Which events come first."""

    newest = "newest"
    oldest = "oldest"


@app.command()
@expanded
def events(
    words: filter_options.Words = None,
    *,
    count: Annotated[
        bool, typer.Option("--count", help="Print the number of events instead of a list.")
    ] = False,
    top: Annotated[
        filter_options.FilterField | None,
        typer.Option(
            "--top",
            metavar="FIELD",
            parser=options.choice_of(filter_options.FilterField),
            help="List the most frequent values of this field, for example actor, instead of"
            " events.",
        ),
    ] = None,
    scope: filter_options.Scope = None,
    names: filter_options.NameFilter,
    filter: filter_options.EventFilter,
    since: filter_options.Since = None,
    until: filter_options.Until = None,
    limit: Annotated[
        int,
        typer.Option("--limit", min=1, help="Maximum number of events, or of values, to list."),
    ] = 100,
    order: Annotated[
        Order,
        typer.Option("--order", parser=options.choice_of(Order), help="Which events come first."),
    ] = Order.newest,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Log how the events were found. Requires read access to the whole log.",
        ),
    ] = False,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List or count events.

    Example: deploylog events timeout --stack web --environment prod --since 2h
    """
    if count and top is not None:
        raise typer.BadParameter("specify either --count or --top")
    params = [
        *options.params(scope=scope, since=since, until=until),
        *names.params(),
        *filter.params(words),
    ]

    async def show(client: Client) -> None:
        if count:
            number = _print_count(await client.count(params), printing)
        elif top is not None:
            number = await _list_values(client, params, top, limit, printing)
        else:
            how = options.params(order=order.value, explain="true" if explain else None)
            number = await _list_events(client, [*params, *how], order, limit, printing)
        if not number:
            await hint_project(client, names.project, ())
            _hint_types(filter)

    connection.call(show)


def _hint_types(filter: filter_options.EventFilter) -> None:
    for hint in misspelt_types(filter.type or ()):
        log_line(plain(hint))


@app.command()
@expanded
def history(
    resource: Annotated[
        str,
        typer.Argument(
            help="Address of the resource, for example aws_instance.web, or its id, for example"
            " i-0abc123.",
            callback=options.check_name,
        ),
    ],
    *,
    scope: filter_options.Scope = None,
    since: filter_options.Since = None,
    until: filter_options.Until = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="Maximum number of events to list.", show_default="all"
        ),
    ] = None,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List everything that happened to a resource, oldest first, over all stacks.

    Example: deploylog history aws_instance.web
    """
    params = options.params(
        resource=resource, scope=scope, since=since, until=until, order=Order.oldest.value
    )
    most = limit or sys.maxsize
    connection.call(lambda client: _list_events(client, params, Order.oldest, most, printing))


def _print_count(counted: EventCount, printing: Printing) -> int:
    lines = printing.json_lines
    if lines is not None:
        lines.print(counted)
    else:
        print(counted.count)
    return counted.count


async def _list_values(
    client: Client,
    params: Params,
    field: filter_options.FilterField,
    limit: int,
    printing: TablePrinting,
) -> int:
    """Show the most frequent values of a field, and return how many there are."""
    size = min(limit, options.MAX_LIMIT)
    facets = await client.facets([*params, *options.params(field=field.parameter, top=size)])
    printing.print(facets.top, partial(facet_table, field.value))
    return len(facets.top)


async def _list_events(
    client: Client, params: Params, order: Order, limit: int, printing: TablePrinting
) -> int:
    """Show the events, and return how many there are."""
    found = _pages(client, params, order, limit)
    lines = printing.json_lines
    if lines is not None:
        number = 0
        async for event in found:
            lines.print_text(bytes(event).decode())
            number += 1
        return number
    events = [parse_event(event) async for event in found]
    places = await Places(client).of_all(events)
    printing.print_table(event_table(zip(events, places, strict=True)))
    return len(events)


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
        if page.explain is not None:
            log_line(_explanation(page.explain))
        for damaged in page.damaged:
            log_line(f"skipped a damaged event at position {plain(damaged.position)}")
        if page.next is None:
            return
        cursor = [(direction, page.next)]
        limit -= len(page.events)


def _explanation(explain: Explanation) -> str:
    return (
        f"searched {explain.segments} segments, of which {explain.hits} had matches; read"
        f" {explain.rows} rows, of which {explain.rows_in_vain} did not match"
    )


@app.command()
@expanded
def tail(
    words: filter_options.Words = None,
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
    scope: filter_options.Scope = None,
    names: filter_options.NameFilter,
    filter: filter_options.EventFilter,
    since: filter_options.Since = None,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Follow events live, until Ctrl-C.

    Example: deploylog tail --stack web --environment prod
    """
    params = [
        *options.params(scope=scope, since=since),
        ("from", start or ("start" if since else "now")),
        *names.params(),
        *filter.params(words),
    ]
    _hint_types(filter)
    try:
        connection.call(lambda client: _follow(client, params, names.project, printing.json_lines))
    except KeyboardInterrupt:
        # This is the normal end of a tail.
        return


async def _follow(
    client: Client, params: Params, project: str | None, lines: JsonLines | None
) -> None:
    console, places = screen(), Places(client)
    # A project may appear later, so this is no error.
    await hint_project(client, project, ())
    async with aclosing(client.stream(params, log=log_line)) as messages:
        async for message in messages:
            await _show(console, message, places, lines)


async def _show(
    console: Console, message: Message, places: Places, lines: JsonLines | None
) -> None:
    if message.event == "gap":
        log_line(f"the next events are not available: {plain(message.data)}")
    elif lines is not None:
        lines.print_text(message.data, flush=True)
    else:
        event = parse_event(message.data)
        [place] = await places.of_all([event])
        console.print(event_line(event, place), soft_wrap=True)


@app.command()
@expanded
def wait(
    deployment: Annotated[
        str | None,
        typer.Argument(
            help="Id of the deployment, or its first characters. Without it, the options select"
            " the newest.",
            callback=options.check_name,
        ),
    ] = None,
    *,
    names: filter_options.DeploymentNames,
    since: filter_options.StartedSince = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, help="Maximum number of seconds to wait.")
    ] = 3600,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Wait until a deployment ends.

    Exits 0 if it completed, 1 if it failed, 124 if it is still running, 2 if the server refused the
    request, and 75 if the server did not respond.

    Example: deploylog wait --stack web --environment prod --version 1.4.2
    """
    params = [*names.params(), *options.params(since=since)]
    if (deployment is None) != bool(params):
        raise typer.BadParameter("name a deployment, or select one by options")

    async def state_of(client: Client) -> DeploymentState:
        try:
            id = await resolve(client, deployment, params)
        except DeploylogError as error:
            if not isinstance(error, ServerUnreachable):
                await hint_project(client, names.project, ())
            raise
        return await client.wait(id, timeout, log=log_line)

    try:
        state = connection.call(state_of)
    except DeploylogError as error:
        log_line(error.message)
        unreachable = isinstance(error, ServerUnreachable)
        raise typer.Exit(os.EX_TEMPFAIL if unreachable else _REFUSED) from error
    lines = printing.json_lines
    if lines is not None:
        lines.print(state)
    else:
        print(deployment_line(state))
    raise typer.Exit({"completed": 0, "failed": 1, "running": _STILL_RUNNING}[state.status])


async def resolve(client: Client, id: str | None, params: Params) -> str:
    """Return the id of the deployment that is named; raises DeploylogError."""
    if id is not None and not _SHORT_ID.fullmatch(id):
        return id
    if id is not None:
        params = [("deployment", id)]
    found = (await client.deployments([*params, ("limit", "2")])).deployments
    if not found:
        raise DeploylogError(f"there is no deployment {id!r}" if id else "no deployment matches")
    if id is not None and len(found) > 1:
        raise DeploylogError(f"several deployments have ids that start with {id!r}")
    return found[0].id


@app.command()
@expanded
def deployments(
    *,
    names: filter_options.NameFilter,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            "--plan", help="Only deployments that apply the change set with this id. Repeatable."
        ),
    ] = None,
    since: filter_options.StartedSince = None,
    current: Annotated[
        bool,
        typer.Option("--current", help="Show what is deployed now in each stack and environment."),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            max=options.MAX_LIMIT,
            help="Maximum number of deployments to list.",
            show_default="20, or all that are current",
        ),
    ] = None,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List deployments, newest first, or what is deployed now.

    Example: deploylog deployments --environment prod --current
    """
    params = [
        *names.params(),
        *options.params(
            plan=plan,
            since=since,
            current="true" if current else None,
            limit=limit or (options.MAX_LIMIT if current else _LISTED),
        ),
    ]

    async def found(client: Client) -> tuple[DeploymentState, ...]:
        page = await client.deployments(params)
        await hint_project(client, names.project, page.deployments)
        return page.deployments

    table = current_table if current else deployment_table
    printing.print(connection.call(found), table)


@app.command()
@expanded
def projects(*, printing: Printing, connection: options.Connection) -> None:
    """List projects."""
    found = connection.call(Client.projects)
    lines = printing.json_lines
    if lines is not None:
        lines.print_all(found)
    else:
        for project in found:
            print(plain(project))
