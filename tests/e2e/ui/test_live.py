"""Pages while things happen: a real Terraform run, and a service that is killed and comes back."""

from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from support.backends import store_url_at
from support.browser import new_tab
from support.deployments import finish, start, tell
from support.servers import EVENTS, Local, spawned
from support.terraform import Workplace, applied, finished, require_terraform

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_real_terraform_run_is_seen_live(site: Local, page: Page, tmp_path: Path):
    require_terraform()
    with closing(Workplace(tmp_path, site.url)) as workplace:
        await workplace.initialise()
        await page.goto("/ui/?project=acme&status=running")

        async with applied(workplace, "1") as process:
            await page.goto("/ui/")
            card = page.locator("#running li").filter(has_text="acme").filter(has_text="apply")
            await card.get_by_role("link").click()
            gated = page.get_by_role("listitem").filter(has_text="terraform_data.gated").first
            await expect(gated).to_contain_text("create running")
            workplace.open_gate()
            await finished(process)

        await expect(gated).to_contain_text("create completed")
        await expect(page.locator(".heading .status").first).to_contain_text("completed")
        await expect(page.locator("#r-6")).to_be_visible()
        await expect(page.locator(".facts .added")).to_contain_text("+6")


async def test_a_killed_service_is_shown_and_caught_up_with(browser: Browser, tmp_path: Path):
    """Nothing is missed and nothing comes twice, whatever happened while the page was cut off."""
    store = store_url_at(tmp_path / "log.db")
    async with AsyncExitStack() as running:
        first = await running.enter_async_context(spawned(store))
        page = await running.enter_async_context(new_tab(browser, first.url))
        deployment = await start(first, stack="cut")
        path = f"{EVENTS}?scope=project/notes"
        notes = [{"source": "test", "type": "note", "message": f"note {n}"} for n in range(9)]
        await first.append(notes[:3], path=path)
        await page.goto("/ui/events?scope=project/notes")
        other = await page.context.new_page()
        await other.goto(f"/ui/deployments/{deployment}")
        for tab in (page, other):
            await expect(tab.locator("#connection")).to_have_text("Live")

        first.process.kill()
        await first.process.wait()
        for tab in (page, other):
            await expect(tab.locator("#connection")).to_have_text("Reconnecting…")
        second = await running.enter_async_context(spawned(store, port=first.port))
        await second.append(notes[3:6], path=path)
        await tell(second, deployment, {"type": "deployment.log", "message": "it goes on"})

        for tab in (page, other):
            await expect(tab.locator("#connection")).to_have_text("Live")
        await second.append(notes[6:], path=path)
        await finish(second, deployment)

        said = page.locator("#events .said")
        await expect(said).to_have_text([f"note {n}" for n in reversed(range(9))])
        await expect(other.locator("#events")).to_contain_text("it goes on")
        await expect(other.locator(".heading .status").first).to_contain_text("completed")
