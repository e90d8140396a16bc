"""``backup`` and ``restore``: the store as one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from deploylog.cli.application import new_app
from deploylog.cli.options import StoreLocation, expanded
from deploylog.server import admin
from deploylog.store.contract import Contents

app = new_app()

BackupFile = Annotated[Path, typer.Argument(help="File of the backup.", show_default=False)]


@app.command()
@expanded
def backup(
    file: BackupFile,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    location: StoreLocation,
) -> None:
    """Back up the store to a file, and verify the backup.

    The server may be running.

    Example: deploylog backup deploylog-backup.db
    """
    contents = admin.backup(location.url, file, force=force)
    print(f"backed up {_render(contents)} to {file}")


@app.command()
@expanded
def restore(
    file: BackupFile,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace the store if it exists. The previous store is renamed."
        ),
    ] = False,
    keep_ids: Annotated[
        bool,
        typer.Option(
            "--keep-ids",
            help="Keep the epoch, so that event ids and cursors stay valid. Only safe if"
            " nothing was recorded after the backup.",
        ),
    ] = False,
    location: StoreLocation,
) -> None:
    """Restore the store from a backup.

    Stop the server first.
    """
    restored = admin.restore(location.url, file, force=force, keep_ids=keep_ids)
    print(f"restored {_render(restored.contents)} from {file}")
    if restored.previous:
        print(f"kept the previous store at {restored.previous}")
    if not keep_ids:
        print("event ids have changed; readers that resume get a gap and start over")
    print("keys revoked after the backup are valid again; check: deploylog keys list")


def _render(contents: Contents) -> str:
    return f"{contents.events} events, head {contents.head}, schema {contents.schema},"
