"""The pictures in the documentation show the pages as they are.

Beside each picture is what a screen reader finds in it. Where that differs from the page, the
picture is out of date: ``make pictures`` takes them again.
"""

import os
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from deploylog.events.times import SECOND
from deploylog.store import open_store
from deploylog.subscriptions.delivery.clock import Clock
from support.backends import store_url_at
from support.browser import new_tab
from support.factories import Commits
from support.paths import ROOT
from support.servers import Local, running
from support.showcase import NOW, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="session")

PICTURES = ROOT / "docs" / "pictures"

#: Whether to take the pictures again.
IS_TAKING = bool(os.environ.get("DEPLOYLOG_TAKE_PICTURES"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Local, str]]:
    """The showcase, and the deployment that runs in it."""
    url = store_url_at(tmp_path_factory.mktemp("shop") / "log.db")
    clock = Clock(now=lambda: int(NOW.timestamp()) * SECOND)
    async with (
        open_store(url, observer=Commits()) as store,
        running(store, clock=clock) as site,
    ):
        yield site, await open_shop(site)


@pytest.mark.parametrize(
    ("name", "path", "scheme"),
    [
        ("now", "", "light"),
        ("deployment", "deployments/{id}", "light"),
        ("deployment-dark", "deployments/{id}?axis=clock", "dark"),
        ("events", "events?project=shop&type=resource.*&since=6h", "light"),
    ],
)
async def test_a_picture_shows_the_page(
    shop: tuple[Local, str], browser: Browser, name: str, path: str, scheme: str
):
    site, id = shop
    look = {
        "color_scheme": scheme,
        "locale": "en-GB",
        "timezone_id": "UTC",
        "viewport": {"width": 1280, "height": 800},
        "device_scale_factor": 2,
        "reduced_motion": "reduce",
    }
    async with new_tab(browser, site.url, **look) as page:
        await page.clock.set_fixed_time(NOW)
        answer = await page.goto(f"/ui/{path.format(id=id)}")
        assert answer is not None
        assert answer.ok, "this would be a picture of an error"
        await page.locator("#connection[data-state=live]").wait_for()

        structure = await structure_of(page)

        if IS_TAKING:
            await page.screenshot(path=PICTURES / f"{name}.png", scale="css")
            (PICTURES / f"{name}.txt").write_text(structure)
        assert (PICTURES / f"{name}.txt").read_text() == structure, "run: make pictures"


async def structure_of(page: Page) -> str:
    """What is on the page, without what differs each time."""
    found = await page.locator("main").aria_snapshot()
    lines = [line for line in found.splitlines() if "/url:" not in line]
    return re.sub(r"[ \t]+$", "", "\n".join(lines), flags=re.MULTILINE) + "\n"
