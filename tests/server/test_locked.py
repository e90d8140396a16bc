"""Once there is a credential, every path of every API asks for one, but those that are open."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from deploylog.api.http.endpoint import Endpoint
from deploylog.auth.api_keys import make_key
from deploylog.errors import DeploylogError, MethodNotAllowed, Unauthenticated
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.mounted import mounted
from support.servers import Local, running
from support.signing import send

#: What anybody may get; docs/how-to/authenticate.md says so.
OPEN = {
    ("GET", path)
    for path in (
        "/",
        "/docs",
        "/docs/text",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/ui/sign-in",
        "/v1/health",
    )
}

#: Methods that a client may try on any path, known to HTTP or not.
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")

_ACTION = "Action=DescribeStacks&Version=2010-05-15"

#: Ways to call an action of CloudFormation's by the root, which is open without one.
ACTIONS = (
    f"/?{_ACTION}",
    "/?Action=",
    "/?Action",
    "/?%41ction=ListStacks&Version=2010-05-15",
    "/?Version=2010-05-15&x=%FF&Action=DescribeStacks",
    f"/?a=1&&{_ACTION}&Action=x",
    f"/prod/?{_ACTION}",
)

#: Its credential is in the body, which is read first; what is not signed is not recorded.
SIGNED_BODY = ("POST", "/log/v1/ingest/sns")

#: Files without any secret, and the form that asks for a credential; tests/e2e/ui tests it.
FOR_VISITORS = {
    ("GET", "/docs/static/{name}"),
    ("HEAD", "/docs/static/{name}"),
    ("GET", "/ui/static/{name:path}"),
    ("HEAD", "/ui/static/{name:path}"),
    ("POST", "/ui/sign-in"),
}

#: Headers that some dialect asks for.
NAMED = {"Client-Request-Id": "aaaaaaaa-0000-4000-8000-000000000000"}


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Local]:
    key, _ = make_key(name="ann", groups=(), grants=[parse_grant("read:/")], now=now())
    await store.credentials.add(key)
    async with running(store, max_failures_per_minute=0, base_paths="/prod") as service:
        yield service


async def refusal(envelope: Endpoint, error: DeploylogError | None = None) -> tuple[int, set[str]]:
    """The status and the headers with which its dialect refuses somebody, or tells an error."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
    answer = await envelope._respond(Request(scope), error or Unauthenticated())
    return answer.status_code, set(answer.headers)


async def test_every_path_asks_for_a_credential_but_those_that_are_open(
    service: Local, store: Store
):
    routes = await mounted(store)

    found_open = set()
    for method, path, envelope in routes:
        if (method, path) in FOR_VISITORS:
            continue
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


@pytest.mark.parametrize("base", ["", "/prod"])
async def test_no_method_on_any_path_does_without_a_credential(
    service: Local, store: Store, base: str
):
    paths = {path: envelope for _, path, envelope in await mounted(store)}

    let_in = set()
    for path, envelope in paths.items():
        filled = base + re.sub(r"\{[^}]*\}", "a", path)
        # That there is no such method is said before it is asked who wants it.
        refused = {(await refusal(envelope, e))[0] for e in (Unauthenticated(), MethodNotAllowed())}
        for method in METHODS:
            if (method, path) in {SIGNED_BODY, *FOR_VISITORS}:
                continue
            answer = await service.ask(method, filled, headers=NAMED, allow_redirects=False)
            if answer.status not in refused:
                let_in.add((method.replace("HEAD", "GET"), path))

    assert let_in == OPEN
    assert await store.log.head() == 0


@pytest.mark.parametrize("target", ACTIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_an_action_needs_a_credential_however_it_is_called(
    service: Local, method: str, target: str
):
    answer = await asyncio.to_thread(send, method, service.url + target, {})

    assert answer.status == 403
    assert method == "HEAD" or b"<Code>MissingAuthenticationToken</Code>" in answer.body


async def test_a_form_needs_a_credential_wherever_its_action_stands(service: Local):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for target, body in (("/", _ACTION), (f"/?{_ACTION}", ""), (f"/?{_ACTION}", "a=b")):
        answer = await service.ask("POST", target, data=body, headers=form)

        assert answer.status == 403
        assert b"<Code>MissingAuthenticationToken</Code>" in answer.body
