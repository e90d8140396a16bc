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

from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import one_line
from deploylog.client import Client, Params, open_client
from deploylog.client.contexts import Context as SavedContext
from deploylog.client.contexts import ContextFile
from deploylog.client.spool import DEFAULT_MAX_BYTES
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


Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


class Columns(StrEnum):
    """Which columns a table has on a narrow terminal."""

    fitting = "fitting"
    wide = "wide"


Output = Annotated[
    Columns,
    typer.Option(
        "--output",
        "-o",
        parser=choice_of(Columns),
        help="Columns of the table: those that fit on the terminal, or all (wide).",
    ),
]
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
        saved = file.read().select(self.context_name)
        if saved is not None and saved.key is not None and file.is_exposed:
            log_line(f"other users can read the keys in {file.path}: run chmod 600 on it")
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


# What is recorded of a run

Project = Annotated[
    str,
    typer.Option(
        "--project",
        envvar="DEPLOYLOG_PROJECT",
        callback=check_name,
        help="Project that contains the stack.",
    ),
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="DEPLOYLOG_ACTOR",
        help="Who deploys.",
        default_factory=own_name,
        show_default="your user name",
    ),
]
RunActor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="DEPLOYLOG_ACTOR",
        help="Who deploys.",
        show_default="that of CI, or your user name",
    ),
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        envvar="DEPLOYLOG_GROUP",
        help="Group that may read the events. Without it, everyone who may read the stack can."
        " Repeatable.",
    ),
]


def _stack(help: str) -> Any:
    return typer.Option("--stack", envvar="DEPLOYLOG_STACK", callback=check_name, help=help)


def _retry_timeout(help: str) -> Any:
    return typer.Option("--retry-timeout", envvar="DEPLOYLOG_RETRY_TIMEOUT", min=1, help=help)


Stack = Annotated[str, _stack("Stack to deploy. It is created if it does not exist.")]
PlannedStack = Annotated[str, _stack("Stack of the plan. It need not exist yet.")]
CloudFormationStack = Annotated[str, _stack("Name or ARN of the CloudFormation stack.")]

RetryTimeout = Annotated[
    float, _retry_timeout("Seconds to keep retrying while the server does not respond.")
]
UploadRetryTimeout = Annotated[
    float,
    _retry_timeout("Seconds to keep retrying an unresponsive server after the output has ended."),
]
CollectRetryTimeout = Annotated[
    float,
    _retry_timeout(
        "Seconds to keep retrying while the server or AWS does not respond. With --follow there"
        " is no limit."
    ),
]
SpoolDirectory = Annotated[
    Path,
    typer.Option(
        "--spool",
        envvar="DEPLOYLOG_SPOOL",
        help="Directory that buffers events until the server acknowledges them.",
        default_factory=_own_spool_directory,
        show_default="~/.local/state/deploylog/spool",
    ),
]


Traceparent = Annotated[
    str | None,
    typer.Option(
        "--traceparent",
        envvar="TRACEPARENT",
        help="Trace that the events belong to, as in W3C Trace Context.",
        show_default=False,
    ),
]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The options that describe a run and its stack."""

    project: Project
    stack: Stack
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            envvar="DEPLOYLOG_ENVIRONMENT",
            help="Environment to deploy to, for example prod.",
        ),
    ] = None
    actor: RunActor = None
    group: Groups = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the upload that empties spools."""

    retry_timeout: UploadRetryTimeout = DEFAULT_RETRY_TIMEOUT
    spool: SpoolDirectory


class Buffer(Upload, frozen=True, kw_only=True):
    """The options of an upload, and of the spool of a run."""

    spool_bytes: Annotated[
        int,
        typer.Option(
            "--spool-bytes",
            envvar="DEPLOYLOG_SPOOL_BYTES",
            min=1,
            help="Maximum size of the buffer in bytes. While it is full the tool waits; nothing is"
            " dropped.",
        ),
    ] = DEFAULT_MAX_BYTES


# What is read

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only events at or after this time: RFC 3339, or a time ago: 15m, 2h or 7d.",
    ),
]
StartedSince = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only deployments that started since: RFC 3339, or a time ago: 15m, 2h or 7d.",
    ),
]
Scope = Annotated[
    str | None,
    typer.Option("--scope", help="Only events below this scope, for example project/acme."),
]


Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="Words that an event must have, all of them, in its message, subject or resource."
        " Write a phrase as '\"access denied\"' and the start of a word as throttl*.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help="Only events before this time, written as in --since."),
]


def _filter(option: str, help: str) -> Any:
    return typer.Option(option, help=f"{help} Repeatable.")


class FilterField(StrEnum):
    """The fields that filter events."""

    type = "type"
    source = "source"
    actor = "actor"
    subject = "subject"
    resource_type = "resource-type"
    resource_name = "resource-name"
    resource_key = "resource-key"
    resource_address = "resource-address"
    resource_id = "resource-id"

    @property
    def parameter(self) -> str:
        """Its name as a query parameter."""
        return self.value.replace("-", "")


def _parse_excluded(text: str) -> tuple[str, str]:
    """Return the query parameter and the value of ``FIELD=VALUE``; raises BadParameter."""
    name, equals, value = text.partition("=")
    field = choice_of(FilterField)(name)
    if not equals or not value:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE.")
    return field.parameter, value


def _check_excluded(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        _parse_excluded(text)
    return texts


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The options that filter events: values of one option are ORed, options are ANDed."""

    type: Annotated[
        list[str] | None,
        _filter(
            "--type", "Only events of this type. resource.* matches every type below resource."
        ),
    ] = None
    source: Annotated[list[str] | None, _filter("--source", "Only events from this source.")] = None
    actor: Annotated[list[str] | None, _filter("--actor", "Only events by this actor.")] = None
    subject: Annotated[
        list[str] | None, _filter("--subject", "Only events about this subject.")
    ] = None
    resource_type: Annotated[
        list[str] | None,
        _filter("--resource-type", "Only events about resources of this type."),
    ] = None
    resource_name: Annotated[
        list[str] | None,
        _filter("--resource-name", "Only events about resources with this name."),
    ] = None
    resource_key: Annotated[
        list[str] | None,
        _filter("--resource-key", "Only events about resources with this index or key."),
    ] = None

    resource_address: Annotated[
        list[str] | None,
        _filter("--resource-address", "Only events about resources with this address."),
    ] = None
    resource_id: Annotated[
        list[str] | None,
        _filter("--resource-id", "Only events about resources with this id of the provider."),
    ] = None
    excluded: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            metavar="FIELD=VALUE",
            callback=_check_excluded,
            help="Exclude events whose field has this value, for example type=deployment.log."
            " Repeatable.",
        ),
    ] = None

    def params(self, words: Sequence[str] | None = None) -> Params:
        """Return the filter as query parameters, with the words of a full text."""
        excluded = [(f"{name}!", value) for name, value in self._excluded()]
        return [*params(q=" ".join(words) if words else None, **self._values()), *excluded]

    def fields(self, text: str | None = None) -> dict[str, Any] | None:
        """Return the filter as a subscription has it; ``None`` if no option is given."""
        given: dict[str, Any] = {
            name.replace("_", ""): values for name, values in self._values().items() if values
        }
        excluded: dict[str, list[str]] = {}
        for name, value in self._excluded():
            excluded.setdefault(name, []).append(value)
        if excluded:
            given["not"] = excluded
        if text is not None:
            given["q"] = text
        return given or None

    def _values(self) -> dict[str, list[str] | None]:
        values = msgspec.structs.asdict(self)
        del values["excluded"]
        return values

    def _excluded(self) -> list[tuple[str, str]]:
        return [_parse_excluded(text) for text in self.excluded or ()]


class DeploymentNames(msgspec.Struct, frozen=True, kw_only=True):
    """The options that select by names: values of one option are ORed, options are ANDed."""

    project: Annotated[
        str | None, typer.Option("--project", help="Only what is of this project.")
    ] = None
    stack: Annotated[list[str] | None, _filter("--stack", "Only what is of this stack.")] = None
    environment: Annotated[
        list[str] | None, _filter("--environment", "Only what is of this environment.")
    ] = None
    status: Annotated[
        list[str] | None,
        _filter("--status", "Only deployments with this status: running, completed or failed."),
    ] = None
    version: Annotated[
        list[str] | None, _filter("--version", "Only deployments of this version.")
    ] = None
    commit: Annotated[
        list[str] | None,
        _filter("--commit", "Only deployments of the commit that starts with these digits."),
    ] = None
    label: Annotated[
        list[str] | None, _filter("--label", "Only deployments with the label NAME=VALUE.")
    ] = None

    def params(self) -> Params:
        """Return the names as query parameters."""
        return params(**msgspec.structs.asdict(self))


class NameFilter(DeploymentNames, frozen=True, kw_only=True):
    """The names, and the ids of deployments."""

    deployment: Annotated[
        list[str] | None,
        _filter("--deployment", "Only the deployment with this id, or the start of its id."),
    ] = None


class StackFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The options that filter deployments and change sets."""

    project: Annotated[
        str | None, typer.Option("--project", help="Only items of this project.")
    ] = None
    stack: Annotated[
        str | None, typer.Option("--stack", help="Only items of this stack. Requires --project.")
    ] = None
    limit: Limit = 20

    def params(self) -> Params:
        """Return the filter as query parameters."""
        return params(project=self.project, stack=self.stack, limit=self.limit)
