"""``backup`` and ``restore``: the store as one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from deploylog.cli.serve import Config, Store, chosen_store
from deploylog.server import admin
from deploylog.store.contract import Contents

BackupFile = Annotated[Path, typer.Argument(help="File of the backup.", show_default=False)]


def backup(
    file: BackupFile,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    store: Store = None,
    config: Config = None,
) -> None:
    """Back the store up to a file, while the service runs, and verify it."""
    contents = admin.backup(chosen_store(store, config), file, force=force)
    print(f"backed up {_render(contents)} to {file}")


def restore(
    file: BackupFile,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the store if it exists, and keep it beside."),
    ] = False,
    keep_ids: Annotated[
        bool,
        typer.Option(
            "--keep-ids",
            help="Keep event ids. Only safe if nothing was recorded after the backup.",
        ),
    ] = False,
    store: Store = None,
    config: Config = None,
) -> None:
    """Restore the store from a backup, while no service runs."""
    url = chosen_store(store, config)
    restored = admin.restore(url, file, force=force, keep_ids=keep_ids)
    print(f"restored {_render(restored.contents)} from {file}")
    if restored.previous:
        print(f"kept the previous store at {restored.previous}")
    if not keep_ids:
        print("event ids have changed; readers that resume get a gap and start over")
    print("keys revoked after the backup are valid again; check: deploylog keys list")


def _render(contents: Contents) -> str:
    return f"{contents.events} events, head {contents.head}, schema {contents.schema},"
