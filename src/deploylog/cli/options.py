"""The options that commands share."""

import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from deploylog.cli.terminal.formatting import one_line
from deploylog.client import Params
from deploylog.client.spool import DEFAULT_LIMIT

_Choice = TypeVar("_Choice", bound=StrEnum)

DEFAULT_SERVER = "http://127.0.0.1:8325"
DEFAULT_SPOOL_BYTES = DEFAULT_LIMIT
#: Seconds.
DEFAULT_PATIENCE = 300.0


def spool_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Where spools are kept, by the XDG base directory specification."""
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else home / ".local" / "state"
    return base / "deploylog" / "spool"


def _own_spool_directory() -> Path:
    return spool_directory(os.environ, Path.home())


def _own_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # In a container the user may have none.
        return None


def params(**given: str | int | Sequence[str] | None) -> Params:
    """Query parameters: what was not given is left out, a list is repeated."""
    pairs: list[tuple[str, str]] = []
    for option, value in given.items():
        name = option.replace("_", "")
        if isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif value is not None:
            pairs.extend((name, item) for item in value)
    return pairs


def refuse_options(context: typer.Context) -> None:
    """Raise BadParameter for options before the subcommand: they are not the subcommand's."""
    for name in context.params:
        if source_of(context, name) == "COMMANDLINE":
            raise typer.BadParameter(f"options go after {context.invoked_subcommand}")


def source_of(context: typer.Context, name: str) -> str | None:
    """Where an option's value comes from: ``COMMANDLINE``, ``ENVIRONMENT``, ``DEFAULT``…"""
    source = context.get_parameter_source(name)
    return source.name if source is not None else None


def check_name(name: str | None) -> str | None:
    """The name; raises BadParameter for one that cannot be meant, as of a variable not set."""
    if name is None:
        return None
    if not name.strip():
        raise typer.BadParameter("it is empty")
    if one_line(name) != name:
        raise typer.BadParameter("it holds control characters")
    return name


def choice_of(kind: type[_Choice]) -> Callable[[str], _Choice]:
    """A parser of one of the words of ``kind``; it raises BadParameter."""

    def parse(word: str) -> _Choice:
        try:
            return kind(word)
        except ValueError:
            words = ", ".join(repr(each.value) for each in kind)
            raise typer.BadParameter(f"{word!r} is not one of {words}.") from None

    return parse


Server = Annotated[
    str, typer.Option("--server", envvar="DEPLOYLOG_SERVER", help="Address of the server.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="DEPLOYLOG_KEY",
        help="Key to the server. Others can see a command line: better set the variable.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

# What is recorded of a run

Project = Annotated[
    str,
    typer.Option(
        "--project",
        envvar="DEPLOYLOG_PROJECT",
        callback=check_name,
        help="Project that the stack is in.",
    ),
]
Stack = Annotated[
    str,
    typer.Option(
        "--stack",
        envvar="DEPLOYLOG_STACK",
        callback=check_name,
        help="Stack that is deployed; made if there is none of that name.",
    ),
]
Environment = Annotated[
    str | None,
    typer.Option(
        "--environment",
        envvar="DEPLOYLOG_ENVIRONMENT",
        help="Environment that is deployed to, such as prod.",
    ),
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="DEPLOYLOG_ACTOR",
        help="Who deploys.",
        default_factory=_own_name,
        show_default="your name",
    ),
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        envvar="DEPLOYLOG_GROUP",
        help="Group that may see it, repeatable; none: whoever may read the stack.",
    ),
]
SpoolDirectory = Annotated[
    Path,
    typer.Option(
        "--spool",
        envvar="DEPLOYLOG_SPOOL",
        help="Directory for events that the server has not acknowledged.",
        default_factory=_own_spool_directory,
        show_default="~/.local/state/deploylog/spool",
    ),
]
SpoolBytes = Annotated[
    int,
    typer.Option(
        "--spool-bytes",
        envvar="DEPLOYLOG_SPOOL_BYTES",
        min=1,
        help="Most bytes to wait there; beyond that the tool waits, and nothing is dropped.",
    ),
]
RetryTimeout = Annotated[
    float,
    typer.Option(
        "--retry-timeout",
        envvar="DEPLOYLOG_RETRY_TIMEOUT",
        min=1,
        help="Seconds to try on once the output has ended and the server does not answer.",
    ),
]

# Which events are read

Scope = Annotated[
    str | None,
    typer.Option("--scope", help="Only below this scope, as project/acme."),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Type, or resource.* for all below it; repeatable."),
]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", help="Who reported it; repeatable."),
]
Actors = Annotated[
    list[str] | None,
    typer.Option("--actor", help="Who did it; repeatable."),
]
Subjects = Annotated[
    list[str] | None,
    typer.Option("--subject", help="What it happened to; repeatable."),
]
ResourceTypes = Annotated[
    list[str] | None,
    typer.Option("--resource-type", help="Type of the resource; repeatable."),
]
ResourceNames = Annotated[
    list[str] | None,
    typer.Option("--resource-name", help="Name of the resource; repeatable."),
]
ResourceKeys = Annotated[
    list[str] | None,
    typer.Option("--resource-key", help="Index or key of the resource; repeatable."),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Not before this time: RFC 3339, or -15m, -2h, -7d.",
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help="Before this time, written likewise."),
]
