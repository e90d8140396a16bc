"""``subscriptions``: who is told of events, and by which way."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from deploylog.cli import options
from deploylog.cli.terminal.formatting import (
    print_json_lines,
    print_lines,
    screen,
    subscription_lines,
    subscription_table,
)
from deploylog.client import SubscriptionCalls, SubscriptionFields, SubscriptionState, open_client
from deploylog.errors import OperatorError
from deploylog.server import admin

_T = TypeVar("_T")

app = typer.Typer(help="List subscriptions, or manage them.", invoke_without_command=True)


class Kind(StrEnum):
    """Who is called."""

    WEBHOOK = "webhook"
    SLACK = "slack"


class Format(StrEnum):
    """What a webhook's body is."""

    CLOUDEVENTS = "cloudevents"
    ESCAPE = "escape"


class Order(StrEnum):
    """Which events wait for which."""

    STRICT = "strict"
    PER_DEPLOYMENT = "per_deployment"


Id = Annotated[str, typer.Argument(help="Id of the subscription.", callback=options.check_name)]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address to post to. Others can see a command line."),
]
UrlFile = Annotated[
    Path | None, typer.Option("--url-file", help="File of the address; - is standard input.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="File of a Slack bot's token; - is standard input."),
]
Channel = Annotated[
    str | None, typer.Option("--channel", help="Channel that the bot posts to, as #deploys.")
]
Username = Annotated[
    str | None, typer.Option("--username", help="Name that Slack shows as the sender.")
]
Icon = Annotated[
    str | None, typer.Option("--icon", help="Emoji, as :rocket:, or address of a picture.")
]
SecretFile = Annotated[
    Path | None,
    typer.Option("--secret-file", help="File of the secret that signs; - is standard input."),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="Only below this scope, as project/acme; repeatable."),
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", parser=options.choice_of(Format), help="What a webhook is sent."),
]
OrderOption = Annotated[
    Order | None,
    typer.Option(
        "--order",
        parser=options.choice_of(Order),
        help="One after the other: all events, or those of a deployment.",
    ),
]


@app.callback()
def subscriptions(
    context: typer.Context,
    *,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List subscriptions, or manage them."""
    if context.invoked_subcommand is not None:
        options.refuse_options(context)
        return
    _list(server, key, json=json)


@app.command("list")
def list_(
    *,
    json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """List your subscriptions, and those that you administer."""
    _list(server, key, json=json)


def _list(server: str, key: str | None, *, json: bool) -> None:
    found = _run(server, key, lambda calls: calls.list())
    if json:
        print_json_lines(found)
    else:
        subscription_table(found).print(screen())


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.", callback=options.check_name)],
    *,
    kind: Annotated[
        Kind, typer.Option("--kind", parser=options.choice_of(Kind), help="Who is called.")
    ] = Kind.WEBHOOK,
    url: Url = None,
    url_file: UrlFile = None,
    token_file: TokenFile = None,
    channel: Channel = None,
    username: Username = None,
    icon: Icon = None,
    secret_file: SecretFile = None,
    format: FormatOption = None,
    order: OrderOption = None,
    scope: Scopes = None,
    type: options.Types = None,
    source: options.Sources = None,
    actor: options.Actors = None,
    subject: options.Subjects = None,
    resource_type: options.ResourceTypes = None,
    resource_name: options.ResourceNames = None,
    resource_key: options.ResourceKeys = None,
    from_: Annotated[
        str, typer.Option("--from", help="now, start, or the id of an event to go on after.")
    ] = "now",
    json: Annotated[bool, typer.Option("--json", help="Print the subscription in JSON.")] = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Subscribe, and print the secret that signs: it is told this once."""
    if url is None and url_file is None and token_file is None:
        raise typer.BadParameter("give --url or --url-file, or of a Slack bot --token-file")
    said: SubscriptionFields = {
        "name": name,
        "kind": kind,
        "url": _one_of(url, url_file),
        "token": _read(token_file),
        "channel": channel,
        "username": username,
        "icon": icon,
        "secret": _read(secret_file),
        "format": format,
        "order": order,
        "scopes": scope,
        "filter": _filter(
            type=type, source=source, actor=actor, subject=subject, resourcetype=resource_type,
            resourcename=resource_name, resourcekey=resource_key,
        ),
        "from": from_,
    }  # fmt: skip
    _print_secret(_run(server, key, lambda calls: calls.add(said)), json=json)


@app.command()
def show(
    id: Id,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print it in JSON.")] = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Show a subscription, and how its deliveries are going."""
    _print(_run(server, key, lambda calls: calls.get(id)), json=json)


@app.command()
def change(
    id: Id,
    *,
    name: Annotated[str | None, typer.Option("--name", help="What it is called.")] = None,
    url: Url = None,
    url_file: UrlFile = None,
    token_file: TokenFile = None,
    channel: Channel = None,
    username: Username = None,
    icon: Icon = None,
    format: FormatOption = None,
    order: OrderOption = None,
    scope: Scopes = None,
    type: options.Types = None,
    source: options.Sources = None,
    actor: options.Actors = None,
    subject: options.Subjects = None,
    resource_type: options.ResourceTypes = None,
    resource_name: options.ResourceNames = None,
    resource_key: options.ResourceKeys = None,
    json: Annotated[bool, typer.Option("--json", help="Print it in JSON.")] = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Change your subscription: scopes as a whole, and the filter as a whole."""
    said: SubscriptionFields = {
        "name": name,
        "url": _one_of(url, url_file),
        "token": _read(token_file),
        "channel": channel,
        "username": username,
        "icon": icon,
        "format": format,
        "order": order,
        "scopes": scope,
        "filter": _filter(
            type=type, source=source, actor=actor, subject=subject, resourcetype=resource_type,
            resourcename=resource_name, resourcekey=resource_key,
        ),
    }  # fmt: skip
    _print(_run(server, key, lambda calls: calls.change(id, said)), json=json)


@app.command()
def pause(
    id: Id, *, server: options.Server = options.DEFAULT_SERVER, key: options.Key = None
) -> None:
    """Let a subscription wait until it is resumed; nothing is lost."""
    _run(server, key, lambda calls: calls.pause(id))


@app.command()
def resume(
    id: Id, *, server: options.Server = options.DEFAULT_SERVER, key: options.Key = None
) -> None:
    """Let a subscription go on, whatever stopped it."""
    _run(server, key, lambda calls: calls.resume(id))


@app.command()
def delete(
    id: Id,
    *,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Delete it in this store, without the service: for one that keeps the service"
            " from starting because its encryption key is lost.",
        ),
    ] = None,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Delete a subscription and the record of its deliveries."""
    if store is not None:
        admin.delete_subscription(store, id)
    else:
        _run(server, key, lambda calls: calls.delete(id))


@app.command("rotate-secret")
def rotate_secret(
    id: Id,
    *,
    secret_file: SecretFile = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            min=0,
            help="Seconds that the former secret signs, too.",
            show_default="86400",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the subscription in JSON.")] = False,
    server: options.Server = options.DEFAULT_SERVER,
    key: options.Key = None,
) -> None:
    """Sign with another secret, and print it: it is told this once."""
    said: SubscriptionFields = {"secret": _read(secret_file), "overlap": overlap}
    _print_secret(_run(server, key, lambda calls: calls.rotate_secret(id, said)), json=json)


@app.command("test")
def send_test(
    id: Id, *, server: options.Server = options.DEFAULT_SERVER, key: options.Key = None
) -> None:
    """Deliver an event that is none, at once; exit 1 if it does not arrive."""
    attempt = _run(server, key, lambda calls: calls.test(id))
    if attempt.result == "delivered":
        print(f"delivered: {attempt.status} after {attempt.latency_ms} ms")
        return
    why = attempt.error or f"the receiver answered {attempt.status}"
    print(f"deploylog: not delivered: {why}", file=sys.stderr)
    raise typer.Exit(1)


def _run(server: str, key: str | None, ask: Callable[[SubscriptionCalls], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with open_client(server, key) as client:
            return await ask(client.subscriptions)

    return asyncio.run(run())


def _filter(**fields: list[str] | None) -> dict[str, list[str]] | None:
    """The fields that are given; ``None`` when none is."""
    return {name: values for name, values in fields.items() if values} or None


def _one_of(text: str | None, file: Path | None) -> str | None:
    if text is not None and file is not None:
        raise OperatorError("give either --url or --url-file")
    return text if text is not None else _read(file)


def _read(file: Path | None) -> str | None:
    """The one line of a file."""
    if file is None:
        return None
    try:
        read = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        text = read.decode().strip()
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # The cause would show some of it.
        raise OperatorError(f"what is in {file} is not text") from None
    if not text:
        raise OperatorError(f"there is nothing in {file}")
    return text


def _print(subscription: SubscriptionState, *, json: bool) -> None:
    if json:
        print_json_lines([subscription])
    else:
        print_lines(screen(), subscription_lines(subscription))


def _print_secret(subscription: SubscriptionState, *, json: bool) -> None:
    if json:
        print_json_lines([subscription])
        return
    print(f"id: {subscription.id}")
    if subscription.secret is not None:
        print(f"secret: {subscription.secret}")
