"""Signing in and out: by API key and with an identity provider, and all that must not work."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from deploylog.store import open_store
from support.api_keys import new_key
from support.backends import store_url_at
from support.browser import axe, new_tab
from support.deployments import start
from support.factories import Commits, now
from support.issuer import CLIENT, RunningIssuer, running_issuer
from support.servers import Local, running
from support.sessions import session_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunningIssuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def locked(
    issuer: RunningIssuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Local]:
    """A service that people must sign in to."""
    folder: Path = tmp_path_factory.mktemp("locked")
    secret = folder / "client-secret"
    secret.write_text(f"{CLIENT[1]}\n")
    options: dict[str, Any] = {
        "oidc_issuer": issuer.url,
        "oidc_audience": "deploylog",
        "oidc_client_id": CLIENT[0],
        "oidc_client_secret_file": str(secret),
        "max_failures_per_minute": 0,
    }
    url = store_url_at(folder / "log.db")
    async with open_store(url, observer=Commits()) as store, running(store, **options) as site:
        key = await new_key(site.store, "admin:/")
        site.http.headers["authorization"] = f"Bearer {key}"
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, locked: Local) -> AsyncIterator[Page]:
    async with new_tab(browser, locked.url) as page:
        yield page


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_whoever_signs_in_by_key_comes_to_the_page_that_was_asked_for(
    locked: Local, page: Page
):
    key = await new_key(locked.store, "read:project/acme")
    await page.goto("/ui/?project=acme")
    await expect(page).to_have_url(re.compile(r"/ui/sign-in\?next="))

    await sign_in(page, key)

    await expect(page).to_have_url(f"{locked.url}/ui/?project=acme")
    await expect(page.get_by_text("ci", exact=True)).to_be_visible()
    [cookie] = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/ui")
    assert key not in cookie["value"]
    assert await page.evaluate("document.cookie") == ""


async def test_pages_show_only_what_the_key_may_read(locked: Local, page: Page):
    await start(locked, stack="seen")
    await start(locked, stack="covert", project="secret")
    await page.goto("/ui/")

    await sign_in(page, await new_key(locked.store, "read:project/acme"))

    await expect(page.locator("#running")).to_contain_text("seen")
    text = await page.content()
    assert "covert" not in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "path", ["events", "events.ndjson", "events.csv", "suggestions?field=type", "", "delivery"]
)
async def test_what_may_not_be_seen_is_on_no_page_and_in_no_count(locked: Local, path: str):
    await locked.append(
        [
            {"source": "test", "type": "note.mine", "scopes": "project/mine"},
            {"source": "test", "type": "note.covert", "scopes": "project/covert"},
            {"source": "test", "type": "note.covert", "scopes": "project/mine", "groups": "others"},
        ]
    )
    cookie = await session_of(locked, await new_key(locked.store, "read:project/mine"))

    headers = {"cookie": cookie, "authorization": ""}
    answer = await locked.get(f"/ui/{path}", headers=headers)

    assert answer.status == 200
    assert b"covert" not in answer.body
    if path == "events":
        shown = answer.body.count(b'class="event ')
        assert f'<strong id="count">{shown}</strong>'.encode() in answer.body


async def test_what_may_not_be_seen_cannot_be_compared_with(locked: Local):
    mine = await start(locked, stack="mine")
    covert = await start(locked, stack="mine", project="covert")
    hidden = await start(locked, stack="mine", groups=["others"])
    cookie = await session_of(locked, await new_key(locked.store, "read:project/acme"))
    headers = {"cookie": cookie, "authorization": ""}

    alone = await locked.get(f"/ui/compare?deployment={mine}", headers=headers)

    assert alone.status == 200
    assert hidden.encode() not in alone.body
    for other in (covert, hidden):
        for query in (f"deployment={mine}&with={other}", f"deployment={other}&with={mine}"):
            assert (await locked.get(f"/ui/compare?{query}", headers=headers)).status == 404


async def test_a_wrong_key_is_refused_and_may_be_tried_again(locked: Local, page: Page):
    await page.goto("/ui/")

    await sign_in(page, "dlk_0000_0000")

    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await sign_in(page, await new_key(locked.store, "read:/"))
    await expect(page.get_by_role("heading", name="Now")).to_be_visible()


async def test_whoever_signs_out_is_out_with_a_copy_of_the_cookie_too(locked: Local, page: Page):
    await page.goto("/ui/")
    await sign_in(page, await new_key(locked.store, "read:/"))
    await expect(page.get_by_text("ci", exact=True)).to_be_visible()
    copy = await page.context.cookies()

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.context.add_cookies(copy)  # type: ignore[arg-type]
    await page.goto("/ui/")

    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_revoked_key_ends_the_session_and_its_open_page(locked: Local, page: Page):
    key = await new_key(locked.store, "read:/")
    await page.goto("/ui/")
    await sign_in(page, key)
    await expect(page.locator("#connection")).to_have_text("Live")

    await locked.store.credentials.revoke(key.split("_")[1], now())

    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=5_000)


async def test_a_session_is_over_within_a_second_of_its_keys_revocation(locked: Local):
    key = await new_key(locked.store, "read:/")
    cookie = await session_of(locked, key)
    assert (await show(locked, cookie)).status == 200

    await locked.store.credentials.revoke(key.split("_")[1], now())

    revoked = now()
    while (await show(locked, cookie)).status == 200:
        assert now() - revoked < 1_000_000_000


async def show(site: Local, cookie: str):
    headers = {"cookie": cookie, "authorization": ""}
    return await site.get("/ui/", headers=headers, allow_redirects=False)


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/sign-out"])
async def test_a_form_without_the_token_of_the_session_is_refused(locked: Local, path: str):
    key = await new_key(locked.store, "read:/")
    cookie = await session_of(locked, key)

    for token in ({}, {"token": "00" * 48}):
        answer = await locked.ask(
            "POST", path, data={**token, "key": key}, headers={"cookie": cookie}
        )
        assert answer.status == 403
    assert (await show(locked, cookie)).status == 200


@pytest.mark.parametrize(
    "next", ["//evil.example", "https://evil.example", "\\\\evil.example", "/..//evil.example", "é"]
)
async def test_nobody_is_sent_elsewhere_after_sign_in(locked: Local, page: Page, next: str):
    await page.goto(f"/ui/sign-in?next={next}")

    await sign_in(page, await new_key(locked.store, "read:/"))
    await page.wait_for_load_state()

    assert page.url.startswith(f"{locked.url}/ui/")


async def test_whoever_signs_in_with_the_provider_sees_what_the_token_grants(
    locked: Local, issuer: RunningIssuer, page: Page
):
    await start(locked, project="tokens", stack="by-token")
    await issuer.set(person={"preferred_username": "bo", "deploylog_grants": "read:project/tokens"})
    await page.goto("/ui/?project=tokens")

    await page.get_by_role("link", name="Sign in with your identity provider").click()

    await expect(page).to_have_url(f"{locked.url}/ui/?project=tokens")
    await expect(page.get_by_text("bo", exact=True)).to_be_visible()
    await expect(page.locator("#running")).to_contain_text("by-token")
    await page.reload()
    await expect(page.get_by_text("bo", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    "person",
    [
        {"nonce": "of another sign-in"},
        {"aud": "another-client"},
        {"iss": "https://another.example"},
        {"exp": 1},
    ],
)
async def test_a_token_for_something_else_signs_nobody_in(
    locked: Local, issuer: RunningIssuer, page: Page, person: dict[str, object]
):
    await issuer.set(person=person)
    await page.goto("/ui/")

    await page.get_by_role("link", name="Sign in with your identity provider").click()

    await expect(page.get_by_role("alert")).to_contain_text("did not sign you in")


async def test_an_answer_that_nobody_asked_for_signs_nobody_in(locked: Local, page: Page):
    await page.goto("/ui/sign-in/callback?code=stolen&state=guessed")

    await expect(page.get_by_role("heading", name="Forbidden")).to_be_visible()


async def test_a_session_ends_with_the_token(locked: Local, issuer: RunningIssuer, page: Page):
    # The allowed difference of the clocks is 30 s.
    expires = now() // 1_000_000_000 - 27
    await issuer.set(person={"deploylog_grants": "read:/", "exp": expires})
    await page.goto("/ui/")
    await page.get_by_role("link", name="Sign in with your identity provider").click()

    await expect(page.get_by_role("heading", name="Now")).to_be_visible()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=8_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(locked: Local, browser: Browser, scheme: str):
    async with new_tab(browser, locked.url, color_scheme=scheme) as page:
        await page.goto("/ui/")
        await expect(page.get_by_label("API key")).to_be_visible()

        assert await axe(page) == []
