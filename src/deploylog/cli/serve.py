"""The commands of whoever runs the service: ``serve``, ``migrate``, ``version``."""

import os
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated

import typer

from deploylog import __version__
from deploylog.cli.options import source_of
from deploylog.server import admin
from deploylog.server import serve as server
from deploylog.server.settings import load_settings
from deploylog.server.settings.table import SETTINGS, Setting

_CONFIG_HELP = "TOML file of settings; options and environment win over it."

Config = Annotated[
    Path | None, typer.Option("--config", envvar="DEPLOYLOG_CONFIG", help=_CONFIG_HELP)
]
Store = Annotated[
    str | None,
    typer.Option("--store", envvar="DEPLOYLOG_STORE", help="Where the log is kept."),
]
SecretKeyFile = Annotated[
    str | None,
    typer.Option(
        "--secret-key-file",
        envvar="DEPLOYLOG_SECRET_KEY_FILE",
        help="File of the keys that seal stored secrets.",
    ),
]


def serve(context: typer.Context, *, config: Path | None, **options: object) -> None:
    """Serve the log until told to stop."""
    given = {name: value for name, value in options.items() if _is_given(context, name)}
    server.serve(load_settings(given, environ=os.environ, config=config))


def _is_given(context: typer.Context, name: str) -> bool:
    # A default would win over the file of settings.
    return source_of(context, name) != "DEFAULT"


def _option(setting: Setting) -> Parameter:
    """``setting`` as an option."""
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
    """The settings table as a signature, which typer turns into options."""
    config = Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=Config)
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    return Signature([context, config, *(_option(setting) for setting in SETTINGS)])


serve.__signature__ = _signature()  # type: ignore[attr-defined]


def migrate(*, store: Store = None, config: Config = None) -> None:
    """Bring the store to this program's schema."""
    for step in admin.migrate(chosen_store(store, config)):
        print(step)


def version() -> None:
    """Print the version."""
    print(__version__)


def chosen_store(store: str | None, config: Path | None) -> str:
    """The store that ``serve`` would use."""
    return load_settings({"store": store}, environ=os.environ, config=config).store


def chosen_secret_key_file(path: str | None, config: Path | None) -> str:
    """The file of encryption keys that ``serve`` would use."""
    settings = load_settings({"secret_key_file": path}, environ=os.environ, config=config)
    return settings.secret_key_file
