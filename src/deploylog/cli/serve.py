"""``serve``, whose options are the settings, and ``migrate``."""

import os
from inspect import Parameter, Signature
from pathlib import Path
from typing import get_type_hints

import typer

from deploylog.cli.application import new_app
from deploylog.cli.options import StoreLocation, expanded, source_of
from deploylog.server import admin
from deploylog.server import serve as server
from deploylog.server.settings import load_settings
from deploylog.server.settings.table import SETTINGS, Setting

app = new_app()


def serve(context: typer.Context, *, config: Path | None, **options: object) -> None:
    """Run the server until it is interrupted."""
    given = {name: value for name, value in options.items() if _is_given(context, name)}
    server.serve(load_settings(given, environ=os.environ, config=config))


def _is_given(context: typer.Context, name: str) -> bool:
    # A default must not override the settings file.
    return source_of(context, name) != "DEFAULT"


def _option(setting: Setting) -> Parameter:
    name = setting.option
    option = typer.Option(
        setting.default,
        f"{name}/--no-{name[2:]}" if setting.type is bool else name,
        envvar=setting.env,
        help=setting.help,
        show_default=setting.type is not bool and setting.default != "",
    )
    return Parameter(setting.name, Parameter.KEYWORD_ONLY, default=option, annotation=setting.type)


def _signature() -> Signature:
    """Return the settings table as a signature, which typer turns into options."""
    config_option = get_type_hints(StoreLocation, include_extras=True)["config"]
    config = Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=config_option)
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    return Signature([context, config, *(_option(setting) for setting in SETTINGS)])


serve.__signature__ = _signature()  # type: ignore[attr-defined]
app.command()(serve)


@app.command()
@expanded
def migrate(*, location: StoreLocation) -> None:
    """Migrate the store to the schema of this version."""
    for step in admin.migrate(location.url):
        print(step)
