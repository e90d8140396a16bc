"""Questions that people have, each answered from *Now* by at most three clicks.

Who was notified is in ``test_subscriptions.py``, as that needs a service that calls somebody.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from support.browser import new_tab
from support.deployments import finish, start, tell
from support.plans import new_plan, new_resource
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROJECT = "questions"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def failed(site: Local) -> str:
    """A deployment that failed, after one that did not; it applies a plan, and was approved."""
    place = {"project": PROJECT, "stack": "shop", "environment": "prod-q", "production": True}
    first = await start(site, **place, version="1.0")  # type: ignore[arg-type]
    await finish(site, first)
    plan = new_plan(new_resource(address="aws_lb.front", before={"a": 1}, after={"a": 2}))
    staged = await site.post(plan, "application/json", f"/log/v1/changesets?project={PROJECT}")
    second = await start(
        site,
        **place,  # type: ignore[arg-type]
        actor="grace",
        approvers=["ada"],
        commits=[{"sha": "4be3708812ab"}],
        plan={"id": staged.json["id"]},
    )
    about = {"resourcetype": "aws_lb", "resourcename": "front", "resourceaddress": "aws_lb.front"}
    await tell(site, second, {"type": "resource.update.started", **about})
    await finish(site, second, type="deployment.failed", message="Error: quota exceeded")
    return second


class Walk:
    """Starts at *Now*, and counts the clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    async def click(self, link: Locator) -> None:
        self.clicks += 1
        await link.click()

    async def sees(self, where: str, text: str) -> None:
        await expect(self.page.locator(where)).to_contain_text(text)
        assert self.clicks <= 3


@pytest_asyncio.fixture(loop_scope="session")
async def walk(site: Local, browser: Browser, failed: str) -> AsyncIterator[Walk]:
    async with new_tab(browser, site.url) as page:
        await page.goto(f"/ui/?project={PROJECT}")
        yield Walk(page)


def deployment(walk: Walk) -> Locator:
    return walk.page.locator("#failed").get_by_role("link", name="shop")


async def test_what_runs_in_production_now(walk: Walk):
    await walk.sees("#current", "prod-q")
    await walk.sees("#current", "1.0")


async def test_who_deployed_last_and_which_commit(walk: Walk):
    await walk.sees("#recent tbody tr >> nth=0", "grace")
    await walk.sees("#recent tbody tr >> nth=0", "4be3708")


async def test_why_did_it_fail(walk: Walk):
    await walk.sees("#failed", "Error: quota exceeded")


async def test_what_changed(walk: Walk):
    await walk.click(deployment(walk))
    await walk.click(walk.page.locator(".facts dt:text-is('Plan') + dd a"))
    await walk.sees("#changes", "aws_lb.front")


async def test_is_it_slower(walk: Walk):
    await walk.click(walk.page.locator("#failed").get_by_role("link", name="History"))
    await walk.sees("main", "How long they took")


async def test_what_happened_to_this_resource(walk: Walk):
    await walk.click(deployment(walk))
    await walk.click(walk.page.locator("#r-1").get_by_role("link"))
    await walk.sees(".visit >> nth=0", "resource.update.started")


async def test_how_often_do_we_deploy(walk: Walk):
    await walk.sees("#delivery", "Deployment frequency")


async def test_was_it_approved(walk: Walk):
    await walk.click(deployment(walk))
    await walk.sees(".facts", "ada")
