"""The delivery of subscriptions that the settings ask for: senders, transport, secrets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import msgspec

from deploylog.api import APIS
from deploylog.api.native.catalog.wire import render_deployment
from deploylog.api.native.query_string import events_path
from deploylog.auth.authentication import Authentication
from deploylog.auth.encryption import Encryptor
from deploylog.auth.standard_webhooks import make_secret, parse_secret
from deploylog.deployments.catalog import Deployment
from deploylog.deployments.service import DeploymentService
from deploylog.events.event import Event
from deploylog.events.scope import Scope, segments
from deploylog.server.settings import Settings
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.egress import check_url, parse_networks
from deploylog.subscriptions.delivery.kinds import KINDS
from deploylog.subscriptions.delivery.kinds.kind import SenderParts
from deploylog.subscriptions.delivery.kinds.template.process import TemplateProcess
from deploylog.subscriptions.delivery.late_transport import LateTransport
from deploylog.subscriptions.delivery.outcome import Transport
from deploylog.subscriptions.delivery.sender import Sender
from deploylog.subscriptions.delivery.tls import make_tls
from deploylog.subscriptions.secret_store import SecretStore
from deploylog.subscriptions.subscription import Endpoint, Subscription


def make_secret_store(
    encryptor: Encryptor | None, settings: Settings, clock: Callable[[], int]
) -> SecretStore:
    """Create the store of subscription secrets; ``clock`` gives ns."""
    networks = parse_networks(settings.delivery_allowed_networks)
    return SecretStore(
        encryptor,
        check_url=lambda text: check_url(text, networks),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


@asynccontextmanager
async def open_transport(
    settings: Settings, clock: Callable[[], int]
) -> AsyncIterator[LateTransport]:
    """Open the transport for all outgoing requests, under one set of limits; ``clock`` gives ns."""
    if settings.delivery_ca_file:
        # Now, not at the first delivery: an invalid file must not wait for one.
        make_tls(settings.delivery_ca_file)
    async with AsyncExitStack() as opened:

        async def open_now() -> Transport:
            open_ = await asyncio.to_thread(_webhook_transports)
            return await opened.enter_async_context(open_(settings, clock))

        yield LateTransport(open_now)


def _webhook_transports() -> Callable[
    [Settings, Callable[[], int]], AbstractAsyncContextManager[Transport]
]:
    # Imported here: with aiohttp, and the certificates that it loads, a start would take a third
    # longer.
    from deploylog.subscriptions.delivery.transport import Limits, open_webhook_transport

    def open_(
        settings: Settings, clock: Callable[[], int]
    ) -> AbstractAsyncContextManager[Transport]:
        limits = Limits(
            total=settings.delivery_seconds,
            connect=min(settings.delivery_seconds, Limits().connect),
            concurrency=settings.delivery_concurrency,
            per_second=settings.delivery_per_second,
        )
        networks = parse_networks(settings.delivery_allowed_networks)
        return open_webhook_transport(
            networks, limits, ca_file=settings.delivery_ca_file, clock=clock
        )

    return open_


def make_senders(
    store: Store,
    deployments: DeploymentService,
    authentication: Authentication,
    transport: Transport,
    templates: TemplateProcess,
    settings: Settings,
    *,
    traced: Callable[[Sender], Sender],
) -> Callable[[Subscription, Endpoint], Sender]:
    """Create the senders; the result picks the one for a subscription and its endpoint.

    ``traced`` makes a sender whose requests are spans.
    """

    async def deployment(subscription: Subscription, path: Scope) -> Deployment | None:
        owner = await authentication.find(subscription.owner.kind, subscription.owner.id)
        return await deployments.find(owner, segments(path)[-1]) if owner is not None else None

    formats = [api.delivery for api in APIS if api.delivery is not None]
    parts = SenderParts(
        transport=transport,
        formats={each.name: each.render for each in formats},
        type_names={each.name: each.name_type for each in formats if each.name_type is not None},
        events_url=_events_url(settings),
        find_deployment=deployment,
        find_message=store.deliveries.message,
        deployment_url=_deployment_url(settings),
        render_deployment=lambda found: msgspec.json.encode(render_deployment(found)),
        render_template=templates.render,
        slack_api_url=settings.slack_api_url,
    )
    choosers = {name: kind.open_senders(parts) for name, kind in KINDS.items()}
    return lambda subscription, endpoint: traced(choosers[subscription.kind](endpoint))


def _deployment_url(settings: Settings) -> Callable[[Deployment], str]:
    """The URL of a deployment; empty without a public one: nobody could open it."""
    base = settings.public_url.rstrip("/")
    return lambda deployment: f"{base}/ui/deployments/{deployment.id}" if base else ""


def _events_url(settings: Settings) -> Callable[[Subscription, Event], str]:
    """The URL where a receiver reads the events that it missed."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = (settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
    return lambda subscription, event: (
        base + events_path(subscription.filter, event, subscription.places)
    )
