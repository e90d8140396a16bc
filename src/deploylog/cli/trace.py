"""``trace``: export a deployment to a collector of OpenTelemetry."""

import asyncio
from typing import Annotated

import msgspec
import typer

from deploylog import __version__
from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.events import resolve
from deploylog.cli.options import expanded
from deploylog.cli.printing import Jq, json_lines
from deploylog.cli.terminal.streams import log_line
from deploylog.client import Client, DeploymentState
from deploylog.client.collector import export
from deploylog.client.otlp import TracedEvent, ids_of, render_trace

app = new_app()


@app.command()
@expanded
def trace(
    deployment: Annotated[
        str,
        typer.Argument(
            help="Id of the deployment, or its first characters.", callback=options.check_name
        ),
    ],
    *,
    otlp: Annotated[
        str,
        typer.Option(
            "--otlp",
            envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
            help="URL of the collector, which receives OTLP over HTTP.",
        ),
    ] = "http://127.0.0.1:4318",
    headers: Annotated[
        str,
        typer.Option(
            "--headers",
            envvar="OTEL_EXPORTER_OTLP_HEADERS",
            metavar="NAME=VALUE,…",
            help="Headers for the collector. Prefer the variable for secrets.",
            show_default=False,
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the trace, and export nothing.")] = (
        False
    ),
    jq: Jq = None,
    connection: options.Connection,
) -> None:
    """Export a deployment as a trace, over OTLP.

    A span for the deployment, and one for each change of a resource. Its events may name the trace
    of their producer (traceparent): then the spans belong to that. A deployment that is exported
    again has the same ids.

    Example: deploylog trace 4be37088 --otlp http://collector:4318
    """
    found, events = connection.call(lambda client: _read(client, deployment))
    body = render_trace(found, events, version=__version__)
    lines = json_lines(json, jq)
    if lines is not None:
        lines.print_text(body.decode())
        return
    asyncio.run(export(body, otlp, headers))
    log_line(f"exported trace {ids_of(found, events).trace} to {otlp}")


async def _read(client: Client, id: str) -> tuple[DeploymentState, list[TracedEvent]]:
    whole = await resolve(client, id, [])
    found = await client.deployment(whole)
    params = [("deployment", whole), ("order", "oldest"), ("limit", str(options.MAX_LIMIT))]
    events: list[TracedEvent] = []
    after: str | None = None
    while True:
        page = await client.events([*params, *([("after", after)] if after else [])])
        events += [msgspec.json.decode(event, type=TracedEvent) for event in page.events]
        after = page.next
        if after is None:
            return found, events
