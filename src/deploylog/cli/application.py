"""The tree of commands: the module of a command is imported when the command is called.

If all were imported at the start, every command would load the HTTP server and the HTTP client.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from deploylog.cli.help_text import polish
from deploylog.errors import OperatorError

#: The module below ``deploylog.cli`` of each command or group, and what the command does, in the
#: order of the help, which imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "Run the server until it is interrupted."),
    "run": ("run", "Run a command, show its output, and record it live as a deployment."),
    "send": ("send", "Send one event, or a deployment."),
    "ingest": ("ingest", "Record the output of deployment tools."),
    "collect": ("collect", "Collect events from other services, and record them."),
    "events": ("events", "List or count events."),
    "history": (
        "events",
        "List everything that happened to a resource, oldest first, over all stacks.",
    ),
    "tail": ("events", "Follow events live, until Ctrl-C."),
    "listen": (
        "listen",
        "Forward events to a server on this machine as signed webhooks, until Ctrl-C.",
    ),
    "wait": ("events", "Wait until a deployment ends."),
    "deployments": ("events", "List deployments, newest first, or what is deployed now."),
    "dora": ("dora", "Measure deployments to production by DORA's five metrics."),
    "trace": ("trace", "Export a deployment as a trace, over OTLP."),
    "changesets": ("changesets", "List change sets, newest first, or show one."),
    "stacks": ("stacks", "List stacks, or delete one."),
    "projects": ("events", "List projects."),
    "subscriptions": ("subscriptions", "List and manage subscriptions."),
    "deliveries": ("deliveries", "List deliveries, and redeliver events."),
    "login": ("login", "Save a server and its key as a context, and use it from now on."),
    "context": ("contexts", "List, choose and remove saved servers."),
    "keys": ("keys", "Add, list and revoke keys, in the store itself or by way of the server."),
    "migrate": ("serve", "Migrate the store to the schema of this version."),
    "backup": ("backups", "Back up the store to a file, and verify the backup."),
    "restore": ("backups", "Restore the store from a backup."),
    "copy": ("copying", "Copy a store to another, and verify the copy."),
    "verify": ("verify", "Verify the store."),
    "version": ("version", "Print the version."),
    "help": ("help", "Show the help of a command."),
}

#: The commands that have subcommands: the ``app`` of their module is the command itself.
_GROUPS = (
    "send",
    "ingest",
    "collect",
    "changesets",
    "stacks",
    "subscriptions",
    "deliveries",
    "context",
    "keys",
)


#: The extra that a package comes with, if it is not the server's.
_EXTRAS = {"keyring": "keyring"}


def new_app(**settings: Any) -> typer.Typer:
    """Return an empty app, with the settings that all commands share."""
    # Rich's boxes would cut the names of options and variables to the width of the terminal.
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


def load(module: str) -> Any:
    """Import a module of the command line by its name; raises OperatorError."""
    try:
        with _without_collections():
            return import_module(f"deploylog.cli.{module}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("deploylog"):
            raise
        extra = _EXTRAS.get(str(error.name), "server")
        raise OperatorError(
            f"this command needs {error.name}: install deploylog[{extra}]"
        ) from error


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage: what modules define stays, and looking for it takes a tenth of an import.

    The block may be entered again within itself: a module may load another.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class LazyCommands(Mapping[str, TyperCommand | TyperGroup]):
    """The top-level commands by name; reading one imports its module."""

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        module, _ = COMMANDS[name]
        group = get_group(load(module).app)
        command = group if name in _GROUPS else group.commands[name]
        command.name = name
        polish(command)
        return command  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """The top-level group."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        polish(self)
        self.commands = LazyCommands()  # type: ignore[assignment]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])
