"""The authentication that the settings ask for: each kind of credential, and the rate limits."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

from deploylog.api import APIS
from deploylog.api.settings import paths_of
from deploylog.auth.access_keys import check_decryptable
from deploylog.auth.anonymous import AnonymousAccess
from deploylog.auth.api_keys import ApiKeys
from deploylog.auth.authentication import Authentication, Authenticator
from deploylog.auth.bearer import open_bearer_tokens
from deploylog.auth.bluelink import BluelinkSignatures
from deploylog.auth.encryption import Encryptor
from deploylog.auth.huawei import HuaweiScheme
from deploylog.auth.oidc import Issuer, make_issuer
from deploylog.auth.rate_limit import RateLimiter
from deploylog.auth.request_signing import RequestSignatures, Scheme
from deploylog.auth.sigv4 import AwsScheme
from deploylog.auth.sns import Fetch, SnsTopics, parse_topics
from deploylog.auth.source_secrets import SourceSecrets
from deploylog.errors import Unavailable
from deploylog.events.streams import OpenStreams
from deploylog.server.metrics import Metrics
from deploylog.server.settings import Settings
from deploylog.store.contract import Store

#: Seconds between two checks for revoked credentials with open streams.
WATCH_SECONDS = 0.3

#: Certificates of SNS that the service fetches per second, at most.
SNS_FETCHES_PER_SECOND = 1.0

_LOGGER = logging.getLogger(__name__)


@asynccontextmanager
async def open_authentication(
    store: Store,
    encryptor: Encryptor | None,
    settings: Settings,
    metrics: Metrics,
    clock: Callable[[], int],
) -> AsyncIterator[Authentication]:
    """Open the authentication with every kind of credential; raises OperatorError."""
    api_kinds = list(_api_authenticators(settings))
    await check_decryptable(store.credentials, encryptor)
    async with AsyncExitStack() as running:
        kinds: list[Authenticator] = [
            *api_kinds,
            *_signatures(store, encryptor, settings, clock),
            ApiKeys(store.credentials, clock=time.monotonic),
            AnonymousAccess(store.credentials, issuer=settings.oidc_issuer, clock=time.monotonic),
        ]
        if settings.oidc_issuer:
            tokens = open_bearer_tokens(issuer_of(settings), clock=clock)
            kinds.insert(0, await running.enter_async_context(tokens))
        yield Authentication(
            tuple(kinds),
            requests=_rate(settings.max_requests_per_second),
            failures=_rate(settings.max_failures_per_minute / 60, settings.max_failures_per_minute),
            failed=metrics.refused,
        )


def _api_authenticators(settings: Settings) -> Iterator[Authenticator]:
    """The authenticators of credentials that only one API accepts."""
    bases = paths_of(settings.base_paths)
    for api in APIS:
        yield from api.authenticators(settings.section(api.settings), bases)


def _signatures(
    store: Store, encryptor: Encryptor | None, settings: Settings, clock: Callable[[], int]
) -> list[Authenticator]:
    """Every signing scheme."""
    window = settings.signature_stream_seconds
    credentials, monotonic = store.credentials, time.monotonic
    schemes: list[Scheme] = [HuaweiScheme(), AwsScheme()]
    return [
        BluelinkSignatures(
            credentials, encryptor, clock=clock, monotonic=monotonic, stream_window=window
        ),
        *(
            RequestSignatures(
                scheme, credentials, encryptor, store.signatures, clock=clock, monotonic=monotonic
            )
            for scheme in schemes
        ),
        SourceSecrets(credentials, encryptor, clock=monotonic),
    ]


def make_topics(
    settings: Settings, metrics: Metrics, fetch: Fetch, clock: Callable[[], int]
) -> SnsTopics:
    """The SNS topics that may post stack events."""
    return SnsTopics(
        parse_topics(settings.sns_topics),
        fetch,
        clock=clock,
        fetches=RateLimiter(SNS_FETCHES_PER_SECOND, burst=10, clock=time.monotonic),
        failed=metrics.refused,
    )


def issuer_of(settings: Settings) -> Issuer:
    """The token issuer; raises InvalidSettings."""
    return make_issuer(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        groups_claim=settings.oidc_groups_claim,
        grants_claim=settings.oidc_grants_claim,
        default_grants=settings.oidc_default_grants,
        leeway=settings.oidc_leeway_seconds,
    )


def _rate(per_second: float, burst: int | None = None) -> RateLimiter:
    """A limit of ``per_second``, and of ``burst`` at once; by default a second's worth."""
    return RateLimiter(per_second, burst=burst or max(int(per_second), 1), clock=time.monotonic)


@asynccontextmanager
async def enforce_revocation(
    streams: OpenStreams, authentication: Authentication
) -> AsyncIterator[None]:
    """Inside the block, end streams whose credentials are revoked or have expired."""

    async def check() -> None:
        for principal in streams.principals:
            if not await authentication.is_valid(principal):
                streams.close(principal)

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await check()
            except Unavailable:
                _LOGGER.exception("cannot check credentials; retrying")

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
