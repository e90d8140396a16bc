"""``listen``: forward events to a server on this machine, as webhooks, while it is developed."""

import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from deploylog.auth.standard_webhooks import make_secret, parse_secret, signature_headers
from deploylog.cli import filter_options, options
from deploylog.cli.application import new_app
from deploylog.cli.names import Places
from deploylog.cli.options import expanded
from deploylog.cli.printing import Printing
from deploylog.cli.terminal.formatting import event_line, screen
from deploylog.cli.terminal.input import read_secret
from deploylog.cli.terminal.json_lines import JsonLines
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.text import plain
from deploylog.client import Client, LoggedEvent, Params, parse_event
from deploylog.client.forwarding import Forwarded, Sign, open_forwarder, parse_target
from deploylog.client.models import Place

app = new_app()


@app.command()
@expanded
def listen(
    *,
    forward_to: Annotated[
        str,
        typer.Option(
            "--forward-to",
            help="Address to send events to, for example localhost:9000/hook. A number is a port of"
            " this machine.",
        ),
    ],
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file",
            help="File with the signing secret. Without it, a new one is printed. - reads standard"
            " input.",
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--from", help="Where to start: start, now, or an RFC 3339 time."),
    ] = "now",
    scope: filter_options.Scope = None,
    names: filter_options.NameFilter,
    filter: filter_options.EventFilter,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Forward events to a server on this machine as signed webhooks, until Ctrl-C.

    Needs no subscription. An event is sent once: what your server refuses is shown, not sent again.

    Example: deploylog listen --forward-to localhost:9000 --type 'deployment.*'
    """
    url = parse_target(forward_to)
    params = [
        *options.params(scope=scope),
        ("from", start),
        *names.params(),
        *filter.params(),
    ]
    secret = read_secret(secret_file) if secret_file is not None else make_secret()
    key = parse_secret(secret)
    if secret_file is None:
        log_line(f"signing secret: {secret}")
    log_line(f"forwarding events to {plain(url)} until Ctrl-C")
    sign = partial(_sign, key)
    try:
        connection.call(lambda client: _forward(client, params, url, sign, printing.json_lines))
    except KeyboardInterrupt:
        # This is the normal end.
        return


def _sign(key: bytes, id: str, body: bytes) -> dict[str, str]:
    return signature_headers(id, time.time_ns(), body, [key])


async def _forward(
    client: Client, params: Params, url: str, sign: Sign, lines: JsonLines | None
) -> None:
    places, console = Places(client), screen()
    async with (
        open_forwarder(url, sign) as forwarder,
        aclosing(client.stream(params, log=log_line)) as messages,
    ):
        async for message in messages:
            if message.event == "gap":
                log_line(f"the next events are not available: {plain(message.data)}")
                continue
            event = parse_event(message.data)
            forwarded = await forwarder.forward(event.id, message.data.encode())
            if lines is not None:
                lines.print(_shown(event, forwarded), flush=True)
            else:
                [place] = await places.of_all([event])
                console.print(_line(event, place, forwarded), soft_wrap=True)


def _shown(event: LoggedEvent, forwarded: Forwarded) -> dict[str, object]:
    return {"event": event.id, "type": event.type, **msgspec.structs.asdict(forwarded)}


def _line(event: LoggedEvent, place: Place, forwarded: Forwarded) -> Text:
    """What the event is, and what the server answered."""
    answer = plain(forwarded.error or str(forwarded.status))
    is_good = forwarded.status is not None and 200 <= forwarded.status < 300
    line = event_line(event, place)
    line.append(f"  -> {answer} ({forwarded.latency_ms} ms)", "green" if is_good else "red")
    return line
