"""*Audit*: who changed what, where and when."""

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.hostile import MARKUP
from support.servers import EVENTS, Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tell(site: Local, type: str, actor: str, *, scope: str, **fields: object) -> None:
    event = {"source": "escape", "type": type, "actor": actor, **fields}
    await site.append([event], path=f"{EVENTS}?scope={scope}")


async def test_who_did_what_is_found_by_project_person_and_time(site: Local, page: Page):
    for type, actor, scope in (
        ("acl.inventory.team.updated", "grace", "inventory/audited"),
        ("state.environment.created", "ada", "state/audited/prod"),
        ("state.environment.created", "ada", "state/elsewhere/prod"),
        ("note.made", "ada", "project/audited"),
    ):
        await tell(site, type, actor, scope=scope, message=f"{actor} did it in {scope}")
    await page.goto("/ui/audit?project=audited")
    rows = page.locator(".audit tbody tr")
    await expect(rows).to_have_count(2)

    await page.get_by_label("Who").fill("grace")
    await page.get_by_role("button", name="Apply").click()

    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("grace did it in inventory/audited")
    await expect(page.locator("#count")).to_have_text("1")
    await tell(site, "team.created", "grace", scope="project/audited", message="a new team")
    await expect(rows).to_have_count(2)
    await page.goto("/ui/audit?project=audited&until=2001-01-01")
    await expect(page.locator("main")).to_contain_text("Nothing was changed")


async def test_a_time_that_is_none_says_so(page: Page):
    await page.goto("/ui/audit?since=yesterday-ish")

    await expect(page.get_by_role("alert")).to_contain_text("since")


async def test_markup_in_what_was_done_is_text(site: Local, page: Page):
    scope = "project/hostile-audit"
    await tell(site, "acl.x.updated", MARKUP, scope=scope, message=MARKUP, subject=MARKUP)

    await page.goto("/ui/audit?project=hostile-audit")

    await expect(page.locator(".audit tbody tr")).to_contain_text(MARKUP[:20])
    await expect(page.locator("main img, main script")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    await tell(site, "team.created", "ada", scope="project/axe", message="a new team")
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        await page.goto("/ui/audit")

        assert await axe(page) == []
