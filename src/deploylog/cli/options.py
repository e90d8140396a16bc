"""The options that commands share, each defined once, and structs of those used together."""

import asyncio
import getpass
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
import typer
from msgspec.structs import replace

from deploylog.cli.application import load
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import one_line
from deploylog.client import Client, Params, open_client
from deploylog.client.contexts import Context as SavedContext
from deploylog.client.contexts import ContextFile
from deploylog.errors import OperatorError

_Choice = TypeVar("_Choice", bound=StrEnum)
_Result = TypeVar("_Result")
_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_SERVER = "http://127.0.0.1:8325"
#: Seconds.
DEFAULT_RETRY_TIMEOUT = 300.0
#: Items that one page of a listing holds at most.
MAX_LIMIT = 1000


def expanded(command: _Command) -> _Command:
    """Replace each parameter that is a struct of options by the fields of the struct."""
    groups: dict[str, type[msgspec.Struct]] = {}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            groups[name] = kind
            parameters += _parameters(kind)
        else:
            parameters.append(parameter)

    def run(**given: Any) -> Any:
        for name, kind in groups.items():
            given[name] = kind(**{field: given.pop(field) for field in kind.__struct_fields__})
        return command(**given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


def _parameters(kind: type[msgspec.Struct]) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.required else field.default,
            annotation=hints[field.name],
        )
        for field in msgspec.structs.fields(kind)
    ]


def spool_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Return the default directory of spools, by the XDG base directory specification."""
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else home / ".local" / "state"
    return base / "deploylog" / "spool"


def _own_spool_directory() -> Path:
    return spool_directory(os.environ, Path.home())


def contexts_path(environ: Mapping[str, str], home: Path) -> Path:
    """Return the file of the contexts, by the XDG base directory specification."""
    config = environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else home / ".config"
    return base / "deploylog" / "contexts.json"


def own_contexts() -> ContextFile:
    """Return the file of this user's contexts."""
    return ContextFile(contexts_path(os.environ, Path.home()))


def own_name() -> str | None:
    """Return the name of the user, if there is one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # The user of a container may have no name.
        return None


def params(**given: str | int | Sequence[str] | None) -> Params:
    """Build query parameters: omit ``None``, and repeat the name for each item of a list."""
    pairs: list[tuple[str, str]] = []
    for option, value in given.items():
        name = option.replace("_", "")
        if isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif value is not None:
            pairs.extend((name, item) for item in value)
    return pairs


def refuse_options(context: typer.Context) -> None:
    """Raise BadParameter for options before the subcommand, which would otherwise be ignored."""
    for name in context.params:
        if source_of(context, name) == "COMMANDLINE":
            raise typer.BadParameter(f"put options after {context.invoked_subcommand}")


def source_of(context: typer.Context, name: str) -> str | None:
    """Return where an option's value comes from: ``COMMANDLINE``, ``ENVIRONMENT``, ``DEFAULT``…"""
    source = context.get_parameter_source(name)
    return source.name if source is not None else None


def check_name(name: str | None) -> str | None:
    """Return the name; raises BadParameter for an empty one, as from an unset variable."""
    if name is None:
        return None
    if not name.strip():
        raise typer.BadParameter("must not be empty")
    if one_line(name) != name:
        raise typer.BadParameter("must not contain control characters")
    return name


def choice_of(kind: type[_Choice]) -> Callable[[str], _Choice]:
    """Return a parser of the values of ``kind``, which raises BadParameter."""

    def parse(word: str) -> _Choice:
        try:
            return kind(word)
        except ValueError:
            words = ", ".join(repr(each.value) for each in kind)
            raise typer.BadParameter(f"{word!r} is not one of {words}.") from None

    # The help shows the name of the parser as the form of the value.
    parse.__name__ = "|".join(kind)
    return parse


Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="Maximum number of items to list.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not print to standard output.")]
SubscriptionId = Annotated[
    str, typer.Argument(help="Id or name of the subscription.", callback=check_name)
]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """The options of every command that calls a server."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            envvar="DEPLOYLOG_SERVER",
            help="URL of the server.",
            show_default=f"that of the context, or {DEFAULT_SERVER}",
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            envvar="DEPLOYLOG_KEY",
            help="API key. Prefer the variable: other users of this machine can see command lines.",
            show_default="that of the context",
        ),
    ] = None
    context_name: Annotated[
        str | None,
        typer.Option(
            "--context",
            envvar="DEPLOYLOG_CONTEXT",
            help="Context to use: a server and its key, saved by deploylog login.",
            callback=check_name,
            show_default="the current one",
        ),
    ] = None

    def open(self) -> AbstractAsyncContextManager[Client]:
        target = self._target()
        return open_client(target.server, target.key)

    def _target(self) -> SavedContext:
        """Return the server and the key; raises OperatorError."""
        if self.server is None:
            saved = self._saved() or SavedContext(server=DEFAULT_SERVER)
            return replace(saved, key=self.key or saved.key)
        if self.context_name is not None:
            raise OperatorError(
                "specify either --server or --context; DEPLOYLOG_SERVER and DEPLOYLOG_CONTEXT"
                " count as these options"
            )
        # A saved key is only ever sent to the server that it was saved for.
        return SavedContext(server=self.server, key=self.key)

    def _saved(self) -> SavedContext | None:
        file = own_contexts()
        selected = file.read().select(self.context_name)
        if selected is None:
            return None
        name, saved = selected
        if saved.key is not None and file.is_exposed:
            log_line(f"other users can read the keys in {file.path}: run chmod 600 on it")
        if self.key is None and saved.keyring:
            return replace(saved, key=load("keyring").read(name, saved))
        return saved

    def call(self, call: Callable[[Client], Awaitable[_Result]]) -> _Result:
        """Run ``call`` with a client, and return its result."""

        async def run() -> _Result:
            async with self.open() as client:
                return await call(client)

        return asyncio.run(run())


# The store, for commands that open it themselves


class StoreLocation(msgspec.Struct, frozen=True, kw_only=True):
    """The options of every command that opens the store itself."""

    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="DEPLOYLOG_STORE",
            help="URL of the store, for example sqlite:///deploylog.db.",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="DEPLOYLOG_CONFIG",
            help="Settings file in TOML. Options and environment variables override it.",
        ),
    ] = None

    @property
    def url(self) -> str:
        """The store that ``serve`` would use."""
        return _setting("store", self.store, self.config)

    def secret_key_file(self, path: str | None) -> str:
        """Return the file of encryption keys that ``serve`` would use."""
        return _setting("secret_key_file", path, self.config)


def _setting(name: str, given: str | None, config: Path | None) -> str:
    """The setting as ``serve`` would have it."""
    # Imported here: the settings of the APIs need the APIs, which few commands do.
    from deploylog.server.settings import load_settings

    text: str = getattr(load_settings({name: given}, environ=os.environ, config=config), name)
    return text


SecretKeyFile = Annotated[
    str | None,
    typer.Option(
        "--secret-key-file",
        envvar="DEPLOYLOG_SECRET_KEY_FILE",
        help="File with the keys that encrypt stored secrets.",
    ),
]
