"""The composition root: the only module that sees every part."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp

from deploylog.auth import Authenticator, Gate
from deploylog.auth.apikey import ApiKeys
from deploylog.auth.huawei import HuaweiScheme
from deploylog.auth.issuer import Issuer, make_issuer
from deploylog.auth.open import OpenDoor
from deploylog.auth.requests import RequestSignatures
from deploylog.auth.seal import Seal, read_seal
from deploylog.auth.secret import SharedSecret, read_secret
from deploylog.auth.signature import Signatures
from deploylog.auth.signers import require_opened
from deploylog.auth.sigv4 import AwsScheme
from deploylog.auth.token import open_tokens
from deploylog.auth.topics import Fetch, SnsTopics, fetch_from_sns, parse_topics
from deploylog.basepaths import BasePaths
from deploylog.bodies import BodyLimits
from deploylog.catalogue import Deployment
from deploylog.cleaning import Cleaning
from deploylog.delivery.dispatcher import Dispatcher
from deploylog.delivery.dispatcher import Parts as DeliveryParts
from deploylog.delivery.guard import check_url, parse_networks
from deploylog.delivery.http import Limits, Poster, open_poster
from deploylog.delivery.senders import Render, Sender, SlackWebhookSender, WebhookSender
from deploylog.delivery.signing import make_secret, parse_secret
from deploylog.delivery.slackbot import SlackBotSender
from deploylog.delivery.timing import Timing, Wait, wait_for
from deploylog.dialects import mount, mount_open, respond_unrouted
from deploylog.dialects.escape.routes import CREATE_EVENT
from deploylog.dialects.escape.wire import SHOWN, render_delivery
from deploylog.dialects.native.wire import events_path, render_one
from deploylog.dialects.parts import Endpoint, Parts
from deploylog.dialects.stackviews.identity import Place
from deploylog.dialects.stackviews.tokens import PageTokens
from deploylog.dialects.stackviews.views import StackViews
from deploylog.errors import DeploymentNotFound, Unavailable
from deploylog.events import Event
from deploylog.following import Followers
from deploylog.hub import Hub
from deploylog.openapi import render_document, render_page
from deploylog.planfiles import PlanFiles
from deploylog.rate import Rate
from deploylog.scope import Scope, segments
from deploylog.service import EventService
from deploylog.settings import Settings, names_of, paths_of
from deploylog.staging import Staging
from deploylog.store.base import Store
from deploylog.subscribing import Subscribing
from deploylog.subscribing.sets import SubscriptionSets
from deploylog.subscribing.vault import Vault
from deploylog.subscribing.vault import require_opened as require_subscriptions_opened
from deploylog.subscriptions import Format, Subscription, Target
from deploylog.telemetry import CONTENT_TYPE, Metrics
from deploylog.times import SECOND

#: Seconds between two looks for what need not be retained any longer.
PRUNE_SECONDS = 3600

#: Seconds between two looks for credentials whose streams must end.
WATCH_SECONDS = 0.3

#: Certificates of SNS that are looked for in a second, at most.
SNS_FETCHES_PER_SECOND = 1.0

_LOGGER = logging.getLogger(__name__)


class Application:
    """The ASGI application, and how to end its streams."""

    def __init__(self, asgi: ASGIApp, hub: Hub) -> None:
        """Hold both."""
        self.asgi = asgi
        self._hub = hub

    def end_streams(self) -> None:
        """Let every stream come to its end, so that the server need not wait for them."""
        self._hub.close()


@asynccontextmanager
async def create_app(
    store: Store,
    settings: Settings,
    metrics: Metrics,
    *,
    clock: Callable[[], int] = time.time_ns,
    wait: Wait = wait_for,
    fetch: Fetch = fetch_from_sns,
) -> AsyncIterator[Application]:
    """The application over ``store``, alive while in the block; ``clock`` gives ns, ``wait`` is how
    deliveries wait for time to pass by it, and ``fetch`` gets what SNS publishes.
    """
    hub = Hub(store.log)
    followers = Followers(most=settings.max_streams)
    metrics.watch(readers=lambda: hub.readers, head=lambda: hub.head)
    staging = Staging(store, clock=clock)
    cleaning = Cleaning(
        store,
        clock=clock,
        event_days=settings.retention_days,
        changeset_days=settings.changeset_days,
    )
    service = EventService(store, hub, followers=followers, clock=clock)
    seal = read_seal(settings.secret_key_file)
    vault = _vault(seal, settings, clock)

    async with AsyncExitStack() as running:
        gate = await running.enter_async_context(_open_gate(store, seal, settings, metrics, clock))
        await require_subscriptions_opened(store.subscriptions, vault)
        poster = await running.enter_async_context(_open_poster(settings, clock))
        senders = _senders(store, service, gate, poster, settings)
        dispatcher = Dispatcher(
            store, hub, _delivery(gate, vault, senders, metrics, clock=clock, wait=wait)
        )
        parts = _parts(
            settings,
            metrics,
            hub,
            service=service,
            staging=staging,
            cleaning=cleaning,
            subscribing=_subscribing(store, vault, gate, dispatcher, clock),
            subscription_sets=SubscriptionSets(
                store, vault, changed=dispatcher.changed, clock=clock
            ),
            clock=clock,
            token_key=await store.log.token_key(),
            topics=_topics(settings, metrics, fetch, clock),
        )
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        await running.enter_async_context(_watching(followers, gate))
        await running.enter_async_context(cleaning.working())
        await running.enter_async_context(staging.working())
        await running.enter_async_context(dispatcher.working())
        await running.enter_async_context(_pruning(store, settings, clock))
        router = _router(parts, store, metrics, gate)
        yield Application(BasePaths(router, paths_of(settings.base_paths)), hub)


def _parts(
    settings: Settings,
    metrics: Metrics,
    hub: Hub,
    *,
    service: EventService,
    staging: Staging,
    cleaning: Cleaning,
    subscribing: Subscribing,
    subscription_sets: SubscriptionSets,
    clock: Callable[[], int],
    token_key: bytes,
    topics: SnsTopics,
) -> Parts:
    return Parts(
        service=service,
        staging=staging,
        cleaning=cleaning,
        plan_files=PlanFiles(paths_of(settings.plan_folders), limit=settings.max_unpacked_bytes),
        subscribing=subscribing,
        subscription_sets=subscription_sets,
        topics=topics,
        clock=clock,
        sent=lambda events, position: metrics.sent(events, lag=hub.head - position),
        limits=BodyLimits(sent=settings.max_body_bytes, unpacked=settings.max_unpacked_bytes),
        max_batch_events=settings.max_batch_events,
        rfs_strict=settings.rfs_strict,
        bluelink_project=settings.bluelink_project,
        bluelink_recent_seconds=settings.bluelink_recent_seconds,
        bluelink_drift_check=settings.bluelink_drift_check,
        escape_page_size=settings.escape_page_size,
        escape_upload_groups=names_of(settings.escape_upload_groups),
        escape_has_secret=bool(settings.escape_secret_file),
        stack_views=_stack_views(service, settings, token_key=token_key),
        parallelcluster_regions=names_of(settings.parallelcluster_regions),
        parallelcluster_region=settings.parallelcluster_region,
        parallelcluster_raw_statuses=settings.parallelcluster_raw_statuses,
        parallelcluster_version=settings.parallelcluster_version,
    )


def _vault(seal: Seal | None, settings: Settings, clock: Callable[[], int]) -> Vault:
    networks = parse_networks(settings.delivery_networks)
    return Vault(
        seal,
        check_url=lambda text: check_url(text, networks),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


def _subscribing(
    store: Store, vault: Vault, gate: Gate, dispatcher: Dispatcher, clock: Callable[[], int]
) -> Subscribing:
    return Subscribing(
        store,
        vault,
        formats={"escape": SHOWN},
        owner=lambda owner: gate.find(owner.kind, owner.id),
        test=dispatcher.test,
        changed=dispatcher.changed,
        clock=clock,
    )


def _stack_views(service: EventService, settings: Settings, *, token_key: bytes) -> StackViews:
    return StackViews(
        service,
        project=settings.cloudformation_project or None,
        place=Place(region=settings.cloudformation_region, account=settings.cloudformation_account),
        tokens=PageTokens(token_key),
    )


def _router(parts: Parts, store: Store, metrics: Metrics, gate: Gate) -> ASGIApp:
    return Router(
        [
            *mount(parts, gate=gate, failed=metrics.failed),
            *mount_open(_own_routes(store, metrics), gate=gate, failed=metrics.failed),
        ],
        redirect_slashes=False,
        default=respond_unrouted,
    )


@asynccontextmanager
async def _open_gate(
    store: Store,
    seal: Seal | None,
    settings: Settings,
    metrics: Metrics,
    clock: Callable[[], int],
) -> AsyncIterator[Gate]:
    """Who is let in, by every kind of credential; raises OperatorError."""
    secret = read_secret(settings.escape_secret_file)
    await require_opened(store.signers, seal)
    async with AsyncExitStack() as running:
        kinds: list[Authenticator] = [
            *_signatures(store, seal, settings, clock),
            ApiKeys(store.keys, clock=time.monotonic),
            OpenDoor(store, issuer=settings.oidc_issuer, clock=time.monotonic),
        ]
        if secret:
            kinds.insert(0, SharedSecret(secret, name="escape", path=CREATE_EVENT))
        if settings.oidc_issuer:
            tokens = open_tokens(_issuer(settings), clock=clock)
            kinds.insert(0, await running.enter_async_context(tokens))
        yield Gate(
            tuple(kinds),
            requests=_rate(settings.max_requests_per_second),
            failures=_rate(settings.max_failures_per_minute / 60, settings.max_failures_per_minute),
            failed=metrics.refused,
        )


def _signatures(
    store: Store, seal: Seal | None, settings: Settings, clock: Callable[[], int]
) -> list[Authenticator]:
    """Every way to sign."""
    window = settings.signature_stream_seconds
    signers, monotonic = store.signers, time.monotonic
    return [
        Signatures(signers, seal, clock=clock, monotonic=monotonic, stream_window=window),
        RequestSignatures(HuaweiScheme(), signers, seal, clock=clock, monotonic=monotonic),
        RequestSignatures(AwsScheme(), signers, seal, clock=clock, monotonic=monotonic),
    ]


def _topics(
    settings: Settings, metrics: Metrics, fetch: Fetch, clock: Callable[[], int]
) -> SnsTopics:
    return SnsTopics(
        parse_topics(settings.sns_topics),
        fetch,
        clock=clock,
        fetches=Rate(SNS_FETCHES_PER_SECOND, burst=10, clock=time.monotonic),
        failed=metrics.refused,
    )


def _issuer(settings: Settings) -> Issuer:
    return make_issuer(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        groups_claim=settings.oidc_groups_claim,
        grants_claim=settings.oidc_grants_claim,
        default_grants=settings.oidc_default_grants,
        leeway=settings.oidc_leeway_seconds,
    )


def _rate(per_second: float, burst: int | None = None) -> Rate:
    """So many a second, and as many at once, or ``burst``."""
    return Rate(per_second, burst=burst or max(int(per_second), 1), clock=time.monotonic)


@asynccontextmanager
async def _watching(followers: Followers, gate: Gate) -> AsyncIterator[None]:
    """End the streams of those whose credentials are revoked or have expired."""

    async def look() -> None:
        for principal in followers.principals:
            if not await gate.is_valid(principal):
                followers.end(principal)

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await look()
            except Unavailable:
                _LOGGER.exception("cannot look credentials up; trying again")

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        try:
            yield
        finally:
            task.cancel()


def _own_routes(store: Store, metrics: Metrics) -> dict[str, Endpoint]:
    """What every service has, and every operator asks for, without credentials."""

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        await store.ready()
        return PlainTextResponse("ok\n")

    async def measured(request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return Response(render_document(), media_type="application/json")

    async def docs(request: Request) -> Response:
        return HTMLResponse(render_page())

    return {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": measured,
        "/openapi.json": openapi,
        "/docs": docs,
    }


@asynccontextmanager
async def _pruning(
    store: Store, settings: Settings, clock: Callable[[], int]
) -> AsyncIterator[None]:
    """Forget, now and then, what is older than it is to be kept."""

    async def prune() -> None:
        now = clock()
        if settings.retention_days:
            forgotten = await store.log.prune(_days_before(now, settings.retention_days))
            _LOGGER.info("forgot %d events", forgotten)
        if settings.attempt_days:
            forgotten = await store.deliveries.forget(_days_before(now, settings.attempt_days))
            _LOGGER.info("forgot %d attempts to deliver", forgotten)

    async def go_on() -> None:
        while True:
            try:
                await prune()
            except Unavailable:
                _LOGGER.exception("cannot forget what is old; trying again later")
            await asyncio.sleep(PRUNE_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()


def _days_before(now: int, days: float) -> int:
    return now - int(days * 86400) * SECOND


# Delivery


def _open_poster(
    settings: Settings, clock: Callable[[], int]
) -> AbstractAsyncContextManager[Poster]:
    limits = Limits(
        total=settings.delivery_seconds,
        connect=min(settings.delivery_seconds, Limits().connect),
        concurrency=settings.delivery_concurrency,
        per_second=settings.delivery_per_second,
    )
    networks = parse_networks(settings.delivery_networks)
    return open_poster(networks, limits, ca_file=settings.delivery_ca_file, clock=clock)


def _delivery(
    gate: Gate,
    vault: Vault,
    senders: Callable[[Subscription, Target], Sender],
    metrics: Metrics,
    *,
    clock: Callable[[], int],
    wait: Wait,
) -> DeliveryParts:
    return DeliveryParts(
        sender=senders,
        target=vault.target,
        secrets=vault.secrets,
        owner=lambda owner: gate.find(owner.kind, owner.id),
        observer=metrics,
        timing=Timing(now=clock, wait=wait),
    )


def _senders(
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
    slack = SlackWebhookSender(poster)
    bot = SlackBotSender(poster, settings.slack_api_url, deployment, store.deliveries.message)

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


def _events_url(settings: Settings) -> Callable[[Subscription, Event], str]:
    """Where a receiver reads what it missed."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = (settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
    return lambda subscription, event: f"{base}{events_path(subscription.filter, event)}"
