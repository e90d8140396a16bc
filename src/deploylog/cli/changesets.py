"""``changesets``: list change sets, and show one."""

import asyncio
from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.terminal.diff import render_changes
from deploylog.cli.terminal.formatting import changeset_table, print_json_lines, print_lines, screen
from deploylog.client import ChangesetState, Params, open_client
from deploylog.deployments.changeset import Changes, encode_changes

#: The most of one page.
_PAGE = 1000

app = typer.Typer(help="List change sets, or show one.", invoke_without_command=True)


@app.callback()
def changesets(
    context: typer.Context,
    *,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    stack: Annotated[
        str | None, typer.Option("--stack", help="Only of this stack; needs --project.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=_PAGE, help="Most change sets to list.")
    ] = 20,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List change sets, last staged first, or show one."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    selected = options.params(project=project, stack=stack, limit=limit)
    found = asyncio.run(_list(server, key, selected))
    if json:
        print_json_lines(found)
    else:
        changeset_table(found).print(screen())


async def _list(server: str, key: str | None, selected: Params) -> tuple[ChangesetState, ...]:
    async with open_client(server, key) as client:
        return (await client.changesets(selected)).changesets


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id of the change set.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print its changes in JSON.")] = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Show what a change set would change."""
    changes = asyncio.run(_changes(server, key, id))
    if json:
        print(encode_changes(changes).decode())
    else:
        print_lines(screen(), render_changes(changes))


async def _changes(server: str, key: str | None, id: str) -> Changes:
    async with open_client(server, key) as client:
        return await client.changes(id)
