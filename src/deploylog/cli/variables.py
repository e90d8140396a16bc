"""Environment variables: former and misspelt names are refused, never ignored."""

import difflib
import re
from collections.abc import Iterator, Mapping

from typer.core import TyperGroup

from deploylog.errors import InvalidSettings
from deploylog.server.settings.table import RENAMED, SETTINGS

PREFIX = "DEPLOYLOG_"

#: Former names, and the names that replace them.
_FORMER = {
    **{f"{PREFIX}{old.upper()}": f"{PREFIX}{new.upper()}" for old, new in RENAMED.items()},
    "DEPLOYLOG_GIVE_UP_AFTER": "DEPLOYLOG_RETRY_TIMEOUT",
}

#: How alike two names are before one is taken for a misspelling of the other.
_ALIKE = 0.85

#: What Kubernetes sets in every container beside a service named ``deploylog``.
_KUBERNETES = re.compile(r"DEPLOYLOG_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_.*)")


def check_variables(environ: Mapping[str, str], commands: TyperGroup) -> None:
    """Raise InvalidSettings for a variable whose name is a former or a misspelt one."""
    known = {*_variables_of(commands, PREFIX.rstrip("_")), *(s.env for s in SETTINGS)}
    suffixes = [name.removeprefix(PREFIX) for name in sorted(known)]
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or _KUBERNETES.fullmatch(name):
            continue
        suffix = name.removeprefix(PREFIX)
        near = difflib.get_close_matches(suffix, suffixes, n=1, cutoff=_ALIKE)
        if name in _FORMER:
            raise InvalidSettings(f"{name} is not used any more: use {_FORMER[name]}")
        if near:
            raise InvalidSettings(
                f"unknown environment variable {name}: did you mean {PREFIX}{near[0]}?"
            )


def _variables_of(group: TyperGroup, prefix: str) -> Iterator[str]:
    """Every variable that an option of a command in ``group`` is read from."""
    for name, command in group.commands.items():
        below = f"{prefix}_{name.upper().replace('-', '_')}"
        for parameter in command.params:
            named = parameter.envvar or ()
            yield from [named] if isinstance(named, str) else named
            if parameter.name:
                yield f"{below}_{parameter.name.upper()}"
        if isinstance(command, TyperGroup):
            yield from _variables_of(command, below)
