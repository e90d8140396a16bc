"""``login``: save a server and its key as a context."""

import getpass
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from deploylog.cli import options
from deploylog.cli.application import load, new_app
from deploylog.cli.options import check_name, own_contexts
from deploylog.cli.terminal.input import read_secret
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import Client, ClientError
from deploylog.client.contexts import Context
from deploylog.errors import OperatorError

app = new_app()


@app.command()
def login(
    server: Annotated[
        str, typer.Argument(help="URL of the server.", callback=check_name)
    ] = options.DEFAULT_SERVER,
    *,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            help="Name of the context.",
            callback=check_name,
            allow_from_autoenv=False,
            show_default="the host of the server",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="File with the API key. - reads standard input.",
            show_default="ask on a terminal, else no key",
        ),
    ] = None,
    keyring: Annotated[
        bool,
        typer.Option(
            "--keyring",
            help="Save the key in the keyring of the operating system, if there is one, instead of"
            " in a file.",
        ),
    ] = False,
) -> None:
    """Save a server and its key as a context, and use it from now on.

    Checks the key at the server first. Saves it in a file that only you can read, or in the
    keyring, and never prints it.

    Example: deploylog login https://deploylog.example.com --context prod
    """
    name = context or urlsplit(server).hostname or server
    given = Context(server=server.rstrip("/"), key=_key(key_file))
    options.Connection(server=given.server, key=given.key).call(_check)
    file = own_contexts()
    contexts = file.read()
    added = _in_keyring(name, given) if keyring else given
    _forget(name, contexts.contexts.get(name), added)
    file.write(contexts.add(name, added))
    log_line(f"saved context {plain(name)} in {file.path}; it is now the current one")


def _key(file: Path | None) -> str | None:
    if file is not None:
        return read_secret(file)
    if not sys.stdin.isatty():
        return None
    return getpass.getpass("API key (leave empty for a server without keys): ").strip() or None


def _in_keyring(name: str, context: Context) -> Context:
    """Move the key to the keyring; without a usable one, say that it stays in the file."""
    if context.key is None:
        return context
    try:
        load("keyring").save(name, context.server, context.key)
    except OperatorError as error:
        log_line(f"{error.message}; saving the key in the file of contexts instead")
        return context
    return Context(server=context.server, keyring=True)


def _forget(name: str, old: Context | None, new: Context) -> None:
    """Delete the key that a context had in the keyring, unless the new one has its place."""
    if old is not None and old.keyring and (not new.keyring or new.server != old.server):
        load("keyring").delete(name, old)


async def _check(client: Client) -> None:
    try:
        await client.projects()
    except ClientError as error:
        # A key that may only write is a good key, too.
        if error.status != 403:
            raise
