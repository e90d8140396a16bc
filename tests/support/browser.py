"""A real browser, and what a page must never do in it."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from support.paths import ROOT

#: axe-core 4.14.1 (MPL-2.0), from the npm registry; the licence is beside it.
AXE = ROOT / "tests" / "vendor" / "axe.min.js"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

#: Impacts that no page may have.
_IMPACTS = ("serious", "critical")


#: Chromium by its names. Without its windows it opens a tab in a quarter of the time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """The path of the browser. A missing one fails the tests, and does not skip them."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    pytest.fail(
        "the tests of the pages need Chromium; on Debian: apt-get install chromium-headless-shell"
    )


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Chromium has no sandbox for root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def new_tab(browser: Browser, base_url: str, **options: Any) -> AsyncIterator[Page]:
    """A tab of a new profile, with what it complains of in ``problems_of``."""
    context = await browser.new_context(base_url=base_url, **options)
    context.set_default_timeout(10_000)
    problems: list[str] = []
    _PROBLEMS[id(context)] = problems

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type in ("error", "warning") else None,
        )

    context.on("page", watch)
    try:
        yield await context.new_page()
    finally:
        await context.close()
        del _PROBLEMS[id(context)]


_PROBLEMS: dict[int, list[str]] = {}


def problems_of(page: Page) -> list[str]:
    """Errors and warnings, such as a violated content security policy."""
    return _PROBLEMS[id(page.context)]


async def axe(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    # Through the debugger, as the page's own policy lets no foreign script in.
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
        for each in found["violations"]
        if each["impact"] in _IMPACTS
    ]
