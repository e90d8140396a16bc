"""``run``: run a deployment tool, and record its output."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from io import FileIO
from typing import Annotated

import typer
from msgspec.structs import replace

from deploylog.cli import options, recording_options
from deploylog.cli.application import new_app
from deploylog.cli.details import Detecting
from deploylog.cli.options import expanded
from deploylog.cli.recording import open_recording, run_options, signal_handlers
from deploylog.cli.terminal.input import Source, open_pipe
from deploylog.cli.terminal.output import LineOutput, RawOutput, Rendering, render_line
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.tools import ToolCall, tool_call
from deploylog.client.recorder import CommandFactory, RunOptions, RunRecorder
from deploylog.errors import DeploylogError
from deploylog.ingest.command.redaction import LineRedactor, secrets_in
from deploylog.ingest.command.run import CommandRun

app = new_app()

#: Options after the start of the command belong to the command.
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False}

#: Seconds in which what a command left behind may end, after a signal.
_REST_SECONDS = 2

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
    run: recording_options.Run,
    tool: Annotated[
        str | None,
        typer.Option("--tool", help="Name of the tool.", show_default="that of the command"),
    ] = None,
    operation: Annotated[
        str | None,
        typer.Option(
            "--operation", help="Operation of the tool.", show_default="that of the command"
        ),
    ] = None,
    carried: Detecting,
    output: Annotated[
        bool, typer.Option("--output/--no-output", help="Record the lines that the tool prints.")
    ] = True,
    redact: Annotated[
        list[str] | None,
        typer.Option(
            "--redact",
            envvar="DEPLOYLOG_REDACT",
            metavar="REGEX",
            help="Regular expression of secrets in the output; of its last group, if it has one."
            " Repeatable.",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json-output", help="Show the tool's JSON instead of its text.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if some events could not be recorded.")
    ] = False,
    traceparent: recording_options.Traceparent = None,
    buffer: recording_options.Buffer,
    connection: options.Connection,
) -> None:
    """Run a command, show its output, and record it live as a deployment.

    Adds -json to plan, apply, destroy and refresh of Terraform, OpenTofu and Terragrunt, also
    behind a wrapper such as aws-vault exec prod --, and records each change of a resource. Records
    the output of any other command as lines, without what looks like a secret. Exits with the exit
    code of the command, even if the server is down. Passes signals on to the command.

    Example: deploylog run --project acme --stack web -- helm upgrade web ./chart
    """
    call = tool_call(command)
    call = replace(call, tool=tool or call.tool, operation=operation or call.operation)
    patterns = [_pattern(each) for each in redact or ()]
    recorded = run_options(
        run, carried, buffer, tool=call.tool, operation=call.operation, records_output=output,
        traceparent=traceparent,
    )  # fmt: skip
    rendering = RawOutput() if json_output else LineOutput(render_line)
    code, failure = asyncio.run(_run(connection, recorded, call, patterns, rendering))
    if failure is not None:
        if strict and code == 0:
            raise failure
        log_line(failure.message)
    raise typer.Exit(code)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from error


async def _run(
    connection: options.Connection,
    recorded: Awaitable[RunOptions],
    call: ToolCall,
    patterns: Sequence[re.Pattern[str]],
    rendering: Rendering,
) -> tuple[int, DeploylogError | None]:
    run = await recorded
    async with (
        connection.open() as client,
        _started(call, pipes_errors=run.records_output and not call.is_terraform) as process,
        open_recording(client, run, rendering, _factory(call, patterns)) as recording,
    ):
        recorder = recording.recorder
        recorder.start()
        with signal_handlers(_handlers(process, recorder)):
            recording.announce()
            async with asyncio.TaskGroup() as tasks:
                readers = [tasks.create_task(recording.follow(process.output))]
                if process.errors is not None:
                    readers.append(tasks.create_task(recording.follow_errors(process.errors)))
                code = await process.wait()
                if process.was_signalled:
                    process.end_rest(gently=recorder.reports_resources)
                    if not recorder.reports_resources:
                        await asyncio.wait(readers, timeout=_REST_SECONDS)
                        process.stop()
            if not recorder.is_recognized and recorder.failure is None:
                log_line(f"no resource changes are recorded: {recorder.input_problem}")
            await recorder.finish(exit_code=code)
    if recorder.failure is None:
        recording.summarize()
    return code, recorder.failure


def _factory(call: ToolCall, patterns: Sequence[re.Pattern[str]]) -> CommandFactory | None:
    """``None`` for Terraform, whose output is read as such from the first line."""
    if call.is_terraform:
        return None
    redactor = LineRedactor(secrets=secrets_in(os.environ), patterns=patterns)
    return lambda deployment_id: CommandRun(
        deployment_id=deployment_id,
        tool=call.tool,
        operation=call.operation,
        redact=redactor.line,
    )


class RunningTool:
    """A command that runs, and the pipes of its output."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: Source,
        errors: Source | None,
        *,
        has_group: bool,
    ) -> None:
        """``has_group`` says whether it has a process group of its own."""
        self.output = output
        #: Standard error, unless it is ours.
        self.errors = errors
        self._process = process
        self._has_group = has_group
        self._signalled: signal.Signals | None = None

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def was_signalled(self) -> bool:
        """Whether a signal was passed on to it."""
        return self._signalled is not None

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on."""
        self._signalled = number
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end, and return the exit code as a shell would."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def end_rest(self, *, gently: bool) -> None:
        """Pass the signal on to what it left behind: a shell dies before the commands that it runs.

        Terraform's providers ignore an interrupt, and must: any other signal would end them in the
        middle of a change. ``gently`` sends that.
        """
        number = signal.SIGINT if gently else self._signalled
        if self._has_group and number is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """Stop reading, after the bytes that have arrived."""
        for source in (self.output, self.errors):
            if source is not None:
                source.stop()


@asynccontextmanager
async def _started(call: ToolCall, *, pipes_errors: bool) -> AsyncIterator[RunningTool]:
    """Start the command with pipes for its output."""
    has_group = not _on_terminal()
    async with AsyncExitStack() as stack:
        output, stdout = await _pipe(stack)
        errors, stderr = await _pipe(stack) if pipes_errors else (None, None)
        try:
            # Without a terminal the tool gets a process group of its own: a signal to our whole
            # group then reaches it once, through us. Terraform treats a second interrupt as an
            # order to drop everything. On a terminal the tool may prompt, and Ctrl-C reaches it
            # directly.
            process = await asyncio.create_subprocess_exec(
                *call.command,
                stdout=stdout,
                stderr=stderr,
                process_group=0 if has_group else None,
            )
        except OSError as error:
            name = call.command[0]
            log_line(f"{name}: {(error.strerror or str(error)).lower()}")
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            raise typer.Exit(code) from error
        finally:
            for end in (stdout, stderr):
                if end is not None:
                    os.close(end)
        yield RunningTool(process, output, errors, has_group=has_group)


async def _pipe(stack: AsyncExitStack) -> tuple[Source, int]:
    """Open a pipe; return what reads from it, and its write end."""
    read_end, write_end = os.pipe()
    return await stack.enter_async_context(open_pipe(FileIO(read_end))), write_end


def _on_terminal() -> bool:
    return os.isatty(sys.stdin.fileno())


def _handlers(
    tool: RunningTool, recorder: RunRecorder
) -> dict[signal.Signals, Callable[[], object]]:
    def handler(number: signal.Signals) -> Callable[[], object]:
        return lambda: _pass_on(number, tool, recorder)

    return {number: handler(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _pass_on(number: signal.Signals, tool: RunningTool, recorder: RunRecorder) -> None:
    """Pass the signal on to the tool; once the tool has exited, stop reading and sending."""
    if tool.has_ended:
        tool.stop()
        recorder.stop_waiting()
    elif number == signal.SIGTERM or not _on_terminal():
        tool.send(number)
