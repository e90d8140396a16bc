"""How subscriptions are delivered: ways out, targets, owners. A part of the composition root."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from deploylog.auth import Gate
from deploylog.auth.seal import Seal
from deploylog.catalogue import Deployment
from deploylog.delivery.guard import check_url, parse_networks
from deploylog.delivery.http import Limits, Poster, open_poster
from deploylog.delivery.senders import (
    Render,
    Sender,
    SlackWebhookSender,
    TypeNames,
    WebhookSender,
)
from deploylog.delivery.signing import make_secret, parse_secret
from deploylog.delivery.slackbot import SlackBotSender
from deploylog.dialects.escape.wire import name_type, render_delivery
from deploylog.dialects.native.wire import events_path, render_one
from deploylog.errors import DeploymentNotFound
from deploylog.events import Event
from deploylog.scope import Scope, segments
from deploylog.service import EventService
from deploylog.settings import Settings
from deploylog.store.base import Store
from deploylog.subscribing.vault import Vault
from deploylog.subscriptions import Format, Subscription, Target


def make_vault(seal: Seal | None, settings: Settings, clock: Callable[[], int]) -> Vault:
    """What keeps the secrets of subscriptions; ``clock`` gives ns."""
    networks = parse_networks(settings.delivery_allowed_networks)
    return Vault(
        seal,
        check_url=lambda text: check_url(text, networks),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


def make_poster(
    settings: Settings, clock: Callable[[], int]
) -> AbstractAsyncContextManager[Poster]:
    """What sends every request, by one set of limits; ``clock`` gives ns."""
    limits = Limits(
        total=settings.delivery_seconds,
        connect=min(settings.delivery_seconds, Limits().connect),
        concurrency=settings.delivery_concurrency,
        per_second=settings.delivery_per_second,
    )
    networks = parse_networks(settings.delivery_allowed_networks)
    return open_poster(networks, limits, ca_file=settings.delivery_ca_file, clock=clock)


def make_senders(
    store: Store, service: EventService, gate: Gate, poster: Poster, settings: Settings
) -> Callable[[Subscription, Target], Sender]:
    """The way to deliver to each kind of target."""

    async def deployment(subscription: Subscription, path: Scope) -> Deployment | None:
        owner = await gate.find(subscription.owner.kind, subscription.owner.id)
        if owner is None:
            return None
        try:
            return await service.deployment(owner, segments(path)[-1])
        except DeploymentNotFound:
            return None

    webhook = WebhookSender(poster, _RENDERED, _events_url(settings))
    slack = SlackWebhookSender(poster, _TYPE_NAMES)
    bot = SlackBotSender(
        poster, settings.slack_api_url, deployment, store.deliveries.message, _TYPE_NAMES
    )

    def choose(subscription: Subscription, target: Target) -> Sender:
        if subscription.kind == "webhook":
            return webhook
        return bot if target.token else slack

    return choose


#: What a webhook is sent of an event: its media type, and the body.
_RENDERED: dict[Format, Render] = {
    "cloudevents": lambda event: ("application/cloudevents+json", render_one(event)),
    "escape": lambda event: ("application/json", render_delivery(event)),
}


#: What Slack's messages call the types of events.
_TYPE_NAMES: TypeNames = {"escape": name_type}


def _events_url(settings: Settings) -> Callable[[Subscription, Event], str]:
    """Where a receiver reads what it missed."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = (settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
    return lambda subscription, event: f"{base}{events_path(subscription.filter, event)}"
