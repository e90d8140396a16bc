"""*Keys*: made, shown once, used, revoked; for admins only."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from deploylog.store import open_store
from support.api_keys import new_key
from support.backends import store_url_at
from support.browser import axe, new_tab
from support.factories import Commits
from support.servers import Local, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

MARKUP = "<img src=x onerror=alert(1)>\"'<script>alert(2)</script>{{7*7}}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    """A service that has a key, so that everybody needs one."""
    url = store_url_at(tmp_path_factory.mktemp("keys") / "log.db")
    async with open_store(url, observer=Commits()) as store, running(store) as site:
        key = await new_key(store, "admin:/", name="root")
        site.http.headers["authorization"] = f"Bearer {key}"
        yield site


async def sign_in(page: Page, key: str, *, next: str) -> None:
    await page.goto(f"/ui/{next}")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def make(page: Page, *, name: str, grants: str) -> None:
    await page.get_by_text("New key").click()
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Grants").fill(grants)
    await page.get_by_role("button", name="Make it").click()


async def test_a_key_is_made_shown_once_used_and_revoked(guarded: Local, browser: Browser):
    admin = await new_key(guarded.store, "admin:/", name="ada")
    async with new_tab(browser, guarded.url) as page, new_tab(browser, guarded.url) as other:
        await sign_in(page, admin, next="keys")
        await make(page, name=MARKUP, grants="read:project/acme")

        secret = str(await page.locator("#secret").text_content())
        await page.get_by_role("link", name="Done").click()
        row = page.get_by_role("row").filter(has_text=MARKUP)
        await expect(row).to_contain_text("read:project/acme")
        await expect(page.locator("main img, main script")).to_have_count(0)
        assert secret not in await page.content()

        await sign_in(other, secret, next="")
        await expect(other.get_by_role("heading", name="Now")).to_be_visible()
        await expect(other.get_by_role("link", name="Keys")).to_have_count(0)
        await row.get_by_text("Revoke…").click()
        await row.get_by_role("button", name="Revoke it").click()
        await expect(row).to_contain_text("revoked")
        await expect(other.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_nobody_makes_a_key_that_may_do_more(guarded: Local, browser: Browser):
    admin = await new_key(guarded.store, "admin:project/acme", name="bo")
    async with new_tab(browser, guarded.url) as page:
        await sign_in(page, admin, next="keys")
        await make(page, name="mallory", grants="read:/")

        await expect(page.get_by_role("alert")).to_contain_text("may not")
        await expect(page.get_by_label("Name")).to_have_value("mallory")
        await expect(page.get_by_role("row").filter(has_text="root")).to_have_count(0)


async def test_who_administers_nothing_has_no_such_page(guarded: Local, browser: Browser):
    async with new_tab(browser, guarded.url) as page:
        await sign_in(page, await new_key(guarded.store, "read:/"), next="keys")

        await expect(page.get_by_role("heading", name="Forbidden")).to_be_visible()


async def test_the_first_key_is_still_shown_when_everybody_needs_one(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser
):
    url = store_url_at(tmp_path_factory.mktemp("first") / "log.db")
    async with (
        open_store(url, observer=Commits()) as store,
        running(store) as site,
        new_tab(browser, site.url) as page,
    ):
        await page.goto("/ui/keys")
        await page.get_by_label("Name").fill("ada")
        await page.get_by_label("Grants").fill("admin:/")
        await page.get_by_role("button", name="Make it").click()

        await expect(page.locator("#secret")).to_have_text(re.compile("^dlk_"))
        await expect(page.locator("#connection")).to_be_hidden()
        await page.get_by_role("link", name="Done").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_form_without_the_token_makes_nothing(site: Local):
    for path in ("/ui/keys", "/ui/keys/revoke"):
        answer = await site.ask("POST", path, data={"name": "x", "grants": "read:/"})

        assert answer.status == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(guarded: Local, browser: Browser, scheme: str):
    admin = await new_key(guarded.store, "admin:/", groups=("web",))
    async with new_tab(browser, guarded.url, color_scheme=scheme) as page:
        await sign_in(page, admin, next="keys")
        await expect(page.get_by_role("heading", name="Keys")).to_be_visible()

        assert await axe(page) == []
