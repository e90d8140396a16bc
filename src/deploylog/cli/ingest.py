"""``ingest``: record the output of a deployment tool."""

import asyncio
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated

import typer

from deploylog.cli import options, plan, recording_options
from deploylog.cli.application import new_app
from deploylog.cli.details import Detecting
from deploylog.cli.options import expanded
from deploylog.cli.recording import open_recording, run_options, signal_handlers
from deploylog.cli.terminal.input import FileSource, Source, open_source
from deploylog.cli.terminal.output import NoOutput, RawOutput
from deploylog.cli.terminal.streams import log_line
from deploylog.client.recorder import RunOptions, RunRecorder
from deploylog.client.spool import abandoned_spools
from deploylog.client.uploader import Undelivered, resume
from deploylog.errors import DeploylogError

app = new_app(help="Record the output of deployment tools.", no_args_is_help=True)
app.command()(plan.plan)


@app.command()
@expanded
def terraform(
    file: Annotated[
        Path, typer.Argument(help="Output of terraform apply -json. - reads standard input.")
    ] = Path("-"),
    *,
    run: recording_options.Run,
    carried: Detecting,
    operation: Annotated[
        str | None, typer.Option("--operation", help="Operation of the tool, for example apply.")
    ] = None,
    traceparent: recording_options.Traceparent = None,
    quiet: options.Quiet = False,
    buffer: recording_options.Buffer,
    connection: options.Connection,
) -> None:
    """Record the JSON output of Terraform or OpenTofu as it arrives, and pass it on.

    Exits 0 once the server has acknowledged everything, 1 if it refused something, and 75 if it did
    not respond. After 75, deploylog ingest resume sends the remaining events. The first Ctrl-C
    waits for the tool, which receives it too. The second one ends the input.

    Example: terraform apply -json | deploylog ingest terraform --project a --stack web
    """
    recorded = run_options(run, carried, buffer, operation=operation, traceparent=traceparent)
    asyncio.run(_ingest(connection, recorded, file, quiet=quiet))


async def _ingest(
    connection: options.Connection, recorded: Awaitable[RunOptions], file: Path, *, quiet: bool
) -> None:
    run = await recorded
    rendering = NoOutput() if quiet else RawOutput()
    async with (
        open_source(file, sys.stdin.fileno()) as source,
        connection.open() as client,
        open_recording(client, run, rendering) as recording,
    ):
        recorder = recording.recorder
        interruption = Interruption(source, recorder)
        with signal_handlers(
            {signal.SIGINT: interruption.interrupt, signal.SIGTERM: interruption.terminate}
        ):
            await recording.follow(source)
            await recorder.finish(exit_code=None)
    _check(recorder)
    recording.summarize()


def _check(recorder: RunRecorder) -> None:
    if recorder.failure is not None:
        raise recorder.failure
    if not recorder.has_started:
        raise DeploylogError(recorder.input_problem)


class Interruption:
    """Handles signals: the first stops reading, the next stops sending."""

    def __init__(self, source: Source, recorder: RunRecorder) -> None:
        self._source = source
        self._recorder = recorder
        self._waits_for_tool = not isinstance(source, FileSource)

    def interrupt(self) -> None:
        """Handle Ctrl-C.

        The tool in the pipe got it too, and would die if nothing read its last output.
        """
        if self._waits_for_tool and not self._source.ended:
            self._waits_for_tool = False
            log_line("interrupted; waiting for the tool to exit (press Ctrl-C again to stop now)")
        else:
            self.terminate()

    def terminate(self) -> None:
        """Stop reading, or stop waiting for the server if there is nothing to read."""
        if self._source.ended:
            self._recorder.stop_waiting()
        else:
            self._source.stop()


@app.command("resume")
@expanded
def resume_(*, upload: recording_options.Upload, connection: options.Connection) -> None:
    """Send the events that earlier runs could not send to this server."""
    failure = asyncio.run(_resume(connection, upload))
    if failure is not None:
        raise failure


async def _resume(
    connection: options.Connection, upload: recording_options.Upload
) -> DeploylogError | None:
    first_failure: DeploylogError | None = None
    async with connection.open() as client:
        for spool, events in abandoned_spools(upload.spool):
            id, owner = spool.header.deployment.id, spool.header.server
            if owner != client.server:
                first_failure = first_failure or Undelivered(
                    f"deployment {id} is for {owner}; to send {spool.path}, use --server {owner}"
                )
                spool.close()
                continue
            failure = await resume(
                client, spool, events, retry_timeout=upload.retry_timeout, log=log_line
            )
            if failure is None:
                log_line(f"deployment {id}: everything is recorded")
            elif first_failure is not None:
                log_line(failure.message)
            first_failure = first_failure or failure
    return first_failure
