"""The tree of commands: what a command imports, and options that are defined as structs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from deploylog.cli import app
from deploylog.cli.application import COMMANDS, load, new_app
from deploylog.cli.options import expanded
from deploylog.cli.variables import COMMON, variables_of
from deploylog.errors import OperatorError
from support.backends import empty_store_url_at

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


#: The options of a run that waits for nothing.
RUN = ("--project", "p", "--stack", "s", "--no-detect", "--retry-timeout", "0")

#: The options of a command whose server does not respond.
UNREACHABLE = ("--server", "http://127.0.0.1:1")

#: What no command that calls a server may load: it would start later.
UNUSED_BY_CLIENTS = {"aiohttp", "deploylog.api", "deploylog.store", "uvicorn", "apsw", "jq"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "unused"),
    [
        (("version",), {"aiohttp", "rich.console", "deploylog.client", "deploylog.store"}),
        (("--version",), {"aiohttp", "rich.console", "deploylog.client", "deploylog.store"}),
        (("--help",), {"aiohttp", "rich.console", "deploylog.client", "deploylog.store"}),
        (("projects", *UNREACHABLE), UNUSED_BY_CLIENTS),
        (("deployments", *UNREACHABLE), UNUSED_BY_CLIENTS),
        (("tail", *UNREACHABLE), UNUSED_BY_CLIENTS),
        (
            ("run", *RUN, *UNREACHABLE, "--", "false"),
            UNUSED_BY_CLIENTS,
        ),
    ],
)
def test_a_command_imports_only_what_it_needs(command: tuple[str, ...], unused: set[str]):
    imported = imported_by(*command)

    assert "deploylog.cli" in imported
    assert not imported & unused


@pytest.mark.process
def test_a_service_without_deliveries_loads_no_http_client(tmp_path: Path):
    command = ["serve", "--port", "0", "--store", empty_store_url_at(tmp_path / "log.db")]
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTS, *command], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if "Started server process" in line:
                process.terminate()
                break
        imported = set(process.stderr.read().split())

    assert {"deploylog.server.serve", "uvicorn"} <= imported
    assert not imported & {"aiohttp", "boto3", "keyring", "opentelemetry", "psycopg"}


def test_every_command_can_be_loaded():
    group = typer.main.get_group(app)

    assert [(name, command.name) for name, command in group.commands.items()] == [
        (name, name) for name in COMMANDS
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_help_of_each_says_first(name: str):
    command = typer.main.get_group(app).commands[name]

    first, _, _ = (command.help or "").partition("\n\n")
    assert first.replace("\n", " ") == COMMANDS[name][1]


def test_the_common_variables_are_those_of_options():
    assert set(variables_of(typer.main.get_group(app), "DEPLOYLOG")) >= COMMON


def pages(path: tuple[str, ...] = (), group: Any = None) -> Iterator[tuple[str, ...]]:
    """The path of every command."""
    yield path
    for name, command in getattr(group or typer.main.get_group(app), "commands", {}).items():
        yield from pages((*path, name), command)


@pytest.mark.parametrize("path", [path for path in pages() if path])
def test_what_prints_json_takes_an_expression(path: tuple[str, ...]):
    command = typer.main.get_group(app)
    for name in path:
        command = command.commands[name]  # type: ignore[assignment]

    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == ("--jq" in options)


@pytest.fixture(scope="module")
def help_pages() -> dict[tuple[str, ...], str]:
    runner = CliRunner(env={"COLUMNS": "80"})
    return {path: runner.invoke(app, ["help", *path]).stdout for path in pages()}


def test_the_help_fits_80_columns_and_names_no_type_of_python(help_pages):
    wide = [line for page in help_pages.values() for line in page.splitlines() if len(line) > 80]

    assert wide == []
    assert not [page for page in help_pages.values() if re.search(r"list\[|<str>| str ", page)]


def test_an_example_in_the_help_stands_on_a_line_of_its_own(help_pages):
    assert "Example:\n    deploylog run --project" in help_pages[("run",)]


def test_help_and_the_option_print_the_same(help_pages):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["subscriptions", "add", "-h"])

    assert help_pages[("subscriptions", "add")].strip() == result.stdout.strip()


@pytest.mark.parametrize("unknown", [["nothing"], ["run", "x"], ["subscriptions", "x"]])
def test_help_of_an_unknown_command_is_refused(unknown: list[str]):
    result = CliRunner().invoke(app, ["help", *unknown])

    assert result.exit_code == 2
    assert "subcommands" in result.stderr or "No such command" in result.stderr


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


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "deploylog.cli.keyring", raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(OperatorError, match=r"needs keyring: install deploylog\[keyring\]"):
        load("keyring")
