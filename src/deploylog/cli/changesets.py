"""``changesets``: list change sets, and show one."""

from typing import Annotated

import typer

from deploylog.cli import filter_options, options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.printing import Printing, TablePrinting
from deploylog.cli.terminal.diff import render_changes
from deploylog.cli.terminal.formatting import changeset_table, print_lines, screen
from deploylog.deployments.changeset import encode_changes

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
    """Show what a change set would change."""
    changes = connection.call(lambda client: client.changes(id))
    lines = printing.json_lines
    if lines is not None:
        lines.print_text(encode_changes(changes).decode())
    else:
        print_lines(screen(), render_changes(changes))
