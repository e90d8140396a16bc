"""A walk by keyboard alone, from what runs to why it failed, with the focus always in sight."""

import pytest
from playwright.async_api import Page, expect

from support.deployments import finish, start, tell
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: Steps in which anything on a page is reached.
_STEPS = 80

#: Whether the focused element is in sight, and shows that it has the focus.
_IN_SIGHT = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  const style = getComputedStyle(document.activeElement);
  return width > 0 && height > 0 && left >= 0 && top >= 0 && top < innerHeight
    && style.outlineStyle !== "none";
}"""


async def walk_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has just this text."""
    for _ in range(_STEPS):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert await page.evaluate(_IN_SIGHT), await focused.evaluate("e => e.outerHTML")
        if str(await focused.text_content()).strip() == name:
            return
    raise AssertionError(f"Tab does not come to {name!r}")


async def test_everything_is_reached_by_keyboard(site: Local, page: Page):
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
