"""The help of a command: examples on lines of their own, and words instead of Python's types."""

import re
from types import MappingProxyType
from typing import Any

from typer.core import TyperArgument, TyperGroup, TyperOption

#: What stands for a value in the help, by the type's name; a choice is named for its values.
_METAVARS = MappingProxyType(
    {
        "str": "TEXT",
        "path": "PATH",
        "int": "NUMBER",
        "int range": "NUMBER",
        "float": "NUMBER",
        "float range": "NUMBER",
    }
)

_EXAMPLE = re.compile(r"^Example: (.+(?:\n.+)*)", re.MULTILINE)


class _Argument(TyperArgument):
    """An argument whose name is all that the help says of its type."""

    def display_type_rich(self, ctx: Any) -> None:
        return None


def polish(command: Any) -> None:
    """Make the help of a command, and of its subcommands, easier to read."""
    if command.help is not None:
        # The library joins lines into paragraphs, except after a backspace.
        command.help = _EXAMPLE.sub(r"\b\nExample:\n  \1", command.help)
    for parameter in command.params:
        if isinstance(parameter, TyperOption):
            _polish_option(parameter)
        else:
            parameter.__class__ = _Argument
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            polish(child)


def _polish_option(option: TyperOption) -> None:
    # The variables of the other options follow from their names; the reference says how.
    option.show_envvar = option.envvar is not None
    if option.metavar is None and not option.is_flag:
        option.metavar = _METAVARS.get(option.type.name, option.type.name)
