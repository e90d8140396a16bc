"""*Compare*: two deployments side by side, live."""

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start, tell
from support.hostile import DETAILS, MARKUP, hostile_event
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


def server(name: str, phase: str, time: str, **fields: object) -> dict[str, object]:
    return {
        "type": f"resource.update.{phase}",
        "time": f"2026-01-{time}Z",
        "resourcetype": "server",
        "resourcename": name,
        "resourceaddress": f"server.{name}",
        **fields,
    }


async def pair(site: Local, project: str) -> tuple[str, str]:
    """Two deployments: the later one is slower, lacks a resource, and fails."""
    one = await start(site, project=project, started="2026-01-30T12:00:00Z", version="1.0")
    await tell(
        site,
        one,
        server("db", "started", "30T12:00:01"),
        server("db", "completed", "30T12:00:03"),
        server("old", "started", "30T12:00:01"),
        server("old", "completed", "30T12:00:02"),
    )
    await finish(site, one, time="2026-01-30T12:00:04Z")
    two = await start(site, project=project, started="2026-01-31T12:00:00Z", version="1.1")
    await tell(
        site,
        two,
        server("db", "started", "31T12:00:01"),
        server("db", "completed", "31T12:00:21"),
        {"type": "deployment.error", "message": "Error: quota"},
    )
    await finish(site, two, type="deployment.failed", time="2026-01-31T12:00:22Z")
    return one, two


async def test_a_deployment_is_compared_with_the_one_before(site: Local, page: Page):
    one, two = await pair(site, "compared")
    await page.goto(f"/ui/deployments/{two}")

    await page.get_by_role("link", name="Compare with the previous one").click()

    await expect(page).to_have_url(f"{site.url}/ui/compare?deployment={two}&with={one}")
    facts = page.get_by_role("region", name="What each is")
    await expect(facts.get_by_role("row", name="Version")).to_contain_text("1.01.1")
    await expect(facts.get_by_role("row", name="Outcome")).to_contain_text("differs")
    await expect(facts.get_by_role("row", name="Took")).to_contain_text("+18 s")
    await expect(page.get_by_role("region", name="Slower")).to_contain_text("server.db")
    missing = page.get_by_role("region", name="Only in the earlier one")
    await expect(missing).to_contain_text("server.old")
    await expect(page.locator("#diagnostics")).to_contain_text("Error: quota")


async def test_another_one_is_chosen_and_the_earlier_is_always_on_the_left(site: Local, page: Page):
    one, two = await pair(site, "chosen")
    await page.goto(f"/ui/compare?deployment={one}")

    await page.locator("#choices").get_by_role("link").click()

    await expect(page).to_have_url(f"{site.url}/ui/compare?deployment={one}&with={two}")
    version = page.get_by_role("row", name="Version")
    await expect(version.locator("td").nth(0)).to_have_text("1.0")


async def test_a_comparison_with_one_that_runs_is_live(site: Local, page: Page):
    _, two = await pair(site, "compared-live")
    third = await start(site, project="compared-live", started="2026-01-31T13:00:00Z")
    await page.goto(f"/ui/compare?deployment={third}&with={two}")
    await expect(page.get_by_role("region", name="Only in the earlier one")).to_be_visible()

    await tell(site, third, server("db", "started", "31T13:00:00"))
    await tell(site, third, server("new", "started", "31T13:00:00"))

    await expect(page.get_by_role("region", name="Only in the later one")).to_contain_text("new")
    await expect(page.get_by_role("region", name="Another outcome")).to_contain_text("running")
    await finish(site, third)


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("deployment=nosuch", 404), ("deployment={id}&with=nosuch", 404),
     ("deployment={id}&with={id}", 400), ("deployment={id}&nosuch=1", 400)],
)  # fmt: skip
async def test_a_wrong_comparison_says_what_is_wrong(site: Local, query: str, status: int):
    id = await start(site, project="alone")

    answer = await site.get(f"/ui/compare?{query.format(id=id)}")

    assert answer.status == status
    await finish(site, id)


async def test_markup_is_text(site: Local, page: Page):
    ids = []
    for number in (1, 2):
        ids.append(await start(site, **{**DETAILS, "stack": "<i>compared</i>"}))
        await tell(site, ids[-1], hostile_event(id=f"{MARKUP}{number}"))
        await tell(site, ids[-1], hostile_event(type="deployment.error", id=f"{MARKUP}e{number}"))
        await finish(site, ids[-1], type="deployment.failed", message=MARKUP)

    await page.goto(f"/ui/compare?deployment={ids[1]}&with={ids[0]}")

    await expect(page.locator("#resources")).to_contain_text(MARKUP)
    await expect(page.locator("main img, main script, main b, main i")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    one, two = await pair(site, f"axe-compare-{scheme}")
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        for path in (f"compare?deployment={two}&with={one}", f"compare?deployment={one}"):
            await page.goto(f"/ui/{path}")

            assert await axe(page) == []
