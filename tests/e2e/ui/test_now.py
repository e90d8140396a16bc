"""*Now*: what runs, what failed, what is deployed, in a real browser."""

import re

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_browser_is_sent_to_the_pages_and_a_client_is_not(site: Local):
    browser = await site.get("/", headers={"accept": "text/html,*/*"}, allow_redirects=False)
    client = await site.get("/", headers={"accept": "*/*"})

    assert (browser.status, browser.headers["location"]) == (302, "/ui/")
    assert client.status != 302


async def test_a_deployment_appears_while_it_runs_and_moves_when_it_ends(site: Local, page: Page):
    await page.goto("/ui/")
    deployment = await start(site, project="live", stack="blog", environment="production")

    running = page.locator("#running").get_by_role("link", name="blog", exact=True)
    await expect(running).to_be_visible()
    await finish(site, deployment)
    await expect(running).to_have_count(0)
    await expect(page.locator(f"#recent-{deployment}")).to_contain_text("completed")
    await expect(page.locator(f"#current-{deployment}")).to_contain_text("production")


async def test_the_focus_goes_to_a_neighbour_when_a_card_goes(site: Local, page: Page):
    first, second = [await start(site, project="focus", stack=name) for name in ("one", "two")]
    await page.goto("/ui/?project=focus")
    await page.locator(f"#run-{second} a").focus()
    newer = page.locator(f"#run-{first} a")

    await finish(site, second)
    await expect(page.locator(f"#recent-{second}")).to_be_visible()

    await expect(newer).to_be_focused()
    await finish(site, first)
    await expect(page.locator(f"#recent-{first}")).to_be_visible()
    await expect(page.locator("main :focus")).to_be_visible()


async def test_the_five_figures_of_a_place_and_a_window_are_there_live(site: Local, page: Page):
    await page.goto("/ui/?project=figures&window=7d")
    figures = page.locator("#delivery li")
    await expect(figures).to_have_count(5)
    await expect(figures.nth(2)).to_have_text("Change fail rate unknown")

    place = {"project": "figures", "environment": "production"}
    await finish(site, await start(site, **place))
    await expect(page.locator("#delivery")).to_contain_text("1 deployment to production")
    await expect(figures.first).to_have_text("Deployment frequency 1.0 a week")
    await finish(site, await start(site, **place))
    await expect(figures.first).to_have_text("Deployment frequency 2.0 a week")

    await page.locator("select[name=environment]").select_option("production")
    await expect(page).to_have_url(
        f"{site.url}/ui/?window=7d&project=figures&environment=production"
    )
    await page.get_by_role("link", name="90d").click()
    await expect(page.locator(".ranges [aria-current]")).to_have_text("90d")
    await figures.first.get_by_role("link").press("Enter")
    await expect(page.locator("#deployment-frequency")).to_be_in_viewport()
    await expect(page.locator("select[name=window]")).to_have_value("90d")


async def test_what_is_shown_already_is_not_sent_again(site: Local):
    deployment = await start(site, project="known")
    await finish(site, deployment)
    shown = await site.get("/ui/?project=known")
    headers = {"if-none-match": shown.headers["etag"]}

    same = await site.get("/ui/?project=known", headers=headers)
    await start(site, project="known")
    other = await site.get("/ui/?project=known", headers=headers)

    assert (same.status, same.body) == (304, b"")
    assert other.status == 200
    version = re.search(rb'data-version="(\w+)"', other.body)
    assert version is not None
    assert version[1].decode() in other.headers["etag"]


async def test_a_failure_is_shown_with_its_message(site: Local, page: Page):
    deployment = await start(site, project="broken")
    await finish(site, deployment, type="deployment.failed", message="Error: quota exceeded")

    await page.goto("/ui/?project=broken")

    await expect(page.locator("#failed")).to_contain_text("Error: quota exceeded")


async def test_a_filter_is_in_the_address_and_back_goes_back(site: Local, page: Page):
    for stack in ("left", "right"):
        await finish(site, await start(site, project="choice", stack=stack))
    await page.goto("/ui/?project=choice")

    await page.get_by_label("Stack").select_option("left")

    await expect(page).to_have_url(f"{site.url}/ui/?project=choice&stack=left")
    recent = page.locator("#recent")
    await expect(recent.get_by_role("link", name="left")).to_be_visible()
    await expect(recent.get_by_role("link", name="right")).to_have_count(0)
    await page.go_back()
    await expect(recent.get_by_role("link", name="right")).to_be_visible()


async def test_without_scripts_everything_is_there(site: Local, browser: Browser):
    await finish(site, await start(site, project="plain", environment="staging"))

    async with new_tab(browser, site.url, java_script_enabled=False) as page:
        await page.goto("/ui/")
        await page.get_by_label("Project").select_option("plain")
        await page.get_by_role("button", name="Apply").click()

        await expect(page).to_have_url(f"{site.url}/ui/?project=plain&stack=&environment=")
        await expect(page.locator("#recent")).to_contain_text("UTC")
        await expect(page.locator("#current")).to_contain_text("staging")


async def test_a_filter_that_nothing_meets_says_so(page: Page):
    await page.goto("/ui/?stack=nosuch")

    await expect(page.get_by_role("alert")).to_contain_text("nosuch")


async def test_two_tabs_share_one_stream_and_the_second_takes_it_over(
    site: Local, browser: Browser
):
    async with new_tab(browser, site.url) as one:
        other = await one.context.new_page()
        # A tab of another test may just have been closed.
        await site.until(lambda: site.hub.readers == 0)
        for tab in (one, other):
            await tab.goto("/ui/")
            await expect(tab.locator("#connection")).to_have_text("Live")

        deployment = await start(site, project="tabs")

        for tab in (one, other):
            await expect(tab.locator(f"#run-{deployment}")).to_be_visible()
        assert site.hub.readers == 1

        await one.close()
        await finish(site, deployment)
        await expect(other.locator(f"#recent-{deployment}")).to_be_visible()


async def test_the_theme_is_chosen_and_kept(page: Page):
    await page.goto("/ui/")

    await page.get_by_role("button", name="Use the dark theme").click()
    await page.reload()

    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_times_are_shown_in_the_readers_zone(site: Local, browser: Browser):
    await finish(
        site,
        await start(site, project="zones", started="2026-01-31T12:00:00Z"),
        time="2026-01-31T12:05:00Z",
    )

    async with new_tab(browser, site.url, timezone_id="Asia/Tokyo", locale="en-GB") as page:
        await page.goto("/ui/?project=zones")
        when = page.locator("#recent time").first

        await expect(when).to_have_text("31 Jan 2026, 21:05:00")
        assert "2026-01-31 12:05:00 UTC" in str(await when.get_attribute("title"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/ui/", "/ui/nosuch"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str, path: str):
    await finish(site, await start(site, project="axe", environment="production"))
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        await page.goto(path)

        assert await axe(page) == []


async def test_times_are_relative_or_local_or_in_utc_as_one_chooses(site: Local, browser: Browser):
    await finish(site, await start(site, project="times", started="2026-01-31T12:00:00Z"),
                 time="2026-01-31T12:30:00Z")  # fmt: skip
    how = {"locale": "en-GB", "timezone_id": "Asia/Tokyo"}
    async with new_tab(browser, site.url, **how) as page:
        await page.goto("/ui/?project=times")
        when = page.locator("#recent time")
        await expect(when).to_have_attribute("title", re.compile("2026-01-31 12:30:00 UTC$"))

        await page.get_by_role("combobox", name="Times").select_option("UTC")
        await expect(when).to_have_text("31 Jan 2026, 12:30:00 UTC")
        await page.reload()
        await expect(when).to_have_text("31 Jan 2026, 12:30:00 UTC")

        await page.get_by_role("combobox", name="Times").select_option("local")
        await expect(when).to_have_text("31 Jan 2026, 21:30:00")
