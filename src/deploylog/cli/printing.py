"""What a command prints: text for people, or JSON for programs."""

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
import typer

from deploylog.cli.application import load
from deploylog.cli.options import choice_of
from deploylog.cli.terminal.formatting import screen
from deploylog.cli.terminal.json_lines import Expression, JsonLines
from deploylog.cli.terminal.table import Listing

_Item = TypeVar("_Item")


def _parse_expression(text: str) -> Expression:
    expression: Expression = load("terminal.jq").parse(text)
    return expression


Jq = Annotated[
    Expression | None,
    typer.Option(
        "--jq",
        metavar="EXPRESSION",
        parser=_parse_expression,
        help="Print what this jq expression makes of the JSON, and strings without quotes.",
    ),
]


def json_lines(json: bool, jq: Expression | None) -> JsonLines | None:
    """Return what prints JSON, if ``--json`` or ``--jq`` asks for it."""
    return JsonLines(jq) if json or jq is not None else None


class Printing(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a command that can print JSON."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False
    jq: Jq = None

    @property
    def json_lines(self) -> JsonLines | None:
        """What prints JSON, if that is asked for."""
        return json_lines(self.json, self.jq)


class Columns(StrEnum):
    """Which columns a table has on a narrow terminal."""

    fitting = "fitting"
    wide = "wide"


class TablePrinting(Printing, frozen=True, kw_only=True):
    """The options of a command that prints a table, or JSON."""

    output: Annotated[
        Columns,
        typer.Option(
            "--output",
            "-o",
            parser=choice_of(Columns),
            help="Columns of the table: those that fit on the terminal, or all (wide).",
        ),
    ] = Columns.fitting

    def print(self, values: Collection[_Item], table: Callable[[Iterable[_Item]], Listing]) -> None:
        """Print values as JSON, or as the table that ``table`` makes of them."""
        lines = self.json_lines
        if lines is not None:
            lines.print_all(values)
        else:
            self.print_table(table(values))

    def print_table(self, table: Listing) -> None:
        table.print(screen(), wide=self.output is Columns.wide)
