"""Once there is a credential, every path of every API asks for one, but those that are open."""

import re
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.routing import Route

from deploylog.asgi import create_app
from deploylog.auth.apikey import make_key
from deploylog.dialects.envelope import Envelope
from deploylog.errors import Unauthenticated
from deploylog.principals import parse_grant
from deploylog.settings import load_settings
from deploylog.store.base import Store
from deploylog.telemetry import Metrics
from factories import now
from servers import Local, running

#: What anybody may get; docs/how-to/authenticate.md says so.
OPEN = {
    ("GET", path)
    for path in ("/", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz", "/v1/health")
}

#: Its credential is in the body, which is read first; what is not signed is not recorded.
SIGNED_BODY = ("POST", "/log/v1/ingest/sns")

#: Headers that some dialect asks for.
NAMED = {"Client-Request-Id": "aaaaaaaa-0000-4000-8000-000000000000"}


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    key, _ = make_key(name="ann", groups=(), grants=[parse_grant("read:/")], now=now())
    await store.keys.add(key)
    async with running(store, max_failures_per_minute=0) as service:
        yield service


async def mounted(store: Store) -> list[tuple[str, str, Envelope]]:
    """The method, the path and the envelope of everything that the service answers."""
    settings = load_settings({}, environ={}, config=None)
    async with create_app(store, settings, Metrics()) as application:
        router: SimpleNamespace = application.asgi._application  # type: ignore[attr-defined]
        routes: list[Route] = router.routes
    return [
        (method, route.path, route.endpoint)
        for route in routes
        for method in sorted(route.endpoint._endpoints)
    ]


async def refusal(envelope: Envelope) -> tuple[int, set[str]]:
    """The status and the headers with which its dialect refuses somebody."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
    answer = await envelope._respond(Request(scope), Unauthenticated())
    return answer.status_code, set(answer.headers)


async def test_every_path_asks_for_a_credential_but_those_that_are_open(
    service: Local, store: Store
):
    routes = await mounted(store)

    found_open = set()
    for method, path, envelope in routes:
        if (method, path) == SIGNED_BODY:
            assert (await service.ask(method, path)).status == 400
            continue
        filled = re.sub(r"\{[^}]*\}", "a", path)
        answer = await service.ask(method, filled, headers=NAMED, allow_redirects=False)
        status, headers = await refusal(envelope)
        assert status in (401, 403)
        if answer.status != status:
            assert answer.status < 400, (method, path, answer.status)
            found_open.add((method.replace("HEAD", "GET"), path))
            continue
        assert headers <= set(answer.headers), (method, path)

    assert found_open == OPEN
    assert len(routes) > 50
