"""``send``: one event, or the start and the end of a deployment, from any script."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import msgspec
import typer
from msgspec.structs import asdict

from deploylog.cli import options, recording_options
from deploylog.cli.application import new_app
from deploylog.cli.details import Carried, Detecting
from deploylog.cli.events import resolve
from deploylog.cli.options import expanded
from deploylog.cli.recording import environment_of
from deploylog.cli.terminal.streams import log_line
from deploylog.client import Client, NewDeployment, Receipt, Timing
from deploylog.client.retry import RetryPolicy, retry, same_timeout
from deploylog.deployments.details import details_json
from deploylog.errors import OperatorError

#: The source of an event, unless another is given.
SOURCE = "deploylog-client"

app = new_app(help="Send one event, or a deployment.", no_args_is_help=True)


class End(StrEnum):
    """How a deployment ended."""

    completed = "completed"
    failed = "failed"


_Message = Annotated[
    str | None, typer.Option("--message", help="Text of the event, for people to read.")
]
_Source = Annotated[str, typer.Option("--source", help="Source of the event, such as the tool.")]


@app.command("event")
@expanded
def event_(
    type: Annotated[str, typer.Argument(help="Type of the event, for example deployment.log.")],
    *,
    message: _Message = None,
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment",
            envvar="DEPLOYLOG_DEPLOYMENT",
            help="Id of the deployment that the event belongs to.",
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="Scope of an event outside a deployment, such as project/acme. Repeatable.",
        ),
    ] = None,
    source: _Source = SOURCE,
    subject: Annotated[
        str | None, typer.Option("--subject", help="What the event is about.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Data of the event: any JSON.")] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Id of the event. It is recorded once for each id.",
            show_default="a new one",
        ),
    ] = None,
    retry_timeout: recording_options.RetryTimeout = options.DEFAULT_RETRY_TIMEOUT,
    connection: options.Connection,
) -> None:
    """Send one event, and print the id that the log gives it.

    Example: deploylog send event deployment.log --deployment 4be37088 --message ready
    """
    if (deployment is None) == (not scope):
        raise typer.BadParameter("name a deployment or a scope")
    fields = {
        "type": type, "source": source, "id": id or str(uuid4()), "subject": subject,
        "message": message, "scopes": " ".join(scope) if scope else None, "data": _json(data),
    }  # fmt: skip

    async def send(client: Client) -> Receipt:
        into = await resolve(client, deployment, ()) if deployment is not None else None
        return await _append(client, fields, into, retry_timeout)

    print(connection.call(send).id)


@app.command()
@expanded
def start(
    *,
    run: recording_options.Run,
    tool: Annotated[str | None, typer.Option("--tool", help="Name of the tool.")] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", help="Operation of the tool, for example upgrade.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Id of the deployment: a UUID.", show_default="a new one"),
    ] = None,
    carried: Detecting,
    retry_timeout: recording_options.RetryTimeout = options.DEFAULT_RETRY_TIMEOUT,
    connection: options.Connection,
) -> None:
    """Open a deployment, and print its id. It runs until finish ends it.

    Example: deploylog send start --project acme --stack web --version 1.4.2
    """
    carried.details()

    async def send(client: Client) -> str:
        detected = await carried.detected()
        new = NewDeployment(
            id=id or str(uuid4()),
            project=run.project,
            stack=run.stack,
            tool=tool,
            operation=operation,
            environment=run.environment or environment_of(detected),
            actor=run.actor or detected.actor or options.own_name(),
            groups=tuple(run.group or ()),
            **asdict(detected.details),
        )
        opened = await retry(lambda: client.open_deployment(new), _policy(retry_timeout))
        return opened.id

    print(connection.call(send))


@app.command()
@expanded
def finish(
    deployment: Annotated[
        str,
        typer.Argument(
            envvar="DEPLOYLOG_DEPLOYMENT",
            help="Id of the deployment, or its first characters.",
            callback=options.check_name,
        ),
    ],
    *,
    status: Annotated[
        End,
        typer.Option("--status", parser=options.choice_of(End), help="How the deployment ended."),
    ] = End.completed,
    message: _Message = None,
    source: _Source = SOURCE,
    carried: Carried,
    retry_timeout: recording_options.RetryTimeout = options.DEFAULT_RETRY_TIMEOUT,
    connection: options.Connection,
) -> None:
    """End a deployment that start has opened. Only the first end counts.

    The options for what it carries add what was not said at its start.

    Example: deploylog send finish 4be37088 --status failed --message "no healthy host"
    """
    details = details_json(carried.details())

    async def send(client: Client) -> None:
        id = await resolve(client, deployment, ())
        fields = {
            "type": f"deployment.{status.value}", "source": source, "id": f"{id}/end",
            "message": message, "data": details or None,
        }  # fmt: skip
        await _append(client, fields, id, retry_timeout)

    connection.call(send)


async def _append(
    client: Client, fields: Mapping[str, object], deployment: str | None, retry_timeout: float
) -> Receipt:
    """Append one event, with the fields that are not ``None``."""
    body = msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
    [receipt] = await retry(
        lambda: client.append(body, deployment=deployment), _policy(retry_timeout)
    )
    return receipt


def _policy(retry_timeout: float) -> RetryPolicy:
    return RetryPolicy(same_timeout(retry_timeout), Timing(), log=log_line)


def _json(text: str | None) -> msgspec.Raw | None:
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise OperatorError(f"--data is not JSON: {error}") from error
    return msgspec.Raw(text.encode())
