"""The command line."""

import os
import sys
from typing import Annotated

import typer

from deploylog import __version__
from deploylog.cli.application import LazyGroup, load, new_app
from deploylog.cli.terminal.streams import discard_stdout
from deploylog.cli.variables import check_variables
from deploylog.errors import DeploylogError

app = new_app(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={
        "auto_envvar_prefix": "DEPLOYLOG",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def deploylog(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Print the version, and exit.",
        ),
    ] = False,
) -> None:
    """Deploylog, the event log of your deployments."""


def main() -> None:
    """Run a command, and print an error of ours as one line."""
    try:
        check_variables(os.environ, typer.main.get_group(app))
        app()
    except DeploylogError as error:
        print(f"deploylog: {error.message}", file=sys.stderr)
        sys.exit(load("exit_codes").exit_code(error))
    finally:
        _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would flush again at exit, and complain.
        discard_stdout()
