"""``help``: the help of a command, as ``-h`` shows it."""

from typing import Annotated

import typer
from typer.core import TyperGroup

from deploylog.cli.application import new_app

app = new_app()


@app.command("help")
def help_(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="Command, for example subscriptions add.")
    ] = None,
) -> None:
    """Show the help of a command.

    Example: deploylog help subscriptions add
    """
    shown = context.find_root()
    for name in command or ():
        group = shown.command
        if not isinstance(group, TyperGroup):
            raise typer.BadParameter(f"{shown.command_path} has no subcommands")
        _, child, _ = group.resolve_command(shown, [name])
        assert child is not None
        shown = child.context_class(child, info_name=name, parent=shown)
    print(shown.get_help())
