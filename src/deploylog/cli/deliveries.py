"""``deliveries``: attempts to deliver, dead letters, and redelivery."""

from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.options import SubscriptionId, expanded
from deploylog.cli.printing import TablePrinting
from deploylog.cli.terminal.formatting import attempt_table, dead_letter_table
from deploylog.client import SubscriptionFields
from deploylog.errors import OperatorError

app = new_app(help="List deliveries, and redeliver events.", no_args_is_help=True)


@app.command("list")
@expanded
def list_(
    subscription: SubscriptionId,
    *,
    limit: options.Limit = 20,
    before: Annotated[
        str | None, typer.Option("--before", help="Only attempts before this attempt number.")
    ] = None,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List attempts to deliver, newest first."""
    params = options.params(limit=limit, before=before)
    page = connection.call(lambda client: client.subscriptions.attempts(subscription, params))
    printing.print(page.attempts, attempt_table)


@app.command()
@expanded
def dead_letters(
    subscription: SubscriptionId,
    *,
    limit: options.Limit = 20,
    after: Annotated[
        str | None, typer.Option("--after", help="Only events after this position.")
    ] = None,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List dead letters, the events whose delivery was given up, in log order."""
    params = options.params(limit=limit, after=after)
    page = connection.call(lambda client: client.subscriptions.dead_letters(subscription, params))
    printing.print(page.dead_letters, dead_letter_table)


@app.command()
@expanded
def redeliver(
    subscription: SubscriptionId,
    *,
    event: Annotated[
        str | None,
        typer.Option("--event", help="Id of the event, which may have been delivered before."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Redeliver every dead letter first attempted at or after this time: RFC 3339, or"
            " relative as in -15m, -2h or -7d.",
        ),
    ] = None,
    connection: options.Connection,
) -> None:
    """Redeliver one event, or dead letters."""
    if (event is None) == (since is None):
        raise OperatorError("specify either --event or --since")
    fields: SubscriptionFields = {"event": event, "since": since}
    count = connection.call(lambda client: client.subscriptions.redeliver(subscription, fields))
    print(f"redelivering {count}")
