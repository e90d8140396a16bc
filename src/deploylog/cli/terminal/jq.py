"""Expressions of jq. Only a command that is given one imports this."""

from collections.abc import Iterator
from typing import Any

import jq
import typer

from deploylog.errors import OperatorError


class JqExpression:
    """Makes values of a value by a program of jq."""

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, text: str) -> Iterator[object]:
        try:
            yield from self._program.input_text(text)
        except ValueError as error:
            raise OperatorError(f"--jq: {_first_line(error)}") from error


def parse(text: str) -> JqExpression:
    """Compile an expression; raises BadParameter."""
    try:
        return JqExpression(jq.compile(text))
    except ValueError as error:
        raise typer.BadParameter(_first_line(error)) from error


def _first_line(error: ValueError) -> str:
    """Return the reason without the source that jq shows below it."""
    line = str(error).partition("\n")[0]
    return line.removeprefix("jq: error: ").removesuffix(":")
