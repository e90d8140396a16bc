"""The tree of commands: what a command imports, and options that are defined as structs."""

import subprocess
import sys
from typing import Annotated

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from deploylog.cli import app
from deploylog.cli.application import MODULES, new_app
from deploylog.cli.options import expanded
from deploylog.cli.variables import COMMON, variables_of

IMPORTS = """
import sys
from deploylog.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported_by(*command: str) -> set[str]:
    """The modules that are imported once ``deploylog`` has run the command."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *command],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return set(done.stderr.split())


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "unused"),
    [
        (("version",), {"aiohttp", "rich.console", "deploylog.client", "deploylog.store"}),
        (("projects", "--server", "http://127.0.0.1:1"), {"deploylog.api", "uvicorn", "apsw"}),
    ],
)
def test_a_command_imports_only_what_it_needs(command: tuple[str, ...], unused: set[str]):
    imported = imported_by(*command)

    assert "deploylog.cli" in imported
    assert not imported & unused


def test_every_command_can_be_loaded():
    group = typer.main.get_group(app)

    assert [(name, command.name) for name, command in group.commands.items()] == [
        (name, name) for name in MODULES
    ]


def test_the_common_variables_are_those_of_options():
    assert set(variables_of(typer.main.get_group(app), "DEPLOYLOG")) >= COMMON


class Size(msgspec.Struct, frozen=True, kw_only=True):
    width: Annotated[int, typer.Option("--width")] = 1
    height: Annotated[int, typer.Option("--height")]


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["--height", "3"], 0, "a 1 3\n"),
        (["--width", "2", "--height", "3"], 0, "a 2 3\n"),
        (["--width", "2"], 2, ""),
    ],
)
def test_a_struct_of_options_is_expanded(arguments: list[str], code: int, output: str):
    command = new_app()

    @command.command()
    @expanded
    def show(name: str, *, size: Size) -> None:
        print(name, size.width, size.height)

    result = CliRunner().invoke(command, ["a", *arguments])

    assert (result.exit_code, result.stdout) == (code, output)
