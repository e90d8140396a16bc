"""``subscriptions``: manage who is told of events, and how."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from deploylog.cli import filter_options, options
from deploylog.cli.application import load, new_app
from deploylog.cli.details import labels_of
from deploylog.cli.options import SubscriptionId, check_name, expanded
from deploylog.cli.printing import Printing, TablePrinting
from deploylog.cli.terminal.formatting import (
    print_lines,
    screen,
    subscription_lines,
    subscription_table,
)
from deploylog.cli.terminal.input import read_secret
from deploylog.cli.terminal.streams import log_line
from deploylog.client import SubscriptionCalls, SubscriptionFields, SubscriptionState
from deploylog.errors import OperatorError

_Result = TypeVar("_Result")

app = new_app(invoke_without_command=True)


class Kind(StrEnum):
    """The kind of endpoint."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    TEAMS = "teams"
    GRAFANA = "grafana"
    PAGERDUTY = "pagerduty"
    TEMPLATE = "template"
    CDEVENTS = "cdevents"


class Format(StrEnum):
    """The format of a webhook's body."""

    CLOUDEVENTS = "cloudevents"
    ESCAPE = "escape"


class Order(StrEnum):
    """Which events are delivered strictly one after another."""

    STRICT = "strict"
    PER_DEPLOYMENT = "per_deployment"


SecretFile = Annotated[
    Path | None,
    typer.Option("--secret-file", help="File with the signing secret. - reads standard input."),
]


Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        help="Only events that have these words and phrases, for example '\"access denied\"'.",
    ),
]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The options that say where to deliver, and what."""

    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="URL to deliver to. Prefer --url-file for a secret URL: other users of this"
            " machine can see command lines.",
        ),
    ] = None
    url_file: Annotated[
        Path | None,
        typer.Option("--url-file", help="File with the URL. - reads standard input."),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with what the receiver authenticates: the token of a Slack bot or of a"
            " Grafana service account, or PagerDuty's integration key. - reads standard input.",
        ),
    ] = None
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Channel that the bot posts to, for example #deploys."),
    ] = None
    username: Annotated[
        str | None, typer.Option("--username", help="Name that Slack shows as the sender.")
    ] = None
    icon: Annotated[
        str | None,
        typer.Option("--icon", help="Emoji, for example :rocket:, or URL of an image."),
    ] = None
    dashboard: Annotated[
        str | None,
        typer.Option(
            "--dashboard",
            help="UID of the Grafana dashboard to annotate. Without it, any dashboard can show the"
            " annotations.",
        ),
    ] = None
    template_file: Annotated[
        Path | None,
        typer.Option(
            "--template-file", help="File with the Jinja template of the body, for --kind template."
        ),
    ] = None
    headers_file: Annotated[
        Path | None,
        typer.Option(
            "--headers-file",
            help="File with more headers of the request, one NAME: VALUE a line, for --kind"
            " template. - reads standard input.",
        ),
    ] = None
    format: Annotated[
        Format | None,
        typer.Option(
            "--format", parser=options.choice_of(Format), help="Format of the webhook's body."
        ),
    ] = None
    order: Annotated[
        Order | None,
        typer.Option(
            "--order",
            parser=options.choice_of(Order),
            help="Deliver all events one after another (strict), or only those of the same"
            " deployment (per_deployment).",
        ),
    ] = None
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="Only events below this scope, for example project/acme. Repeatable."
        ),
    ] = None

    project: Annotated[
        str | None, typer.Option("--project", help="Only events of this project.")
    ] = None
    stack: Annotated[
        list[str] | None,
        typer.Option("--stack", help="Only events of this stack, by its name. Repeatable."),
    ] = None
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", help="Only events of this environment. Repeatable."),
    ] = None
    version: Annotated[
        list[str] | None,
        typer.Option("--version", help="Only events of deployments of this version. Repeatable."),
    ] = None
    commit: Annotated[
        list[str] | None,
        typer.Option(
            "--commit",
            help="Only events of deployments of the commit that starts with these digits."
            " Repeatable.",
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="Only events of deployments with this label. Repeatable.",
        ),
    ] = None
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            help="Only the event with which a deployment enters this status: running, completed or"
            " failed. Repeatable.",
        ),
    ] = None
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Accept a project, a stack or an environment that does not exist yet.",
        ),
    ] = False

    @property
    def is_given(self) -> bool:
        """Whether the options name an endpoint."""
        return any(each is not None for each in (self.url, self.url_file, self.token_file))

    def fields(self) -> SubscriptionFields:
        """Return the fields of the request; reads the files."""
        if self.url is not None and self.url_file is not None:
            raise OperatorError("specify either --url or --url-file")
        return {
            "url": self.url if self.url is not None else _read(self.url_file),
            "token": _read(self.token_file),
            "channel": self.channel,
            "username": self.username,
            "icon": self.icon,
            "dashboard": self.dashboard,
            "template": _read(self.template_file),
            "headers": _read_headers(self.headers_file),
            "format": self.format,
            "order": self.order,
            "scopes": self.scope,
            "project": self.project,
            "stack": self.stack,
            "environment": self.environment,
            "version": self.version,
            "commit": self.commit,
            "label": labels_of(self.label) if self.label else None,
            "status": self.status,
            "allow_missing": True if self.allow_missing else None,
        }


@app.callback()
@expanded
def subscriptions(
    context: typer.Context, *, printing: TablePrinting, connection: options.Connection
) -> None:
    """List and manage subscriptions."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    _list(connection, printing)


@app.command("list")
@expanded
def list_(*, printing: TablePrinting, connection: options.Connection) -> None:
    """List the subscriptions that you own or administer."""
    _list(connection, printing)


def _list(connection: options.Connection, printing: TablePrinting) -> None:
    found = _call(connection, lambda calls: calls.list())
    printing.print(found, subscription_table)


@app.command()
@expanded
def add(
    name: Annotated[str, typer.Argument(help="Name of the subscription.", callback=check_name)],
    *,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            parser=options.choice_of(Kind),
            help="What the endpoint is, for example slack or grafana.",
        ),
    ] = Kind.WEBHOOK,
    endpoint: Endpoint,
    secret_file: SecretFile = None,
    filter: filter_options.EventFilter,
    text: Text = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from", help="Where to start: now, start, or the id of the event to start after."
        ),
    ] = "now",
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Subscribe an endpoint to events.

    Prints the id and, if the server created one, the signing secret, which is not shown again.

    Example: deploylog subscriptions add ops --url-file hook.url --type deployment.*
    """
    if not endpoint.is_given:
        raise typer.BadParameter("specify --url, --url-file or --token-file")
    fields: SubscriptionFields = endpoint.fields() | {
        "name": name,
        "kind": kind,
        "secret": _read(secret_file),
        "filter": filter.fields(text),
        "from": from_,
    }
    _print_secret(_call(connection, lambda calls: calls.add(fields)), printing)


@app.command()
@expanded
def show(id: SubscriptionId, *, printing: Printing, connection: options.Connection) -> None:
    """Show a subscription and the state of its deliveries."""
    _print(_call(connection, lambda calls: calls.get(id)), printing)


@app.command()
@expanded
def change(
    id: SubscriptionId,
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="New name of the subscription.")
    ] = None,
    endpoint: Endpoint,
    filter: filter_options.EventFilter,
    text: Text = None,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Change a subscription that you own.

    New scopes replace all scopes, and a new filter replaces the whole filter.
    """
    fields: SubscriptionFields = endpoint.fields() | {
        "name": name,
        "filter": filter.fields(text),
    }
    _print(_call(connection, lambda calls: calls.change(id, fields)), printing)


@app.command()
@expanded
def pause(id: SubscriptionId, *, connection: options.Connection) -> None:
    """Pause a subscription. Events wait until it is resumed."""
    _call(connection, lambda calls: calls.pause(id))


@app.command()
@expanded
def resume(id: SubscriptionId, *, connection: options.Connection) -> None:
    """Resume a subscription that is paused, failing or disabled."""
    _call(connection, lambda calls: calls.resume(id))


@app.command()
@expanded
def delete(
    id: SubscriptionId,
    *,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Delete it from this store instead of from the server, which cannot start if the"
            " encryption key of a subscription is lost.",
        ),
    ] = None,
    connection: options.Connection,
) -> None:
    """Delete a subscription and the record of its deliveries."""
    if store is not None:
        load("stored_subscriptions").delete(store, id)
    else:
        _call(connection, lambda calls: calls.delete(id))


@app.command("rotate-secret")
@expanded
def rotate_secret(
    id: SubscriptionId,
    *,
    secret_file: SecretFile = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            min=0,
            help="Seconds for which deliveries are also signed with the old secret.",
            show_default="86400",
        ),
    ] = None,
    printing: Printing,
    connection: options.Connection,
) -> None:
    """Replace the signing secret, and print the new one.

    The secret is not shown again.
    """
    fields: SubscriptionFields = {"secret": _read(secret_file), "overlap": overlap}
    _print_secret(_call(connection, lambda calls: calls.rotate_secret(id, fields)), printing)


@app.command("test")
@expanded
def send_test(id: SubscriptionId, *, connection: options.Connection) -> None:
    """Send a test event now, and exit 1 if it is not delivered."""
    attempt = _call(connection, lambda calls: calls.test(id))
    if attempt.result == "delivered":
        print(f"delivered: {attempt.status} after {attempt.latency_ms} ms")
        return
    log_line(f"not delivered: {attempt.error or f'the endpoint returned {attempt.status}'}")
    raise typer.Exit(1)


def _call(
    connection: options.Connection, call: Callable[[SubscriptionCalls], Awaitable[_Result]]
) -> _Result:
    return connection.call(lambda client: call(client.subscriptions))


def _read(file: Path | None) -> str | None:
    return read_secret(file) if file is not None else None


def _read_headers(file: Path | None) -> dict[str, str] | None:
    """Return the headers in a file of ``NAME: VALUE`` lines."""
    text = _read(file)
    if text is None:
        return None
    headers = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            # The line may contain a secret.
            raise OperatorError(f"{file}: a line is not NAME: VALUE")
        headers[name.strip()] = value.strip()
    return headers


def _print(subscription: SubscriptionState, printing: Printing) -> None:
    lines = printing.json_lines
    if lines is not None:
        lines.print(subscription)
    else:
        print_lines(screen(), subscription_lines(subscription))


def _print_secret(subscription: SubscriptionState, printing: Printing) -> None:
    lines = printing.json_lines
    if lines is not None:
        lines.print(subscription)
        return
    print(f"id: {subscription.id}")
    if subscription.secret is not None:
        print(f"secret: {subscription.secret}")
