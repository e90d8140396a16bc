"""``run``: run a deployment tool, and record its output."""

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
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.recording import open_recording, run_options, signal_handlers
from deploylog.cli.terminal.input import Source, open_pipe
from deploylog.cli.terminal.output import LineOutput, RawOutput, Rendering, render_line
from deploylog.cli.terminal.streams import log_line
from deploylog.client.recorder import RunOptions, RunRecorder
from deploylog.errors import DeploylogError

app = new_app()

#: Options after the start of the command belong to the command.
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False}

_TOOLS = ("terraform", "tofu", "terragrunt")
_OPERATIONS = ("plan", "apply", "destroy", "refresh")
_JSON = ("-json", "--json")

#: Programs that run the command at the end of their arguments. Others may after ``--``.
_WRAPPERS = frozenset(
    {
        "asdf", "aws-vault", "caffeinate", "chamber", "chroot", "chrt", "command", "direnv", "doas",
        "docker", "doppler", "dotenv", "env", "envchain", "exec", "flock", "infisical", "ionice",
        "kubectl", "mise", "nice", "nohup", "numactl", "op", "pipenv", "podman", "poetry", "setsid",
        "sops", "ssh", "stdbuf", "strace", "sudo", "systemd-run", "taskset", "time", "timeout",
        "uv", "vault-env", "vaultenv", "xvfb-run",
    }
)  # fmt: skip

#: Programs whose arguments may have the names of tools and operations by chance.
_TASK_RUNNERS = frozenset({"echo", "gmake", "just", "make", "npm", "pnpm", "task", "yarn"})

#: The exit codes of a shell for a command that does not exist, or cannot be run.
_NOT_FOUND, _NOT_RUNNABLE = 127, 126


@app.command(context_settings=CONTEXT)
@expanded
def run(
    command: Annotated[
        list[str],
        typer.Argument(help="Command to run, for example terraform apply -auto-approve."),
    ],
    *,
    run: options.Run,
    json_output: Annotated[
        bool, typer.Option("--json-output", help="Show the tool's JSON instead of its text.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if some events could not be recorded.")
    ] = False,
    buffer: options.Buffer,
    connection: options.Connection,
) -> None:
    """Run a deployment tool, show its output, and record it live.

    Adds -json to plan, apply, destroy and refresh of Terraform, OpenTofu and Terragrunt, also
    behind a wrapper such as aws-vault exec prod --. Warns if the output contains no JSON. Exits
    with the exit code of the tool, even if the server is down. Passes signals on to the tool.

    Example: deploylog run --project acme --stack web terraform apply
    """
    recorded = run_options(run, buffer, operation_of(command))
    rendering = RawOutput() if json_output else LineOutput(render_line)
    code, failure = asyncio.run(_run(connection, recorded, with_json(command), rendering))
    if failure is not None:
        if strict and code == 0:
            raise failure
        log_line(failure.message)
    raise typer.Exit(code)


def operation_of(command: Sequence[str]) -> str | None:
    """Return ``apply`` for ``terraform -chdir=infra apply``; ``None`` for an unknown command."""
    index = _operation_index(command)
    return command[index] if index is not None else None


def with_json(command: Sequence[str]) -> list[str]:
    """Return the command with -json after its operation, if it is known and has none."""
    index = _operation_index(command)
    if index is None or any(word in _JSON for word in command):
        return list(command)
    return [*command[: index + 1], "-json", *command[index + 1 :]]


def _operation_index(command: Sequence[str]) -> int | None:
    """Return the index of the tool's operation, which may come after a wrapper."""
    for index, word in enumerate(command):
        operation = _operation_after(command, index) if _name(word) in _TOOLS else None
        if operation is not None and _runs_command(command[:index]):
            return operation
    return None


def _operation_after(command: Sequence[str], tool: int) -> int | None:
    words = enumerate(command[tool + 1 :], tool + 1)
    if _name(command[tool]) == "terragrunt":
        # Its options may have values, and ``run`` or ``run --all`` may come before the operation.
        return next((index for index, word in words if word in _OPERATIONS), None)
    index = next((index for index, word in words if not word.startswith("-")), None)
    return index if index is not None and command[index] in _OPERATIONS else None


def _runs_command(wrapper: Sequence[str]) -> bool:
    """Whether these words run the command after them."""
    if not wrapper:
        return True
    names = [_name(word) for word in wrapper]
    if _TASK_RUNNERS.intersection(names):
        return False
    return wrapper[-1] == "--" or names[0] in _WRAPPERS


def _name(word: str) -> str:
    """Return the name of a program, from its path or from a container image."""
    return Path(word).name.partition(":")[0]


async def _run(
    connection: options.Connection,
    run: RunOptions,
    command: Sequence[str],
    rendering: Rendering,
) -> tuple[int, DeploylogError | None]:
    async with (
        connection.open() as client,
        _started(command) as (process, source),
        open_recording(client, run, rendering) as recording,
    ):
        recorder = recording.recorder
        with signal_handlers(_handlers(process, source, recorder)):
            recording.announce()
            await recording.follow(source)
            code = _shell_code(await process.wait())
            if not recorder.has_started and recorder.failure is None:
                log_line(f"no resource changes are recorded: {recorder.input_problem}")
            await recorder.finish(exit_code=code)
    return code, recorder.failure


@asynccontextmanager
async def _started(
    command: Sequence[str],
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Source]]:
    """Start the command with a pipe for its output."""
    read_end, write_end = os.pipe()
    async with open_pipe(FileIO(read_end)) as source:
        try:
            # Without a terminal the tool gets a process group of its own: a signal to our whole
            # group then reaches it once, through us. Terraform treats a second interrupt as an
            # order to drop everything. On a terminal the tool may prompt, and Ctrl-C reaches it
            # directly.
            process = await asyncio.create_subprocess_exec(
                *command, stdout=write_end, process_group=None if _on_terminal() else 0
            )
        except OSError as error:
            log_line(f"{command[0]}: {(error.strerror or str(error)).lower()}")
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            raise typer.Exit(code) from error
        finally:
            os.close(write_end)
        yield process, source


def _on_terminal() -> bool:
    return os.isatty(sys.stdin.fileno())


def _handlers(
    process: asyncio.subprocess.Process, source: Source, recorder: RunRecorder
) -> dict[signal.Signals, Callable[[], object]]:
    def handler(number: signal.Signals) -> Callable[[], object]:
        return lambda: _pass_on(number, process, source, recorder)

    return {number: handler(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _pass_on(
    number: signal.Signals,
    process: asyncio.subprocess.Process,
    source: Source,
    recorder: RunRecorder,
) -> None:
    """Pass the signal on to the tool; once the tool has exited, stop reading and sending."""
    if process.returncode is not None:
        source.stop()
        recorder.stop_waiting()
    elif number == signal.SIGTERM or not _on_terminal():
        process.send_signal(number)


def _shell_code(returncode: int) -> int:
    """Return the exit code as a shell would, also for a tool that was killed by a signal."""
    return returncode if returncode >= 0 else 128 - returncode
