"""``deliveries``: what became of what subscriptions ask for."""

import asyncio
from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.terminal.formatting import (
    attempt_table,
    dead_letter_table,
    print_json_lines,
    screen,
)
from deploylog.client import AttemptPage, DeadLetterPage, Params, SubscriptionFields, open_client
from deploylog.errors import OperatorError

#: The most of one page.
_PAGE = 1000

app = typer.Typer(help="List deliveries, or send events again.", no_args_is_help=True)

Subscription = Annotated[
    str, typer.Argument(help="Id of the subscription.", callback=options.check_name)
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=_PAGE, help="Most to list.")]


@app.command("list")
def list_(
    subscription: Subscription,
    *,
    limit: Limit = 20,
    before: Annotated[
        str | None, typer.Option("--before", help="Number of an attempt: only earlier ones.")
    ] = None,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List attempts to deliver, newest first."""
    selected = options.params(limit=limit, before=before)
    found = asyncio.run(_attempts(server, key, subscription, selected)).attempts
    if json:
        print_json_lines(found)
    else:
        attempt_table(found).print(screen())


async def _attempts(server: str, key: str | None, id: str, selected: Params) -> AttemptPage:
    async with open_client(server, key) as client:
        return await client.subscriptions.attempts(id, selected)


@app.command()
def dead_letters(
    subscription: Subscription,
    *,
    limit: Limit = 20,
    after: Annotated[
        str | None, typer.Option("--after", help="Position: only events after it.")
    ] = None,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List events that were given up, in the order of the log."""
    selected = options.params(limit=limit, after=after)
    found = asyncio.run(_dead_letters(server, key, subscription, selected)).dead_letters
    if json:
        print_json_lines(found)
    else:
        dead_letter_table(found).print(screen())


async def _dead_letters(server: str, key: str | None, id: str, selected: Params) -> DeadLetterPage:
    async with open_client(server, key) as client:
        return await client.subscriptions.dead_letters(id, selected)


@app.command()
def redeliver(
    subscription: Subscription,
    *,
    event: Annotated[
        str | None, typer.Option("--event", help="Id of one event, also of one that arrived.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Every dead letter first tried since: RFC 3339, or -15m, -2h, -7d.",
        ),
    ] = None,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Send an event again, or all that were given up."""
    if (event is None) == (since is None):
        raise OperatorError("give either --event or --since")
    said: SubscriptionFields = {"event": event, "since": since}
    print(f"redelivering {asyncio.run(_redeliver(server, key, subscription, said))}")


async def _redeliver(server: str, key: str | None, id: str, said: SubscriptionFields) -> int:
    async with open_client(server, key) as client:
        return await client.subscriptions.redeliver(id, said)
