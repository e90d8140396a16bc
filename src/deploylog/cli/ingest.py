"""``ingest``: record what a deployment tool says."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploylog.cli import options, plan
from deploylog.cli.recording import log_line, open_recording, signal_handlers
from deploylog.cli.terminal.input import FileSource, Source, open_source
from deploylog.cli.terminal.output import NoOutput, RawOutput
from deploylog.client import open_client
from deploylog.client.recorder import RunOptions, RunRecorder
from deploylog.client.spool import abandoned_spools
from deploylog.client.uploader import Undelivered, resume
from deploylog.errors import DeploylogError

app = typer.Typer(help="Record what a deployment tool says.", no_args_is_help=True)
app.command()(plan.plan)


@app.command()
def terraform(
    file: Annotated[
        Path, typer.Argument(help="Output of terraform apply -json; - is standard input.")
    ] = Path("-"),
    *,
    project: options.Project,
    stack: options.Stack,
    operation: Annotated[
        str | None, typer.Option("--operation", help="What is being done, such as apply.")
    ] = None,
    environment: options.Environment = None,
    actor: options.Actor,
    group: options.Groups = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not pass the input on.")] = False,
    retry_timeout: options.RetryTimeout = options.DEFAULT_PATIENCE,
    spool: options.SpoolDirectory,
    spool_bytes: options.SpoolBytes = options.DEFAULT_SPOOL_BYTES,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Record the JSON output of Terraform or OpenTofu as it comes, and pass it on.

    Exits 0 once the server has acknowledged everything, 1 when it refused something, and 75 when
    it did not answer: what is left is sent by deploylog ingest resume. A first Ctrl-C waits for
    the tool, which got one too; the second ends the input.
    """
    run = RunOptions(
        project=project, stack=stack, operation=operation, environment=environment, actor=actor,
        groups=tuple(group or ()), directory=spool, limit=spool_bytes, patience=retry_timeout,
    )  # fmt: skip
    asyncio.run(_ingest(server, key, run, file, quiet=quiet))


async def _ingest(
    server: str, key: str | None, run: RunOptions, file: Path, *, quiet: bool
) -> None:
    rendering = NoOutput() if quiet else RawOutput()
    async with (
        open_source(file, sys.stdin.fileno()) as source,
        open_client(server, key) as client,
        open_recording(client, run, rendering) as recording,
    ):
        feed = recording.feed
        interruption = Interruption(source, feed)
        with signal_handlers(
            {signal.SIGINT: interruption.interrupt, signal.SIGTERM: interruption.terminate}
        ):
            await recording.follow(source)
            await feed.end(exit_code=None)
    _check(feed)


def _check(feed: RunRecorder) -> None:
    if feed.failure is not None:
        raise feed.failure
    if not feed.has_begun:
        raise DeploylogError(feed.instead)


class Interruption:
    """What signals mean: stop reading, then stop sending."""

    def __init__(self, source: Source, feed: RunRecorder) -> None:
        """End ``source`` first, then ``feed``."""
        self._source = source
        self._feed = feed
        self._is_patient = not isinstance(source, FileSource)

    def interrupt(self) -> None:
        """Ctrl-C: the tool in the pipe got it too, and would die if nobody read its last words."""
        if self._is_patient and not self._source.ended:
            self._is_patient = False
            log_line("interrupted; reading on until the tool has ended (again to stop now)")
        else:
            self.terminate()

    def terminate(self) -> None:
        """Stop reading, or if that is over, stop waiting for the server."""
        if self._source.ended:
            self._feed.hurry()
        else:
            self._source.stop()


@app.command("resume")
def resume_(
    *,
    retry_timeout: options.RetryTimeout = options.DEFAULT_PATIENCE,
    spool: options.SpoolDirectory,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Send what earlier runs could not send to this server."""
    failure = asyncio.run(_resume(server, key, spool, retry_timeout))
    if failure is not None:
        raise failure


async def _resume(
    server: str, key: str | None, directory: Path, patience: float
) -> DeploylogError | None:
    failure: DeploylogError | None = None
    async with open_client(server, key) as client:
        for spool, events in abandoned_spools(directory):
            id, owner = spool.heading.opening.id, spool.heading.server
            if owner != client.server:
                failure = failure or Undelivered(
                    f"deployment {id} is for {owner}: left in {spool.path}; use --server {owner}"
                )
                spool.close()
                continue
            failed = await resume(client, spool, events, patience=patience, say=log_line)
            if failed is None:
                log_line(f"deployment {id}: everything is recorded")
            elif failure is not None:
                log_line(failed.message)
            failure = failure or failed
    return failure
