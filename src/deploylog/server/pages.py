"""The pages that the settings ask for: sessions, sign-in, and the routes of the site."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.routing import Route

from deploylog.api.context import ApiContext
from deploylog.auth.authentication import Authentication
from deploylog.auth.code_flow import Client, CodeFlow, open_code_flow
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.auth.store import EndedSessions
from deploylog.errors import InvalidSettings
from deploylog.server.authentication import issuer_of
from deploylog.server.metrics import Metrics
from deploylog.server.settings import Settings
from deploylog.ui.measurements import Measurements
from deploylog.ui.open_sessions import OpenSessions
from deploylog.ui.page import Services
from deploylog.ui.sessions import Sessions
from deploylog.ui.sign_in import SignInPages
from deploylog.ui.site import Site, mount_site
from deploylog.ui.timelines import Timelines


@asynccontextmanager
async def open_pages(
    context: ApiContext,
    settings: Settings,
    authentication: Authentication,
    encryptor: Encryptor | None,
    ended: EndedSessions,
    metrics: Metrics,
) -> AsyncIterator[list[Route]]:
    """The routes of the pages, inside the block; raises InvalidSettings."""
    open_sessions = OpenSessions(ended, clock=context.clock, monotonic=time.monotonic)
    sessions = Sessions(
        authentication,
        # Without a key, sessions end with this process.
        encryptor or parse_encryptor(make_encryption_key()),
        open_sessions,
        clock=context.clock,
        hours=settings.session_hours,
        is_https=settings.public_url.startswith("https://"),
    )
    services = Services(
        events=context.events,
        deployments=context.deployments,
        dora=context.dora,
        staging=context.staging,
        subscriptions=context.subscriptions,
        keys=context.keys,
        timelines=Timelines(context.events, context.deployments),
        measurements=Measurements(context.dora),
        clock=context.clock,
        sent=context.sent,
    )
    site = Site(services, sessions)
    async with open_sessions.watching(), _open_code_flow(settings, context) as flow:
        sign_in = SignInPages(site, flow, public_url=settings.public_url)
        yield mount_site(
            site,
            site.handlers() | sign_in.handlers(),
            gate=authentication,
            bodies=context.bodies,
            failed=metrics.failed,
        )


@asynccontextmanager
async def _open_code_flow(
    settings: Settings, context: ApiContext
) -> AsyncIterator[CodeFlow | None]:
    if not settings.oidc_client_id:
        yield None
        return
    client = Client(
        id=settings.oidc_client_id,
        secret=_read_secret(settings.oidc_client_secret_file),
        scopes=settings.oidc_scopes,
    )
    async with open_code_flow(issuer_of(settings), client, clock=context.clock) as flow:
        yield flow


def _read_secret(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"cannot read oidc_client_secret_file {path}: {error.strerror}"
        raise InvalidSettings(message) from error
    except UnicodeDecodeError:
        raise InvalidSettings(f"oidc_client_secret_file {path} is not text") from None
