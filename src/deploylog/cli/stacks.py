"""``stacks``: list stacks, and delete one."""

from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.printing import TablePrinting
from deploylog.cli.terminal.formatting import stack_table

app = new_app(invoke_without_command=True)


@app.callback()
@expanded
def stacks(
    context: typer.Context,
    *,
    project: Annotated[
        str | None, typer.Option("--project", help="Only stacks of this project.")
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Include deleted stacks.")] = False,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """List stacks, or delete one."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    params = options.params(project=project, deleted="true" if deleted else None)
    found = connection.call(lambda client: client.stacks(params))
    printing.print(found, stack_table)


@app.command()
@expanded
def delete(
    project: Annotated[str, typer.Argument(help="Project of the stack.")],
    name: Annotated[str, typer.Argument(help="Name of the stack.")],
    *,
    connection: options.Connection,
) -> None:
    """Delete a stack: free its name, and keep its events."""
    connection.call(lambda client: client.delete_stack(project, name))
