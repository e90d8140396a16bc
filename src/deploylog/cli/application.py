"""The tree of commands: the module of a command is imported when the command is called.

If all were imported at the start, every command would load the HTTP server and the HTTP client.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

#: The module below ``deploylog.cli`` of each command or group, in the order of the help.
MODULES = {
    "serve": "serve",
    "run": "run",
    "ingest": "ingest",
    "collect": "collect",
    "events": "events",
    "tail": "events",
    "wait": "events",
    "deployments": "events",
    "changesets": "changesets",
    "stacks": "stacks",
    "projects": "events",
    "subscriptions": "subscriptions",
    "deliveries": "deliveries",
    "keys": "keys",
    "migrate": "serve",
    "backup": "backups",
    "restore": "backups",
    "verify": "verify",
    "version": "version",
}

#: The commands that have subcommands: the ``app`` of their module is the command itself.
_GROUPS = ("ingest", "collect", "changesets", "stacks", "subscriptions", "deliveries", "keys")


def new_app(**settings: Any) -> typer.Typer:
    """Return an empty app, with the settings that all commands share."""
    # Rich's boxes would cut the names of options and variables to the width of the terminal.
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


def load(module: str) -> Any:
    """Import a module of the command line by its name."""
    return import_module(f"deploylog.cli.{module}")


class LazyCommands(Mapping[str, TyperCommand | TyperGroup]):
    """The top-level commands by name; reading one imports its module."""

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        group = get_group(load(MODULES[name]).app)
        if name not in _GROUPS:
            return group.commands[name]  # type: ignore[return-value]
        group.name = name
        return group

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class LazyGroup(TyperGroup):
    """The top-level group."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LazyCommands()  # type: ignore[assignment]
