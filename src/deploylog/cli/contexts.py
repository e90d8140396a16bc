"""``context``: list, choose and remove the saved servers."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from deploylog.cli import options
from deploylog.cli.application import load, new_app
from deploylog.cli.options import check_name, expanded, own_contexts
from deploylog.cli.printing import Printing, TablePrinting
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.table import Column, Listing
from deploylog.cli.terminal.text import plain
from deploylog.client.contexts import Contexts

app = new_app(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the context.", callback=check_name)]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A context without its secret."""

    name: str
    server: str
    has_key: bool
    keyring: bool
    current: bool


@app.callback()
def context() -> None:
    """List, choose and remove saved servers.

    A context is a server and its key, under a name. deploylog login adds one.
    """


@app.command("list")
@expanded
def list_(*, printing: TablePrinting) -> None:
    """List the contexts."""
    printing.print(_shown(own_contexts().read()), _table)


@app.command()
@expanded
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of the context.", callback=check_name, show_default="the current one"
        ),
    ] = None,
    *,
    printing: Printing,
) -> None:
    """Show a context, without its key.

    Exits 1 if there is no current context.
    """
    contexts = own_contexts().read()
    wanted = name or contexts.current
    if wanted is None:
        log_line(f"there is no current context: commands use {options.DEFAULT_SERVER}")
        raise typer.Exit(1)
    contexts.get(wanted)
    [shown] = [each for each in _shown(contexts) if each.name == wanted]
    lines = printing.json_lines
    if lines is not None:
        lines.print(shown)
    else:
        print(f"name: {plain(shown.name)}\nserver: {plain(shown.server)}")
        print(f"key: {_key(shown)}\ncurrent: {_word(shown.current)}")


@app.command()
def use(name: Name) -> None:
    """Make a context the current one."""
    file = own_contexts()
    file.write(file.read().use(name))


@app.command()
def remove(name: Name) -> None:
    """Remove a context and its key from this machine. The key itself stays valid."""
    file = own_contexts()
    contexts = file.read()
    removed = contexts.get(name)
    if removed.keyring:
        load("keyring").delete(name, removed)
    file.write(contexts.remove(name))


def _shown(contexts: Contexts) -> list[Shown]:
    return [
        Shown(
            name=name,
            server=context.server,
            has_key=context.has_key,
            keyring=context.keyring,
            current=name == contexts.current,
        )
        for name, context in sorted(contexts.contexts.items())
    ]


def _table(contexts: Iterable[Shown]) -> Listing:
    listing = Listing(
        Column(name="NAME", rank=0),
        Column(name="SERVER", rank=0),
        Column(name="KEY", rank=1),
        Column(name="CURRENT", rank=0),
    )
    for each in contexts:
        listing.add(plain(each.name), plain(each.server), _key(each), _word(each.current))
    return listing


def _key(context: Shown) -> str:
    """Where the key is."""
    if context.keyring:
        return "keyring"
    return "saved" if context.has_key else "none"


def _word(is_true: bool) -> str:
    return "yes" if is_true else "no"
