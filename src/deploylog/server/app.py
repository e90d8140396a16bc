"""The composition root: the only module that knows every room."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from deploylog.api import APIS, mount, mount_open, respond_unrouted
from deploylog.api.context import ApiContext, Handler
from deploylog.api.docs.endpoints import HANDLERS as DOCS
from deploylog.api.http.body import BodyLimits
from deploylog.api.http.body_budget import BodyBudget
from deploylog.api.openapi import render_document
from deploylog.api.settings import paths_of
from deploylog.auth.authentication import Authentication
from deploylog.auth.encryption import read_encryptor
from deploylog.auth.key_service import KeyService
from deploylog.auth.sns import Fetch, fetch_from_sns
from deploylog.deployments.endings import DeploymentEndings
from deploylog.deployments.measuring import DoraService
from deploylog.deployments.production import parse_patterns
from deploylog.deployments.reporting import DeploymentReports
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.errors import LogReset
from deploylog.events.filters import Filter
from deploylog.events.hub import Hub
from deploylog.events.retention import Retention, pruning
from deploylog.events.streams import OpenStreams
from deploylog.server.authentication import enforce_revocation, make_topics, open_authentication
from deploylog.server.base_paths import BasePathMiddleware
from deploylog.server.cors import parse_origins, with_cors
from deploylog.server.delivery import make_secret_store, make_senders, open_transport
from deploylog.server.dora_gauges import measuring, parse_places, parse_window_setting
from deploylog.server.fast_append import FastAppend, make_fast_append
from deploylog.server.metrics import CONTENT_TYPE, Metrics
from deploylog.server.pages import open_pages
from deploylog.server.requests import Answered, Observe, ObservedApp, log_access
from deploylog.server.settings import Settings
from deploylog.server.tracing import Tracing, make_tracing
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock, Wait, wait_for
from deploylog.subscriptions.delivery.dispatcher import (
    DEFAULT_PACING,
    Dispatcher,
    DispatcherParts,
    Pacing,
)
from deploylog.subscriptions.delivery.kinds.template.process import open_templates
from deploylog.subscriptions.reconcile import SubscriptionGroups
from deploylog.subscriptions.secret_store import SecretStore, check_decryptable
from deploylog.subscriptions.service import SubscriptionService
from deploylog.subscriptions.subscription import Format
from deploylog.ui.home import HomeMiddleware

#: Renders what a scrape gets.
Exposition = Callable[[], Awaitable[bytes]]


class Application:
    """The ASGI application, and the means to end its streams."""

    def __init__(self, asgi: ASGIApp, hub: Hub, append: FastAppend | None) -> None:
        """``append`` answers plain requests to append, unless their path may be another's."""
        self.asgi = asgi
        self.append = append
        self._hub = hub

    @property
    def reset(self) -> LogReset | None:
        """Why the log was reset, once it was: the store must be opened again."""
        return self._hub.reset

    def when_reset(self, call: Callable[[], None]) -> None:
        """Set what is called when the log is reset."""
        self._hub.when_reset = call

    def end_streams(self) -> None:
        """End every stream, so that the server does not wait for them."""
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
    pacing: Pacing = DEFAULT_PACING,
    exposition: Exposition | None = None,
) -> AsyncIterator[Application]:
    """Run the application over ``store`` inside the block.

    ``exposition`` is what ``/metrics`` answers, by default those of this process. ``clock`` gives
    ns, deliveries wait with ``wait`` and poll as ``pacing`` says, and ``fetch``
    downloads the certificates of SNS. Raises OperatorError.
    """
    hub = Hub(store.log, memory=settings.max_stream_memory_mib * 1024 * 1024)
    streams = OpenStreams(max_per_principal=settings.max_streams_per_principal)
    tracing = make_tracing(settings.otlp_endpoint)
    events = tracing.events(store.log, hub, streams)
    deployments = DeploymentService(events, store.catalog, clock=clock)
    dora = DoraService(
        events, deployments.names, store.catalog, parse_patterns(settings.production_environments)
    )
    staging = Staging(store.log, store.catalog, store.changesets, clock=clock)
    retention = _retention(store, settings, clock)
    bodies = BodyBudget(settings.max_request_memory_mib * 1024 * 1024)
    metrics.watch(
        readers=lambda: hub.readers, head=lambda: hub.head, body_bytes=lambda: bodies.held
    )
    encryptor = read_encryptor(settings.secret_key_file)
    secrets = make_secret_store(encryptor, settings, clock)

    async with AsyncExitStack() as running:
        await running.enter_async_context(tracing.running())
        authentication = await running.enter_async_context(
            open_authentication(store, encryptor, settings, metrics, clock)
        )
        await check_decryptable(store.subscriptions, secrets)
        transport = await running.enter_async_context(open_transport(settings, clock))
        templates = await running.enter_async_context(open_templates())
        dispatcher = Dispatcher(
            store.subscriptions,
            store.deliveries,
            store.log,
            hub,
            DispatcherParts(
                sender=make_senders(
                    store,
                    deployments,
                    authentication,
                    transport,
                    templates,
                    settings,
                    traced=tracing.sender,
                ),
                endpoint=secrets.endpoint,
                secrets=secrets.secrets,
                find_owner=lambda owner: authentication.find(owner.kind, owner.id),
                find_stacks=lambda owner, project, name: deployments.stacks(
                    owner, project=project, name=name, deleted=True
                ),
                find_deployment=deployments.find,
                observer=metrics,
                pacing=pacing,
                clock=Clock(now=clock, wait=wait),
            ),
        )
        context = ApiContext(
            events=events,
            deployments=deployments,
            dora=dora,
            keys=KeyService(store.credentials, store.log, clock=clock),
            reports=DeploymentReports(events, store.catalog, clock=clock),
            endings=DeploymentEndings(events, store.catalog),
            staging=staging,
            retention=retention,
            subscriptions=_subscriptions(
                store, secrets, deployments, authentication, dispatcher, clock
            ),
            subscription_groups=SubscriptionGroups(
                store.subscriptions,
                store.log,
                secrets,
                on_change=dispatcher.refresh,
                clock=clock,
            ),
            topics=make_topics(settings, metrics, fetch, clock),
            clock=clock,
            sent=lambda events, position, readers=1: metrics.sent(
                events, lag=hub.head - position, readers=readers
            ),
            limits=BodyLimits(
                sent=settings.max_body_bytes, decompressed=settings.max_decompressed_bytes
            ),
            bodies=bodies,
            max_requests_per_second=settings.max_requests_per_second,
            reserved=store.owns,
            page_token_key=await store.secret("page-token"),
        )
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        await running.enter_async_context(enforce_revocation(streams, authentication))
        await running.enter_async_context(retention.running())
        await running.enter_async_context(staging.running())
        await running.enter_async_context(dispatcher.running())
        await running.enter_async_context(
            measuring(
                metrics.dora,
                dora,
                places=parse_places(settings.dora_places),
                window=parse_window_setting(settings.dora_window),
                clock=clock,
            )
        )
        await running.enter_async_context(
            pruning(
                {"events": store.log.prune, "attempts": store.deliveries.delete_before},
                days={
                    "events": settings.event_retention_days,
                    "attempts": settings.attempt_retention_days,
                },
                add_checksums=store.log.add_checksums,
                clock=clock,
            )
        )
        pages = await running.enter_async_context(
            open_pages(context, settings, authentication, encryptor, store.ended_sessions, metrics)
        )
        operator = _operator_routes(store, exposition or metrics.exposition)
        observe = _observe(metrics, settings)
        router = _router(
            context, settings, operator, metrics, authentication, pages, observe, tracing
        )
        fast = make_fast_append(context, settings, authentication, metrics.failed, observe)
        yield Application(
            with_cors(
                BasePathMiddleware(HomeMiddleware(router), paths_of(settings.base_paths)),
                parse_origins(settings.cors_origins),
            ),
            hub,
            # It answers beside the application.
            None if tracing.sees_requests else fast,
        )


def _observe(metrics: Metrics, settings: Settings) -> Observe:
    """What is done with each response."""
    if not settings.access_log:
        return metrics.answered

    def observe(answered: Answered) -> None:
        metrics.answered(answered)
        log_access(answered)

    return observe


def _retention(store: Store, settings: Settings, clock: Callable[[], int]) -> Retention:
    """The cleanups that clients may start."""
    return Retention(
        store.cleanups,
        delete={"events": store.log.prune, "changesets": store.changesets.delete_before},
        days={
            "events": settings.event_retention_days,
            "changesets": settings.changeset_retention_days,
        },
        clock=clock,
    )


def _subscriptions(
    store: Store,
    secrets: SecretStore,
    deployments: DeploymentService,
    authentication: Authentication,
    dispatcher: Dispatcher,
    clock: Callable[[], int],
) -> SubscriptionService:
    return SubscriptionService(
        store.subscriptions,
        store.deliveries,
        store.log,
        secrets,
        deployments,
        formats=_format_filters(),
        find_owner=lambda owner: authentication.find(owner.kind, owner.id),
        send_test=dispatcher.test,
        on_change=dispatcher.refresh,
        clock=clock,
    )


def _format_filters() -> dict[Format, Filter]:
    """The filter of each delivery format that does not cover all events."""
    formats = [api.delivery for api in APIS if api.delivery is not None]
    return {each.name: each.filter for each in formats if each.filter is not None}


def _router(
    context: ApiContext,
    settings: Settings,
    operator: dict[str, Handler],
    metrics: Metrics,
    authentication: Authentication,
    pages: list[Route],
    observe: Observe,
    tracing: Tracing,
) -> ASGIApp:
    routes = [
        *pages,
        *mount(context, settings.sections, gate=authentication, failed=metrics.failed),
        *mount_open(operator, gate=authentication, bodies=context.bodies, failed=metrics.failed),
    ]
    router = Router(routes, redirect_slashes=False, default=respond_unrouted)
    return tracing.app(ObservedApp(router, routes, observe), routes)


def _operator_routes(store: Store, exposition: Exposition) -> dict[str, Handler]:
    """Paths for operators and probes, which need no credentials."""

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        await store.ready()
        return PlainTextResponse("ok\n")

    async def metrics(request: Request) -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return Response(render_document(), media_type="application/json")

    return {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/openapi.json": openapi,
        **DOCS,
    }
