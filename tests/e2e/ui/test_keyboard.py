"""A walk by keyboard alone over every page: all is reached, and the focus is always in sight."""

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from support.browser import new_tab
from support.deployments import finish, start, tell
from support.keyboard import walk_through, walk_to
from support.plans import new_plan, new_resource
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def walked(site: Local) -> dict[str, str]:
    """One of everything that has a page; their ids."""
    place = {"project": "walked", "stack": "walked", "environment": "walked"}
    plan = new_plan(new_resource(address="aws_lb.front", before={"a": 1}, after={"a": 2}))
    staged = await site.post(plan, "application/json", "/log/v1/changesets?project=walked")
    ids = {"changeset": staged.json["id"]}
    for name in ("earlier", "deployment"):
        ids[name] = await start(site, **place, version=name)
        about = {"resourcetype": "aws_lb", "resourcename": "front"}
        said = [{"type": f"resource.update.{each}", **about} for each in ("started", "failed")]
        error = {"type": "deployment.error", "message": "Error: no mouse"}
        [*_, ids["event"]] = await tell(site, ids[name], *said, error)
        await finish(site, ids[name], type="deployment.failed", message="Error: no mouse")
    stacks = await site.get("/log/v1/stacks?project=walked")
    ids["stack"] = stacks.json["stacks"][0]["id"]
    return ids


@pytest.mark.parametrize(
    "path",
    [
        "?project=walked",
        "events?scope=project/walked&type=resource.*",
        "delivery?project=walked",
        "subscriptions",
        "subscriptions/new?kind=webhook",
        "audit?project=walked",
        "keys",
        "deployments/{deployment}",
        "compare?deployment={deployment}&with={earlier}",
        "events/{event}",
        "changesets/{changeset}",
        "stacks/{stack}",
        "resource?resource=aws_lb.front&scope=project/walked",
        "nosuch",
    ],
)
async def test_all_of_a_page_is_reached_by_keyboard(
    site: Local, browser: Browser, walked: dict[str, str], path: str
):
    async with new_tab(browser, site.url) as page:
        await page.goto(f"/ui/{path.format_map(walked)}")
        await expect(page.locator("#connection")).to_have_text("Live")

        assert await walk_through(page) == []


async def test_the_focus_stays_where_it_is_when_the_page_changes(site: Local, page: Page):
    deployment = await start(site, project="focus")
    for number, path in enumerate(("?project=focus", f"deployments/{deployment}"), 1):
        await page.goto(f"/ui/{path}")
        await page.get_by_role("link", name="web", exact=True).last.focus()
        before = await page.locator(":focus").get_attribute("href")

        about = {"resourcetype": "server", "resourcename": path}
        await tell(site, deployment, {"type": "resource.create.completed", **about})
        await expect(page.locator(".counts").first).to_contain_text(f"+{number}")

        assert await page.locator(":focus").get_attribute("href") == before
    await finish(site, deployment)


async def test_from_what_failed_to_its_events_by_keyboard(site: Local, page: Page):
    deployment = await start(site, project="walk", stack="keyboard")
    error = {"type": "deployment.error", "message": "Error: no mouse"}
    [id] = await tell(site, deployment, error)
    await finish(site, deployment, type="deployment.failed", message="Error: no mouse")
    await page.goto("/ui/?project=walk")

    await walk_to(page, "Skip to the content")
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    # The filter offers it as well; the first link with this text is the deployment's.
    await page.get_by_role("combobox", name="Environment").focus()
    await walk_to(page, "keyboard")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{site.url}/ui/deployments/{deployment}")
    await walk_to(page, "All events")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"#e-{id}")).to_be_visible()
