"""JSON on standard output: one value a line, or what an expression makes of each."""

import sys
from collections.abc import Iterable
from typing import Protocol

import msgspec

from deploylog.cli.terminal.text import plain


class Expression(Protocol):
    """Makes values of a value, as jq does."""

    def __call__(self, text: str) -> Iterable[object]:
        """Return what it makes of one value in JSON; raises OperatorError."""
        ...


class JsonLines:
    """Prints JSON, one value a line."""

    def __init__(self, expression: Expression | None) -> None:
        self._expression = expression

    def print(self, value: object, *, flush: bool = False) -> None:
        """Print one value."""
        self.print_text(msgspec.json.encode(value).decode(), flush=flush)

    def print_all(self, values: Iterable[object]) -> None:
        for value in values:
            self.print(value)

    def print_text(self, text: str, *, flush: bool = False) -> None:
        """Print one value that is JSON already."""
        if self._expression is None:
            print(text)
        else:
            for made in self._expression(text):
                print(_raw(made))
        if flush:
            sys.stdout.flush()


def _raw(made: object) -> str:
    """Return a string as it is, as scripts want it, and anything else as JSON."""
    if not isinstance(made, str):
        return msgspec.json.encode(made).decode()
    return plain(made) if sys.stdout.isatty() else made
