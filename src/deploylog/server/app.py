"""The composition root: the only part that sees every other."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp

from deploylog.api import mount, mount_open, respond_unrouted
from deploylog.api.aws.stacks.arn import Account
from deploylog.api.aws.stacks.page_tokens import PageTokens
from deploylog.api.aws.stacks.stack_view import StackViews
from deploylog.api.bluelink.plan_files import PlanFiles
from deploylog.api.context import ApiContext, Handler
from deploylog.api.escape.wire import SHOWN
from deploylog.api.http.body import BodyLimits
from deploylog.api.native.appends import Appends
from deploylog.api.openapi import render_document, render_page
from deploylog.auth.authentication import Authentication
from deploylog.auth.encryption import read_encryptor
from deploylog.auth.sns import Fetch, SnsTopics, fetch_from_sns
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.staging import Staging
from deploylog.events.hub import Hub
from deploylog.events.retention import Retention, pruning
from deploylog.events.service import EventService
from deploylog.events.streams import OpenStreams
from deploylog.server.authentication import enforce_revocation, make_topics, open_authentication
from deploylog.server.base_paths import BasePathMiddleware
from deploylog.server.delivery import make_poster, make_senders, make_vault
from deploylog.server.fast_append import FastAppend, can_be_fast
from deploylog.server.metrics import CONTENT_TYPE, Metrics
from deploylog.server.settings import Settings, names_of, paths_of
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock, Wait, wait_for
from deploylog.subscriptions.delivery.dispatcher import Dispatcher, DispatcherParts
from deploylog.subscriptions.reconcile import SubscriptionGroups
from deploylog.subscriptions.secret_store import SecretStore, check_decryptable
from deploylog.subscriptions.service import SubscriptionService


class Application:
    """The ASGI application, and how to end its streams."""

    def __init__(self, asgi: ASGIApp, hub: Hub, append: FastAppend | None) -> None:
        """``append`` answers plain requests to append, unless their path may be another's."""
        self.asgi = asgi
        self.append = append
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
    followers = OpenStreams(most=settings.max_streams_per_principal)
    metrics.watch(readers=lambda: hub.readers, head=lambda: hub.head)
    staging = Staging(store.log, store.catalogue, store.changesets, clock=clock)
    cleaning = Retention(
        store.cleanups,
        delete={"events": store.log.prune, "changesets": store.changesets.forget},
        days={
            "events": settings.event_retention_days,
            "changesets": settings.changeset_retention_days,
        },
        clock=clock,
    )
    service = EventService(store.log, hub, followers=followers)
    deployments = DeploymentService(service, store.catalogue, clock=clock)
    seal = read_encryptor(settings.secret_key_file)
    vault = make_vault(seal, settings, clock)

    async with AsyncExitStack() as running:
        gate = await running.enter_async_context(
            open_authentication(store, seal, settings, metrics, clock)
        )
        await check_decryptable(store.subscriptions, vault)
        poster = await running.enter_async_context(make_poster(settings, clock))
        senders = make_senders(store, deployments, gate, poster, settings)
        dispatcher = Dispatcher(
            store.subscriptions,
            store.deliveries,
            store.log,
            hub,
            DispatcherParts(
                sender=senders,
                target=vault.target,
                secrets=vault.secrets,
                owner=lambda owner: gate.find(owner.kind, owner.id),
                observer=metrics,
                timing=Clock(now=clock, wait=wait),
            ),
        )
        parts = _parts(
            settings,
            metrics,
            hub,
            service=service,
            deployments=deployments,
            staging=staging,
            cleaning=cleaning,
            plan_files=PlanFiles(
                paths_of(settings.plan_folders),
                limit=settings.max_decompressed_bytes,
                reserved=store.owns,
            ),
            subscribing=_subscribing(store, vault, gate, dispatcher, clock),
            subscription_sets=SubscriptionGroups(
                store.subscriptions, store.log, vault, changed=dispatcher.changed, clock=clock
            ),
            clock=clock,
            token_key=await store.log.token_key(),
            topics=make_topics(settings, metrics, fetch, clock),
        )
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        await running.enter_async_context(enforce_revocation(followers, gate))
        await running.enter_async_context(cleaning.working())
        await running.enter_async_context(staging.working())
        await running.enter_async_context(dispatcher.working())
        await running.enter_async_context(
            pruning(
                {"events": store.log.prune, "attempts": store.deliveries.forget},
                days={
                    "events": settings.event_retention_days,
                    "attempts": settings.attempt_retention_days,
                },
                add_checksums=store.log.add_checksums,
                clock=clock,
            )
        )
        router = _router(parts, store, metrics, gate)
        bases = paths_of(settings.base_paths)
        yield Application(
            BasePathMiddleware(router, bases),
            hub,
            _fast_append(parts, gate, metrics) if can_be_fast(bases) else None,
        )


def _parts(
    settings: Settings,
    metrics: Metrics,
    hub: Hub,
    *,
    service: EventService,
    deployments: DeploymentService,
    staging: Staging,
    cleaning: Retention,
    plan_files: PlanFiles,
    subscribing: SubscriptionService,
    subscription_sets: SubscriptionGroups,
    clock: Callable[[], int],
    token_key: bytes,
    topics: SnsTopics,
) -> ApiContext:
    return ApiContext(
        service=service,
        deployments=deployments,
        staging=staging,
        cleaning=cleaning,
        plan_files=plan_files,
        subscribing=subscribing,
        subscription_sets=subscription_sets,
        topics=topics,
        clock=clock,
        sent=lambda events, position: metrics.sent(events, lag=hub.head - position),
        limits=BodyLimits(
            sent=settings.max_body_bytes, decompressed=settings.max_decompressed_bytes
        ),
        max_batch_events=settings.max_batch_events,
        max_requests_per_second=settings.max_requests_per_second,
        rfs_strict=settings.rfs_strict,
        bluelink_project=settings.bluelink_project,
        bluelink_recent_seconds=settings.bluelink_recent_seconds,
        bluelink_drift_check=settings.bluelink_drift_check,
        escape_page_size=settings.escape_page_size,
        escape_upload_groups=names_of(settings.escape_upload_groups),
        escape_has_secret=bool(settings.escape_secret_file),
        stack_views=_stack_views(service, deployments, settings, token_key=token_key),
        parallelcluster_regions=names_of(settings.parallelcluster_regions),
        parallelcluster_region=settings.parallelcluster_region,
        parallelcluster_raw_statuses=settings.parallelcluster_raw_statuses,
        parallelcluster_version=settings.parallelcluster_version,
    )


def _subscribing(
    store: Store,
    vault: SecretStore,
    gate: Authentication,
    dispatcher: Dispatcher,
    clock: Callable[[], int],
) -> SubscriptionService:
    return SubscriptionService(
        store.subscriptions,
        store.deliveries,
        store.log,
        vault,
        formats={"escape": SHOWN},
        owner=lambda owner: gate.find(owner.kind, owner.id),
        test=dispatcher.test,
        changed=dispatcher.changed,
        clock=clock,
    )


def _stack_views(
    service: EventService, deployments: DeploymentService, settings: Settings, *, token_key: bytes
) -> StackViews:
    return StackViews(
        service,
        deployments,
        project=settings.cloudformation_project or None,
        place=Account(
            region=settings.cloudformation_region, account=settings.cloudformation_account
        ),
        tokens=PageTokens(token_key),
    )


def _router(parts: ApiContext, store: Store, metrics: Metrics, gate: Authentication) -> ASGIApp:
    return Router(
        [
            *mount(parts, gate=gate, failed=metrics.failed),
            *mount_open(_own_routes(store, metrics), gate=gate, failed=metrics.failed),
        ],
        redirect_slashes=False,
        default=respond_unrouted,
    )


def _fast_append(parts: ApiContext, gate: Authentication, metrics: Metrics) -> FastAppend:
    return FastAppend(Appends(parts), gate, failed=metrics.failed, body_bytes=parts.limits.sent)


def _own_routes(store: Store, metrics: Metrics) -> dict[str, Handler]:
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
