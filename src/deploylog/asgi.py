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

from deploylog.auth.apikey import ApiKeys
from deploylog.bodies import BodyLimits
from deploylog.dialects import mount, mount_open, respond_unrouted
from deploylog.dialects.parts import Endpoint, Parts
from deploylog.errors import Unavailable
from deploylog.hub import Hub
from deploylog.openapi import render_document, render_page
from deploylog.service import EventService
from deploylog.settings import Settings
from deploylog.store.base import Store
from deploylog.telemetry import CONTENT_TYPE, Metrics
from deploylog.times import SECOND

#: Seconds between two looks for what need not be retained any longer.
PRUNE_SECONDS = 3600

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
) -> AsyncIterator[Application]:
    """The application over ``store``, alive while in the block; ``clock`` gives ns."""
    hub = Hub(store.log)
    metrics.watch(readers=lambda: hub.readers, head=lambda: hub.head)
    parts = Parts(
        service=EventService(store, hub, clock=clock),
        clock=clock,
        sent=lambda events, position: metrics.sent(events, lag=hub.head - position),
        limits=BodyLimits(sent=settings.max_body_bytes, unpacked=settings.max_unpacked_bytes),
        max_batch_events=settings.max_batch_events,
        rfs_strict=settings.rfs_strict,
    )
    authenticators = (ApiKeys(store.keys, clock=time.monotonic),)
    asgi = Router(
        [
            *mount(parts, authenticators=authenticators, failed=metrics.failed),
            *mount_open(_own_routes(store, metrics), failed=metrics.failed),
        ],
        redirect_slashes=False,
        default=respond_unrouted,
    )
    async with AsyncExitStack() as running:
        await running.enter_async_context(hub.following(heartbeat=settings.heartbeat_seconds))
        if settings.retention_days:
            await running.enter_async_context(_pruning(store, settings.retention_days, clock))
        yield Application(asgi, hub)


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
        return RedirectResponse("/docs")

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
