"""*Delivery*: DORA's metrics, each with the deployments that make it what it is."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def deploy(
    site: Local, hours_ago: int, end: str = "deployment.completed", **fields: object
) -> str:
    began = datetime.now(UTC) - timedelta(hours=hours_ago)
    deployment = await start(
        site,
        project="delivered",
        stack="api",
        environment="production",
        started=began.isoformat(),
        commits=[{"sha": "0123456789", "committed": (began - timedelta(hours=2)).isoformat()}],
        **fields,
    )
    ended = began + timedelta(minutes=1)
    await finish(site, deployment, type=end, time=ended.isoformat())
    return deployment


async def test_each_metric_leads_to_its_deployments(site: Local, page: Page):
    await deploy(site, 12)
    broken = await deploy(site, 9)
    await deploy(site, 6, "deployment.failed")
    await deploy(site, 3, restores=broken)
    await page.goto("/ui/?project=delivered")

    await page.get_by_role("link", name="Change fail rate").click()

    await expect(page.get_by_label("Project")).to_have_value("delivered")
    rate = page.get_by_role("listitem").filter(has_text="Change fail rate")
    await expect(rate).to_contain_text("%")
    lead = page.get_by_role("listitem").filter(has_text="Change lead time")
    await expect(lead).to_contain_text("2 h 01 min")
    await rate.get_by_role("link").click()
    await expect(page).to_have_url(f"{site.url}/ui/deployments/{broken}")


async def test_a_window_is_in_the_address(site: Local, page: Page):
    await page.goto("/ui/delivery")

    await page.locator("select[name=window]").select_option("7d")

    await expect(page).to_have_url(f"{site.url}/ui/delivery?window=7d")


async def test_a_place_that_is_not_there_says_so(page: Page):
    await page.goto("/ui/delivery?project=nosuch&stack=none")

    await expect(page.get_by_role("alert")).to_contain_text("none")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    await deploy(site, 1)
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        await page.goto("/ui/delivery?project=delivered")

        assert await axe(page) == []
