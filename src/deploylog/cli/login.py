"""``login``: save a server and its key as a context."""

import getpass
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.options import check_name, own_contexts
from deploylog.cli.terminal.input import read_secret
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import Client, ClientError
from deploylog.client.contexts import Context

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
) -> None:
    """Save a server and its key as a context, and use it from now on.

    Checks the key at the server first. Saves it in a file that only you can read, and never prints
    it.

    Example: deploylog login https://deploylog.example.com --context prod
    """
    name = context or urlsplit(server).hostname or server
    added = Context(server=server.rstrip("/"), key=_key(key_file))
    options.Connection(server=added.server, key=added.key).call(_check)
    file = own_contexts()
    file.write(file.read().add(name, added))
    log_line(f"saved context {plain(name)} in {file.path}; it is now the current one")


def _key(file: Path | None) -> str | None:
    if file is not None:
        return read_secret(file)
    if not sys.stdin.isatty():
        return None
    return getpass.getpass("API key (leave empty for a server without keys): ").strip() or None


async def _check(client: Client) -> None:
    try:
        await client.projects()
    except ClientError as error:
        # A key that may only write is a good key, too.
        if error.status != 403:
            raise
