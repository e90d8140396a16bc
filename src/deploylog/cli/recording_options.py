"""Options of commands that record: what is said of a run, and how it is uploaded."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploylog.cli.options import DEFAULT_RETRY_TIMEOUT, _own_spool_directory, check_name, own_name
from deploylog.client.spool import DEFAULT_MAX_BYTES

Project = Annotated[
    str,
    typer.Option(
        "--project",
        envvar="DEPLOYLOG_PROJECT",
        callback=check_name,
        help="Project that contains the stack.",
    ),
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="DEPLOYLOG_ACTOR",
        help="Who deploys.",
        default_factory=own_name,
        show_default="your user name",
    ),
]
RunActor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar="DEPLOYLOG_ACTOR",
        help="Who deploys.",
        show_default="that of CI, or your user name",
    ),
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        envvar="DEPLOYLOG_GROUP",
        help="Group that may read the events. Without it, everyone who may read the stack can."
        " Repeatable.",
    ),
]


def _stack(help: str) -> Any:
    return typer.Option("--stack", envvar="DEPLOYLOG_STACK", callback=check_name, help=help)


def _retry_timeout(help: str) -> Any:
    return typer.Option("--retry-timeout", envvar="DEPLOYLOG_RETRY_TIMEOUT", min=1, help=help)


Stack = Annotated[str, _stack("Stack to deploy. It is created if it does not exist.")]
PlannedStack = Annotated[str, _stack("Stack of the plan. It need not exist yet.")]
CloudFormationStack = Annotated[str, _stack("Name or ARN of the CloudFormation stack.")]

RetryTimeout = Annotated[
    float, _retry_timeout("Seconds to keep retrying while the server does not respond.")
]
UploadRetryTimeout = Annotated[
    float,
    _retry_timeout("Seconds to keep retrying an unresponsive server after the output has ended."),
]
CollectRetryTimeout = Annotated[
    float,
    _retry_timeout(
        "Seconds to keep retrying while the server or AWS does not respond. With --follow there"
        " is no limit."
    ),
]
SpoolDirectory = Annotated[
    Path,
    typer.Option(
        "--spool",
        envvar="DEPLOYLOG_SPOOL",
        help="Directory that buffers events until the server acknowledges them.",
        default_factory=_own_spool_directory,
        show_default="~/.local/state/deploylog/spool",
    ),
]


Traceparent = Annotated[
    str | None,
    typer.Option(
        "--traceparent",
        envvar="TRACEPARENT",
        help="Trace that the events belong to, as in W3C Trace Context.",
        show_default=False,
    ),
]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The options that describe a run and its stack."""

    project: Project
    stack: Stack
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            envvar="DEPLOYLOG_ENVIRONMENT",
            help="Environment to deploy to, for example prod.",
        ),
    ] = None
    actor: RunActor = None
    group: Groups = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the upload that empties spools."""

    retry_timeout: UploadRetryTimeout = DEFAULT_RETRY_TIMEOUT
    spool: SpoolDirectory


class Buffer(Upload, frozen=True, kw_only=True):
    """The options of an upload, and of the spool of a run."""

    spool_bytes: Annotated[
        int,
        typer.Option(
            "--spool-bytes",
            envvar="DEPLOYLOG_SPOOL_BYTES",
            min=1,
            help="Maximum size of the buffer in bytes. While it is full the tool waits; nothing is"
            " dropped.",
        ),
    ] = DEFAULT_MAX_BYTES
