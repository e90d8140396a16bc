"""``changesets``: list change sets, and show one."""

from typing import Annotated

import typer

from deploylog.cli import filter_options, options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.printing import Printing, TablePrinting
from deploylog.cli.terminal.diff import render_changes
from deploylog.cli.terminal.formatting import (
    applying_line,
    changeset_table,
    print_lines,
    screen,
)
from deploylog.client import Client, DeploymentState
from deploylog.deployments.changeset import Changes, encode_changes

#: Deployments that are named as applying a change set.
_DEPLOYMENTS = 20

app = new_app(invoke_without_command=True)


@app.callback()
@expanded
def changesets(
    context: typer.Context,
    *,
    filter: filter_options.StackFilter,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List change sets, newest first, or show one."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    page = connection.call(lambda client: client.changesets(filter.params()))
    printing.print(page.changesets, changeset_table)


@app.command()
@expanded
def show(
    id: Annotated[str, typer.Argument(help="Id of the change set.")],
    *,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Show what a change set would change, and the deployments that apply it."""
    lines = printing.json_lines
    if lines is not None:
        changes = connection.call(lambda client: client.changes(id))
        lines.print_text(encode_changes(changes).decode())
        return
    changes, deployments = connection.call(lambda client: _applied(client, id))
    print_lines(screen(), render_changes(changes))
    print_lines(screen(), map(applying_line, deployments))


async def _applied(client: Client, id: str) -> tuple[Changes, tuple[DeploymentState, ...]]:
    """The changes, and the newest deployments that apply them."""
    changes = await client.changes(id)
    page = await client.deployments(options.params(plan=id.lower(), limit=_DEPLOYMENTS))
    return changes, page.deployments
