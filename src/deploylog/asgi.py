"""The composition root: the only module that sees every part."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp

from deploylog.auth import Authenticator, Gate
from deploylog.auth.apikey import ApiKeys
from deploylog.auth.issuer import Issuer, make_issuer
from deploylog.auth.open import OpenDoor
from deploylog.auth.rate import Rate
from deploylog.auth.seal import read_seal
from deploylog.auth.secret import SharedSecret, read_secret
from deploylog.auth.signature import Signatures, require_opened
from deploylog.auth.token import open_tokens
from deploylog.auth.topics import Fetch, SnsTopics, fetch_from_sns, parse_topics
from deploylog.basepaths import BasePaths
from deploylog.bodies import BodyLimits
from deploylog.cleaning import Cleaning
from deploylog.dialects import mount, mount_open, respond_unrouted
from deploylog.dialects.escape.routes import CREATE_EVENT
from deploylog.dialects.parts import Endpoint, Parts
from deploylog.errors import Unavailable
from deploylog.following import Followers
from deploylog.hub import Hub
from deploylog.openapi import render_document, render_page
from deploylog.planfiles import PlanFiles
from deploylog.service import EventService
from deploylog.settings import Settings, names_of, paths_of
from deploylog.staging import Staging
from deploylog.store.base import Store
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
    fetch: Fetch = fetch_from_sns,
) -> AsyncIterator[Application]:
    """The application over ``store``, alive while in the block; ``clock`` gives ns, ``fetch``
    gets what SNS publishes.
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
    parts = Parts(
        service=EventService(store, hub, followers=followers, clock=clock),
        staging=staging,
        cleaning=cleaning,
        plan_files=PlanFiles(paths_of(settings.plan_folders), limit=settings.max_unpacked_bytes),
        topics=_topics(settings, metrics, fetch, clock),
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
    )
    async with AsyncExitStack() as running:
        gate = await running.enter_async_context(_open_gate(store, settings, metrics, clock))
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        await running.enter_async_context(_watching(followers, gate))
        await running.enter_async_context(cleaning.working())
        await running.enter_async_context(staging.working())
        if settings.retention_days:
            await running.enter_async_context(_pruning(store, settings.retention_days, clock))
        router = _router(parts, store, metrics, gate)
        yield Application(BasePaths(router, paths_of(settings.base_paths)), hub)


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
    store: Store, settings: Settings, metrics: Metrics, clock: Callable[[], int]
) -> AsyncIterator[Gate]:
    """Who is let in, by every kind of credential; raises OperatorError."""
    seal = read_seal(settings.secret_key_file)
    secret = read_secret(settings.escape_secret_file)
    await require_opened(store.signers, seal)
    async with AsyncExitStack() as running:
        kinds: list[Authenticator] = [
            Signatures(
                store.signers,
                seal,
                clock=clock,
                monotonic=time.monotonic,
                stream_window=settings.signature_stream_seconds,
            ),
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

    async def root(request: Request) -> Response:
        return RedirectResponse(request.scope.get("base_path", "") + "/docs")

    return {
        "/": root,
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": measured,
        "/openapi.json": openapi,
        "/docs": docs,
    }


@asynccontextmanager
async def _pruning(store: Store, days: float, clock: Callable[[], int]) -> AsyncIterator[None]:
    """Forget what is older than ``days``, now and then."""

    async def prune() -> None:
        while True:
            try:
                forgotten = await store.log.prune(clock() - int(days * 86400) * SECOND)
                _LOGGER.info("forgot %d events older than %g days", forgotten, days)
            except Unavailable:
                _LOGGER.exception("cannot forget old events; trying again later")
            await asyncio.sleep(PRUNE_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(prune())
        try:
            yield
        finally:
            task.cancel()
