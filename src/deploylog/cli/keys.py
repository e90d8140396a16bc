"""``keys``: who may do what, kept in the store itself."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from deploylog import admin
from deploylog.cli.serve import Config, Store, chosen_store
from deploylog.cli.tables import plain, screen
from deploylog.errors import InvalidInput
from deploylog.principals import Grant, parse_grant
from deploylog.store.base import StoredKey
from deploylog.times import render_time

app = typer.Typer(help="Add, list and revoke keys, on the store itself.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    *,
    grant: Annotated[
        list[str],
        typer.Option(
            "--grant",
            help="Right and scope, as read:project/acme; admin:/ is everything. Repeatable.",
        ),
    ],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Group that it is in; repeatable.")
    ] = None,
    store: Store = None,
    config: Config = None,
) -> None:
    """Add a key, and print it: it is told this once."""
    url = chosen_store(store, config)
    if not admin.store_exists(url):
        print(f"deploylog: there was no store at {url}: made a new one", file=sys.stderr)
    _, secret = admin.add_key(
        url,
        name=name,
        groups=group or (),
        grants=[_grant(text) for text in grant],
    )
    print(secret)


def _grant(text: str) -> Grant:
    try:
        return parse_grant(text)
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error


@app.command("list")
def list_(*, store: Store = None, config: Config = None) -> None:
    """List keys, the revoked ones too."""
    table = Table("ID", "NAME", "GRANTS", "GROUPS", "CREATED", "REVOKED", box=None, pad_edge=False)
    for key in admin.list_keys(chosen_store(store, config)):
        table.add_row(*_row(key))
    screen().print(table)


def _row(key: StoredKey) -> tuple[str, ...]:
    grants = " ".join(f"{grant.right}:{grant.scope or '/'}" for grant in key.grants)
    revoked = render_time(key.revoked) if key.revoked is not None else ""
    groups = plain(" ".join(key.groups))
    return key.id, plain(key.name), grants, groups, render_time(key.created), revoked


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Id of the key, as keys list shows it.")],
    *,
    store: Store = None,
    config: Config = None,
) -> None:
    """Let a key open nothing any more."""
    admin.revoke_key(chosen_store(store, config), id)
