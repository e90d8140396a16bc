"""``copy``: everything of a store in another store."""

from typing import Annotated

import typer

from deploylog.cli.application import new_app
from deploylog.cli.terminal.steps import Steps
from deploylog.server import admin

app = new_app()


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="URL of the store to copy.", show_default=False)],
    target: Annotated[str, typer.Argument(help="URL of the new store.", show_default=False)],
) -> None:
    """Copy a store to another, and verify the copy.

    Everything stays as it is: event ids, cursors, subscriptions, keys. An interrupted copy
    continues when you run the command again, and a finished one copies what is new.

    Example: deploylog copy sqlite:///deploylog.db postgresql://db1/deploylog
    """
    copied = admin.copy(source, target, progress=Steps("copied"))
    print(
        f"copied and verified {copied.events} events, head {copied.head}, and {copied.rows} other"
        f" rows to {admin.store_name(target)}"
    )
    file = admin.key_file(source)
    if file is not None:
        print(f"the secrets need the same encryption key: set secret_key_file to a copy of {file}")
