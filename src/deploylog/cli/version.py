"""``version``: the version of this program."""

from deploylog import __version__
from deploylog.cli.application import new_app

app = new_app()


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)
