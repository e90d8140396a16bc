"""*Change set*: the diff of each field, what became of it, and nothing that runs."""

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start
from support.hostile import MARKUP
from support.plans import Json, new_plan, new_resource
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/log/v1/changesets?project=plans&stack=web"


async def stage(site: Local, plan: Json, path: str = PATH) -> str:
    answer = await site.post(plan, "application/json", path)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def some_plan(**after: object) -> Json:
    return new_plan(
        new_resource("create", address="a.new", after={"name": "x", **after}),
        new_resource(
            "delete",
            "create",
            address="a.db",
            before={"version": "15", "password": "hunter2"},
            after={"version": "17", "password": "hunter3"},
            after_sensitive={"password": True},
            replace_paths=[["version"]],
        ),
    )


async def test_a_diff_is_grouped_and_names_what_forces_a_replacement(site: Local, page: Page):
    id = await stage(site, some_plan())

    await page.goto(f"/ui/changesets/{id}")

    await expect(page.locator("h3")).to_have_text(["Replace", "Create"])
    version = page.get_by_role("row").filter(has_text="version")
    await expect(version).to_contain_text("forces replacement")
    await expect(version).to_contain_text('"15"')
    await expect(page.get_by_role("row").filter(has_text="password")).to_contain_text("sensitive")
    assert "hunter" not in await page.content()
    await page.get_by_role("link", name="Create").click()
    await expect(page.locator("h3")).to_have_text(["Create"])


async def test_the_deployment_that_applies_it_appears(site: Local, page: Page):
    id = await stage(site, some_plan(number=1))
    await page.goto(f"/ui/changesets/{id}")
    await expect(page.locator("#applied")).to_contain_text("No recorded deployment")
    await expect(page.locator(".status").first).to_contain_text("staged")

    deployment = await start(site, project="plans", plan={"id": id})

    await page.locator("#applied").get_by_role("link", name="web").click()
    await expect(page).to_have_url(f"{site.url}/ui/deployments/{deployment}")
    await page.locator(".facts").get_by_role("link", name=id[:8]).click()
    await expect(page).to_have_url(f"{site.url}/ui/changesets/{id}")
    await finish(site, deployment)


async def test_markup_in_a_plan_is_text(site: Local, page: Page):
    plan = new_plan(
        new_resource(
            "update",
            address=f"a.{MARKUP}",
            action_reason=MARKUP,
            previous_address=MARKUP,
            before={MARKUP: MARKUP, "text": f"{MARKUP}\n1"},
            after={MARKUP: f"{MARKUP}2", "text": f"{MARKUP}\n2", "new": MARKUP},
        ),
        output_changes={"<b>out</b>": {"actions": ["create"], "after": MARKUP}},
    )
    id = await stage(site, plan, f"{PATH}&location=javascript:alert(1)")

    await page.goto(f"/ui/changesets/{id}")

    await expect(page.locator("summary code")).to_contain_text(MARKUP)
    await expect(page.locator("main img, main script, main b")).to_have_count(0)
    await expect(page.locator("a[href^='javascript' i]")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    id = await stage(site, some_plan(number=2))
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        await page.goto(f"/ui/changesets/{id}")

        assert await axe(page) == []
