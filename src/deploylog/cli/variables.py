"""Environment variables: unknown names that look like known ones are refused, never ignored."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

from typer.core import TyperGroup

from deploylog.errors import InvalidSettings

PREFIX = "DEPLOYLOG_"

#: Former names of options' variables, and the names that replace them.
_FORMER_OPTIONS = {"DEPLOYLOG_GIVE_UP_AFTER": "DEPLOYLOG_RETRY_TIMEOUT"}

#: The variables of the options that most commands share. With these alone no command is imported.
COMMON = {
    f"{PREFIX}{name}"
    for name in (
        "SERVER",
        "KEY",
        "CONTEXT",
        "PROJECT",
        "STACK",
        "ENVIRONMENT",
        "ACTOR",
        "GROUP",
        "SPOOL",
    )
}

#: How similar a name must be to a known one to count as misspelt.
_SIMILARITY = 0.85

#: What Kubernetes sets in every container beside a service named ``deploylog``.
_KUBERNETES = re.compile(r"DEPLOYLOG_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_.*)")


def check_variables(environ: Mapping[str, str], commands: TyperGroup) -> None:
    """Raise InvalidSettings for a variable with a former or a misspelt name."""
    unknown = [name for name in sorted(environ) if _is_ours(name) and name not in COMMON]
    if not unknown:
        return
    known, former = _names(commands, unknown)
    for name in unknown:
        if name not in known:
            _refuse_misspelt(name, known, {**former, **_FORMER_OPTIONS})


def _names(commands: TyperGroup, unknown: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """Return the names of all variables, and the former names of settings."""
    # Imported here: the settings of the APIs need the APIs, which few commands do.
    try:
        from deploylog.server.settings.table import RENAMED, SETTINGS
    except ModuleNotFoundError:
        # Without the packages of the service, its settings mean nothing here.
        return set(COMMON), {}
    former = {f"{PREFIX}{old.upper()}": f"{PREFIX}{new.upper()}" for old, new in RENAMED.items()}
    known = {*COMMON, *(setting.env for setting in SETTINGS)}
    if any(name not in known for name in unknown):
        known |= set(variables_of(commands, PREFIX.rstrip("_")))
    return known, former


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not _KUBERNETES.fullmatch(name)


def _refuse_misspelt(name: str, known: set[str], former: Mapping[str, str]) -> None:
    if name in former:
        raise InvalidSettings(f"{name} was renamed: use {former[name]}")
    suffixes = sorted(each.removeprefix(PREFIX) for each in known)
    near = difflib.get_close_matches(name.removeprefix(PREFIX), suffixes, n=1, cutoff=_SIMILARITY)
    if near:
        raise InvalidSettings(
            f"unknown environment variable {name}: did you mean {PREFIX}{near[0]}?"
        )


def variables_of(group: TyperGroup, prefix: str) -> Iterator[str]:
    """Yield every variable that an option of a command in ``group`` is read from."""
    for name, command in group.commands.items():
        path = f"{prefix}_{name.upper().replace('-', '_')}"
        for parameter in command.params:
            named = parameter.envvar or ()
            yield from [named] if isinstance(named, str) else named
            if parameter.name:
                yield f"{path}_{parameter.name.upper()}"
        if isinstance(command, TyperGroup):
            yield from variables_of(command, path)
