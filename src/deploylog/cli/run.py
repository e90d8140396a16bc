"""``run``: run a deployment tool, and record what it does."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.recording import log_line, open_recording, signal_handlers
from deploylog.cli.terminal.input import Source, open_pipe
from deploylog.cli.terminal.output import LineOutput, RawOutput, Rendering, render_line
from deploylog.client import open_client
from deploylog.client.recorder import RunOptions, RunRecorder
from deploylog.errors import DeploylogError

#: Everything from the command on is the command's.
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False}

_TOOLS = ("terraform", "tofu", "terragrunt")
_OPERATIONS = ("plan", "apply", "destroy", "refresh")
_JSON = ("-json", "--json")

#: What runs the command that its arguments end with; others do so behind ``--``.
_WRAPPERS = frozenset(
    {
        "asdf", "aws-vault", "caffeinate", "chamber", "chroot", "chrt", "command", "direnv", "doas",
        "docker", "doppler", "dotenv", "env", "envchain", "exec", "flock", "infisical", "ionice",
        "kubectl", "mise", "nice", "nohup", "numactl", "op", "pipenv", "podman", "poetry", "setsid",
        "sops", "ssh", "stdbuf", "strace", "sudo", "systemd-run", "taskset", "time", "timeout",
        "uv", "vault-env", "vaultenv", "xvfb-run",
    }
)  # fmt: skip

#: What takes such words for names of its own.
_TASK_RUNNERS = frozenset({"echo", "gmake", "just", "make", "npm", "pnpm", "task", "yarn"})

#: What a shell ends with when there is no such command, or it cannot be run.
_NOT_FOUND, _NOT_RUNNABLE = 127, 126


def run(
    command: Annotated[
        list[str], typer.Argument(help="Command to run, such as terraform apply -auto-approve.")
    ],
    *,
    project: options.Project,
    stack: options.Stack,
    environment: options.Environment = None,
    actor: options.Actor,
    group: options.Groups = None,
    json_output: Annotated[
        bool, typer.Option("--json-output", help="Show the tool's JSON, not its words.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail, too, when not everything could be recorded.")
    ] = False,
    retry_timeout: options.RetryTimeout = options.DEFAULT_PATIENCE,
    spool: options.SpoolDirectory,
    spool_bytes: options.SpoolBytes = options.DEFAULT_SPOOL_BYTES,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Run a deployment tool, show what it says, and record it as it happens.

    Adds -json to plan, apply, destroy and refresh of Terraform, OpenTofu and Terragrunt, also
    behind a wrapper such as aws-vault exec prod --. Warns if the output holds no JSON. Exits as the
    tool does, also when the server is down; signals go on to the tool.
    """
    plan = RunOptions(
        project=project, stack=stack, operation=operation_of(command), environment=environment,
        actor=actor, groups=tuple(group or ()),
        directory=spool, limit=spool_bytes, patience=retry_timeout,
    )  # fmt: skip
    rendering = RawOutput() if json_output else LineOutput(render_line)
    code, failure = asyncio.run(_run(server, key, plan, with_json(command), rendering))
    if failure is not None:
        if strict and code == 0:
            raise failure
        log_line(failure.message)
    raise typer.Exit(code)


def operation_of(command: Sequence[str]) -> str | None:
    """``apply`` of ``terraform -chdir=infra apply``; ``None`` of a command that we do not know."""
    index = _operation_index(command)
    return command[index] if index is not None else None


def with_json(command: Sequence[str]) -> list[str]:
    """The command, with -json after its operation unless it is there or we do not know it."""
    index = _operation_index(command)
    if index is None or any(word in _JSON for word in command):
        return list(command)
    return [*command[: index + 1], "-json", *command[index + 1 :]]


def _operation_index(command: Sequence[str]) -> int | None:
    """Where the operation of the tool is, which may stand behind a wrapper."""
    for index, word in enumerate(command):
        operation = _operation_after(command, index) if _name(word) in _TOOLS else None
        if operation is not None and _runs_what_follows(command[:index]):
            return operation
    return None


def _operation_after(command: Sequence[str], tool: int) -> int | None:
    words = enumerate(command[tool + 1 :], tool + 1)
    if _name(command[tool]) == "terragrunt":
        # Its options may have values, and ``run`` and ``run --all`` may come first.
        return next((index for index, word in words if word in _OPERATIONS), None)
    index = next((index for index, word in words if not word.startswith("-")), None)
    return index if index is not None and command[index] in _OPERATIONS else None


def _runs_what_follows(before: Sequence[str]) -> bool:
    """Whether these words run the command behind them."""
    if not before:
        return True
    names = [_name(word) for word in before]
    if _TASK_RUNNERS.intersection(names):
        return False
    return before[-1] == "--" or names[0] in _WRAPPERS


def _name(word: str) -> str:
    """The program's name: that of a file, or of a container's image."""
    return Path(word).name.partition(":")[0]


async def _run(
    server: str, key: str | None, plan: RunOptions, command: Sequence[str], rendering: Rendering
) -> tuple[int, DeploylogError | None]:
    async with (
        open_client(server, key) as client,
        _started(command) as (process, source),
        open_recording(client, plan, rendering) as recording,
    ):
        feed = recording.feed
        with signal_handlers(_handlers(process, source, feed)):
            recording.announce()
            await recording.follow(source)
            code = _shell_code(await process.wait())
            if not feed.has_begun and feed.failure is None:
                log_line(f"no changes to resources are recorded: {feed.instead}")
            await feed.end(exit_code=code)
    return code, feed.failure


@asynccontextmanager
async def _started(
    command: Sequence[str],
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Source]]:
    ours, its = os.pipe()
    async with open_pipe(FileIO(ours)) as source:
        try:
            # Without a terminal, a group of its own: who signals our whole group signals us, and
            # we pass it on, once. Terraform would take two interrupts for an order to drop
            # everything. On a terminal the tool may ask, and Ctrl-C reaches it without us.
            process = await asyncio.create_subprocess_exec(
                *command, stdout=its, process_group=None if _on_terminal() else 0
            )
        except OSError as error:
            log_line(f"{command[0]}: {(error.strerror or str(error)).lower()}")
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            raise typer.Exit(code) from error
        finally:
            os.close(its)
        yield process, source


def _on_terminal() -> bool:
    return os.isatty(sys.stdin.fileno())


def _handlers(
    process: asyncio.subprocess.Process, source: Source, feed: RunRecorder
) -> dict[signal.Signals, Callable[[], object]]:
    def passer(number: signal.Signals) -> Callable[[], object]:
        return lambda: _pass_on(number, process, source, feed)

    return {number: passer(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _pass_on(
    number: signal.Signals, process: asyncio.subprocess.Process, source: Source, feed: RunRecorder
) -> None:
    """Give the tool the signal; once it is gone, wait no longer for what it left behind."""
    if process.returncode is not None:
        source.stop()
        feed.hurry()
    elif number == signal.SIGTERM or not _on_terminal():
        process.send_signal(number)


def _shell_code(returncode: int) -> int:
    """The exit code, as a shell gives it for a tool that a signal ended, too."""
    return returncode if returncode >= 0 else 128 - returncode
