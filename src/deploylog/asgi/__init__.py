"""The composition root: the only part that sees every other."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp

from deploylog.asgi.delivery import make_poster, make_senders, make_vault
from deploylog.asgi.gate import make_topics, open_gate, watching
from deploylog.asgi.upkeep import pruning
from deploylog.auth import Gate
from deploylog.auth.seal import read_seal
from deploylog.auth.topics import Fetch, SnsTopics, fetch_from_sns
from deploylog.basepaths import BasePaths
from deploylog.bodies import BodyLimits
from deploylog.cleaning import Cleaning
from deploylog.delivery.dispatcher import Dispatcher
from deploylog.delivery.dispatcher import Parts as DeliveryParts
from deploylog.delivery.timing import Timing, Wait, wait_for
from deploylog.dialects import mount, mount_open, respond_unrouted
from deploylog.dialects.escape.wire import SHOWN
from deploylog.dialects.parts import Endpoint, Parts
from deploylog.dialects.stackviews.identity import Place
from deploylog.dialects.stackviews.tokens import PageTokens
from deploylog.dialects.stackviews.views import StackViews
from deploylog.following import Followers
from deploylog.hub import Hub
from deploylog.openapi import render_document, render_page
from deploylog.planfiles import PlanFiles
from deploylog.service import EventService
from deploylog.settings import Settings, names_of, paths_of
from deploylog.staging import Staging
from deploylog.store.base import Store
from deploylog.subscribing import Subscribing
from deploylog.subscribing.sets import SubscriptionSets
from deploylog.subscribing.vault import Vault, require_opened
from deploylog.telemetry import CONTENT_TYPE, Metrics


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
    hub = Hub(store.log, memory=settings.max_stream_memory_mib * 1024 * 1024)
    followers = Followers(most=settings.max_streams_per_principal)
    metrics.watch(readers=lambda: hub.readers, head=lambda: hub.head)
    staging = Staging(store, clock=clock)
    cleaning = Cleaning(
        store,
        clock=clock,
        event_days=settings.event_retention_days,
        changeset_retention_days=settings.changeset_retention_days,
    )
    service = EventService(store, hub, followers=followers, clock=clock)
    seal = read_seal(settings.secret_key_file)
    vault = make_vault(seal, settings, clock)

    async with AsyncExitStack() as running:
        gate = await running.enter_async_context(open_gate(store, seal, settings, metrics, clock))
        await require_opened(store.subscriptions, vault)
        poster = await running.enter_async_context(make_poster(settings, clock))
        senders = make_senders(store, service, gate, poster, settings)
        dispatcher = Dispatcher(
            store,
            hub,
            DeliveryParts(
                sender=senders,
                target=vault.target,
                secrets=vault.secrets,
                owner=lambda owner: gate.find(owner.kind, owner.id),
                observer=metrics,
                timing=Timing(now=clock, wait=wait),
            ),
        )
        parts = _parts(
            settings,
            metrics,
            hub,
            service=service,
            staging=staging,
            cleaning=cleaning,
            plan_files=PlanFiles(
                paths_of(settings.plan_folders),
                limit=settings.max_decompressed_bytes,
                reserved=store.owns,
            ),
            subscribing=_subscribing(store, vault, gate, dispatcher, clock),
            subscription_sets=SubscriptionSets(
                store, vault, changed=dispatcher.changed, clock=clock
            ),
            clock=clock,
            token_key=await store.log.token_key(),
            topics=make_topics(settings, metrics, fetch, clock),
        )
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        await running.enter_async_context(watching(followers, gate))
        await running.enter_async_context(cleaning.working())
        await running.enter_async_context(staging.working())
        await running.enter_async_context(dispatcher.working())
        await running.enter_async_context(pruning(store, settings, clock))
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
    plan_files: PlanFiles,
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
        plan_files=plan_files,
        subscribing=subscribing,
        subscription_sets=subscription_sets,
        topics=topics,
        clock=clock,
        sent=lambda events, position: metrics.sent(events, lag=hub.head - position),
        limits=BodyLimits(sent=settings.max_body_bytes, unpacked=settings.max_decompressed_bytes),
        max_batch_events=settings.max_batch_events,
        max_requests_per_second=settings.max_requests_per_second,
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
