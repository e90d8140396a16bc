"""The part of the composition root for deliveries: senders, endpoints and owners."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from deploylog.api.escape.wire import name_type, render_delivery
from deploylog.api.native.query_string import events_path
from deploylog.api.native.wire import render_one
from deploylog.auth.authentication import Authentication
from deploylog.auth.encryption import Encryptor
from deploylog.deployments.catalog import Deployment
from deploylog.deployments.service import DeploymentService
from deploylog.errors import DeploymentNotFound
from deploylog.events.event import Event
from deploylog.events.scope import Scope, segments
from deploylog.server.settings import Settings
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.egress import check_url, parse_networks
from deploylog.subscriptions.delivery.sender import Sender, TypeNames
from deploylog.subscriptions.delivery.signing import make_secret, parse_secret
from deploylog.subscriptions.delivery.slack.bot import SlackBotSender
from deploylog.subscriptions.delivery.slack.webhook import SlackWebhookSender
from deploylog.subscriptions.delivery.transport import (
    Limits,
    WebhookTransport,
    open_webhook_transport,
)
from deploylog.subscriptions.delivery.webhook import Render, WebhookSender
from deploylog.subscriptions.secret_store import SecretStore
from deploylog.subscriptions.subscription import Endpoint, Format, Subscription


def make_secret_store(
    encryptor: Encryptor | None, settings: Settings, clock: Callable[[], int]
) -> SecretStore:
    """The secrets of subscriptions; ``clock`` returns ns."""
    networks = parse_networks(settings.delivery_allowed_networks)
    return SecretStore(
        encryptor,
        check_url=lambda text: check_url(text, networks),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


def open_transport(
    settings: Settings, clock: Callable[[], int]
) -> AbstractAsyncContextManager[WebhookTransport]:
    """The transport of all deliveries, which share its limits; ``clock`` returns ns."""
    limits = Limits(
        total=settings.delivery_seconds,
        connect=min(settings.delivery_seconds, Limits().connect),
        concurrency=settings.delivery_concurrency,
        per_second=settings.delivery_per_second,
    )
    networks = parse_networks(settings.delivery_allowed_networks)
    return open_webhook_transport(networks, limits, ca_file=settings.delivery_ca_file, clock=clock)


def make_senders(
    store: Store,
    deployments: DeploymentService,
    authentication: Authentication,
    transport: WebhookTransport,
    settings: Settings,
) -> Callable[[Subscription, Endpoint], Sender]:
    """A function that chooses the sender for an endpoint."""

    async def find_deployment(subscription: Subscription, path: Scope) -> Deployment | None:
        owner = await authentication.find(subscription.owner.kind, subscription.owner.id)
        if owner is None:
            return None
        try:
            return await deployments.deployment(owner, segments(path)[-1])
        except DeploymentNotFound:
            return None

    webhook = WebhookSender(transport, _RENDER, _events_url(settings))
    slack = SlackWebhookSender(transport, _TYPE_NAMES)
    bot = SlackBotSender(
        transport, settings.slack_api_url, find_deployment, store.deliveries.message, _TYPE_NAMES
    )

    def choose(subscription: Subscription, endpoint: Endpoint) -> Sender:
        if subscription.kind == "webhook":
            return webhook
        return bot if endpoint.token else slack

    return choose


#: Renders the body of a webhook, by format.
_RENDER: dict[Format, Render] = {
    "cloudevents": lambda event: ("application/cloudevents+json", render_one(event)),
    "escape": lambda event: ("application/json", render_delivery(event)),
}


#: The names of event types in Slack messages, by format.
_TYPE_NAMES: TypeNames = {"escape": name_type}


def _events_url(settings: Settings) -> Callable[[Subscription, Event], str]:
    """Returns the URL where a receiver reads what it missed."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = (settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
    return lambda subscription, event: f"{base}{events_path(subscription.filter, event)}"
