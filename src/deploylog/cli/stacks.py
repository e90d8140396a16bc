"""``stacks``: list stacks, and end one."""

import asyncio
from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.terminal.formatting import print_json_lines, screen, stack_table
from deploylog.client import Params, StackState, open_client

app = typer.Typer(help="List stacks, or delete one.", invoke_without_command=True)


@app.callback()
def stacks(
    context: typer.Context,
    *,
    project: Annotated[str | None, typer.Option("--project", help="Only of this project.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Also those that exist no more.")
    ] = False,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List stacks, or delete one."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    selected = options.params(project=project, deleted="true" if deleted else None)
    found = asyncio.run(_list(server, key, selected))
    if json:
        print_json_lines(found)
    else:
        stack_table(found).print(screen())


async def _list(server: str, key: str | None, selected: Params) -> tuple[StackState, ...]:
    async with open_client(server, key) as client:
        return await client.stacks(selected)


@app.command()
def delete(
    project: Annotated[str, typer.Argument(help="Project that the stack is in.")],
    name: Annotated[str, typer.Argument(help="The stack's name.")],
    *,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Free a stack's name; its events stay."""
    asyncio.run(_delete(server, key, project, name))


async def _delete(server: str, key: str | None, project: str, name: str) -> None:
    async with open_client(server, key) as client:
        await client.delete_stack(project, name)
