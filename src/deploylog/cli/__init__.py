"""The command line."""

import os
import sys

import typer

from deploylog.cli import (
    backups,
    changesets,
    collect,
    deliveries,
    ingest,
    keys,
    run,
    serve,
    stacks,
    subscriptions,
    verify,
)
from deploylog.cli import events as query
from deploylog.cli.terminal.output import discard_stdout
from deploylog.cli.variables import check_variables
from deploylog.client import ServerUnreachable, Unanswered
from deploylog.client.collect.cloudformation import Throttled
from deploylog.client.uploader import Undelivered
from deploylog.errors import DeploylogError, OperatorError

#: What the process ends with. The nearest class in an error's ancestry decides.
EXIT_CODES: dict[type[DeploylogError], int] = {
    DeploylogError: 1,
    OperatorError: 2,
    Undelivered: os.EX_TEMPFAIL,
    Unanswered: os.EX_TEMPFAIL,
    ServerUnreachable: os.EX_TEMPFAIL,
    Throttled: os.EX_TEMPFAIL,
}

app = typer.Typer(
    help="Deploylog, the event log of your deployments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Its boxes would cut the names of options and variables to the width of the screen.
    rich_markup_mode=None,
    context_settings={
        "auto_envvar_prefix": "DEPLOYLOG",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
app.command()(serve.serve)
app.command(context_settings=run.CONTEXT)(run.run)
app.add_typer(ingest.app, name="ingest")
app.add_typer(collect.app, name="collect")
app.command()(query.events)
app.command()(query.tail)
app.command()(query.wait)
app.command()(query.deployments)
app.add_typer(changesets.app, name="changesets")
app.add_typer(stacks.app, name="stacks")
app.command()(query.projects)
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(keys.app, name="keys")
app.command()(serve.migrate)
app.command()(backups.backup)
app.command()(backups.restore)
app.command()(verify.verify)
app.command()(serve.version)


def main() -> None:
    """Run the command; an error of ours is one plain line."""
    try:
        check_variables(os.environ, typer.main.get_group(app))
        app()
    except DeploylogError as error:
        print(f"deploylog: {error.message}", file=sys.stderr)
        sys.exit(exit_code(error))
    finally:
        _flush()


def exit_code(error: DeploylogError) -> int:
    """The exit code that says ``error``."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would try once more, and complain.
        discard_stdout()
