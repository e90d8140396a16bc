"""A walk over a page by keyboard alone, with the focus always in sight."""

from playwright.async_api import Page

#: Steps in which anything on a page is reached.
_STEPS = 80

#: Whether the focused element is in sight, and shows that it has the focus.
_IN_SIGHT = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  const style = getComputedStyle(document.activeElement);
  return width > 0 && height > 0 && left >= 0 && top >= 0 && top < innerHeight
    && style.outlineStyle !== "none";
}"""

#: Notes the focused element, and says whether there is one.
_NOTE = """() => {
  if (document.activeElement === document.body) return false;
  (window.reached ??= new WeakSet()).add(document.activeElement);
  return true;
}"""

#: What can be used and was not reached.
_MISSED = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((each) => each.checkVisibility({ contentVisibilityAuto: false }) && each.tabIndex >= 0)
  .filter((each) => !each.disabled && each.type !== "hidden" && !reached.has(each))
  .map((each) => each.outerHTML.slice(0, 200))"""

_HTML = "each => each.outerHTML.slice(0, 200)"


async def walk_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has just this text."""
    for _ in range(_STEPS):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert await page.evaluate(_IN_SIGHT), await focused.evaluate("e => e.outerHTML")
        if str(await focused.text_content()).strip() == name:
            return
    raise AssertionError(f"Tab does not come to {name!r}")


async def walk_through(page: Page) -> list[str]:
    """Press Tab from the start of the page to its end; what was not reached."""
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("Tab")
    while await page.evaluate(_NOTE):
        assert await page.evaluate(_IN_SIGHT), await page.locator(":focus").evaluate(_HTML)
        await page.keyboard.press("Tab")
    missed: list[str] = await page.evaluate(_MISSED)
    return missed
