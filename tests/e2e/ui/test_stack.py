"""*Stack* and *Resource*: what happened to them, from their first deployment on."""

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start, tell
from support.hostile import DETAILS, MARKUP, hostile_event
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


def web(phase: str, *, name: str = "web", **fields: object) -> dict[str, object]:
    return {
        "type": f"resource.update.{phase}",
        "resourcetype": "aws_instance",
        "resourcename": name,
        "resourceaddress": f"aws_instance.{name}",
        "resourceidkey": "id",
        "resourceidvalue": "i-0f1e",
        **fields,
    }


async def test_a_stack_shows_its_history_and_grows(site: Local, page: Page):
    first = await start(site, project="past", stack="shop", environment="production")
    await tell(site, first, web("started"), web("completed"))
    await finish(site, first)
    await page.goto("/ui/?project=past")

    await page.locator("#recent").get_by_role("link", name="History").click()

    await expect(page.get_by_role("heading", name="shop")).to_be_visible()
    await expect(page.locator(f"#history-{first}")).to_contain_text("completed")
    await expect(page.locator(f"#current-{first}")).to_contain_text("production")
    second = await start(site, project="past", stack="shop", version="2.0")
    await expect(page.locator(f"#history-{second}")).to_contain_text("running")
    await finish(site, second, type="deployment.failed")


async def test_everything_that_happened_to_a_resource_is_on_one_page(site: Local, page: Page):
    deployments = []
    for phase in ("completed", "failed"):
        deployments.append(await start(site, project="life", stack="shop"))
        ended = web(phase, name="life", message=f"it {phase}")
        await tell(site, deployments[-1], web("started", name="life"), ended)
        await finish(site, deployments[-1])
    other = await start(site, project="life", stack="other")
    await tell(site, other, web("started", name="life", resourceidvalue="i-other"))
    await finish(site, other)
    await page.goto(f"/ui/deployments/{deployments[0]}")

    await page.locator("#r-1").get_by_role("link").click()

    visits = page.locator(".visit")
    await expect(visits).to_have_count(2)
    await expect(visits.nth(0)).to_contain_text("it failed")
    await expect(visits.nth(1)).to_contain_text("it completed")
    await page.get_by_role("link", name="In all stacks").click()
    await expect(visits).to_have_count(3)
    await page.get_by_role("link", name="i-other").click()
    await expect(visits).to_have_count(1)


async def test_a_resource_without_an_address_is_found_by_its_name(site: Local, page: Page):
    deployment = await start(site, project="nameless")
    bare = {"resourcetype": "queue", "resourcename": "jobs", "resourcekey": "eu"}
    await tell(site, deployment, {"type": "resource.create.started", **bare})
    await finish(site, deployment)
    await page.goto(f"/ui/deployments/{deployment}")

    await page.locator("#r-1").get_by_role("link", name="queue.jobs[eu]").click()

    await expect(page.locator(".visit .event")).to_have_count(1)


async def test_a_resource_that_nobody_knows_says_so(site: Local, page: Page):
    await page.goto("/ui/resource?resource=nosuch")

    await expect(page.locator("main")).to_contain_text("No event that you may see")


async def test_markup_in_every_field_is_text(site: Local, page: Page):
    deployment = await start(site, **DETAILS)
    await tell(site, deployment, hostile_event())
    await finish(site, deployment)
    await page.goto(f"/ui/deployments/{deployment}")
    stack = page.get_by_role("navigation", name="Where this is").get_by_role("link").last

    for link in (page.locator("#r-1").get_by_role("link"), stack):
        await link.click()
        await expect(page.locator("main")).to_contain_text(MARKUP[:20])
        await expect(page.locator("main img, main script, main b")).to_have_count(0)
        await page.go_back()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    for end in ("deployment.completed", "deployment.failed"):
        deployment = await start(site, project="axe", stack="axe", environment="production")
        await tell(site, deployment, web("started"))
        await finish(site, deployment, type=end)
    stack = (await site.get(f"/log/v1/deployments/{deployment}")).json["stack_id"]
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        for path in (f"stacks/{stack}", "resource?resource=aws_instance.web"):
            await page.goto(f"/ui/{path}")

            assert await axe(page) == []
