"""*Deployment*: the waterfall live, and everything that an event can carry."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.deployments import finish, start, tell
from support.hostile import DETAILS, MARKUP, hostile_event
from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


def phase(action: str, phase: str, name: str, **fields: object) -> dict[str, object]:
    """An event about a resource."""
    return {
        "type": f"resource.{action}.{phase}",
        "resourcetype": "terraform_data",
        "resourcename": name,
        "resourceaddress": f"terraform_data.{name}",
        "message": f"{name}: {action} {phase}",
        **fields,
    }


async def test_a_deployment_is_seen_from_its_start_to_its_end(site: Local, page: Page):
    deployment = await start(site, version="1.2.3", approvers=["grace"], actor="ada")
    await page.goto(f"/ui/deployments/{deployment}")
    await expect(page.get_by_text("Nothing has started yet.")).to_be_visible()

    await tell(site, deployment, phase("create", "started", "web"))
    row = page.get_by_role("listitem").filter(has_text="terraform_data.web").first
    await expect(row).to_contain_text("create running")
    await tell(site, deployment, phase("create", "completed", "web"))
    await expect(row).to_contain_text("create completed")
    await finish(site, deployment)

    await expect(page.locator(".heading .status").first).to_contain_text("completed")
    await expect(page.locator(".facts")).to_contain_text("grace")
    await expect(page).to_have_title("✓ web completed · Deploylog")


async def test_an_unfinished_resource_grows_without_any_event(site: Local, page: Page):
    deployment = await start(site)
    await tell(site, deployment, phase("create", "started", "slow"))
    await page.goto(f"/ui/deployments/{deployment}")
    took = page.locator("#r-1 .took")
    before = await took.text_content()

    await expect(took).not_to_have_text(str(before), timeout=8_000)
    await finish(site, deployment, type="deployment.failed")
    await expect(page.locator("#r-1")).to_contain_text("create unfinished")


async def test_an_error_is_shown_with_its_source_line(site: Local, page: Page):
    deployment = await start(site)
    data = {"severity": "error", "range": {"filename": "main.tf", "start": {"line": 42}}}
    await tell(
        site,
        deployment,
        phase("create", "started", "web"),
        phase("create", "failed", "web"),
        {"type": "deployment.error", "message": "Error: quota\n\nask for more", "data": data},
    )
    await finish(site, deployment, type="deployment.failed", message="Error: quota")

    await page.goto(f"/ui/deployments/{deployment}")

    await expect(page.locator(".diagnostics")).to_contain_text("main.tf:42")
    await expect(page.locator(".diagnostics")).to_contain_text("ask for more")
    await expect(page.locator("#r-1")).to_contain_text("✕")


async def test_the_waterfall_zooms_and_a_new_rendering_keeps_it(site: Local, page: Page):
    deployment = await start(site)
    for name in ("one", "two"):
        await tell(site, deployment, phase("create", "started", name))
        await tell(site, deployment, phase("create", "completed", name))
    await page.goto(f"/ui/deployments/{deployment}")
    track = page.locator(".chart .track")
    box = await track.bounding_box()
    assert box is not None

    await page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=5)
    await page.mouse.up()

    drawing = page.locator(".chart svg.stretch").first
    await expect(drawing).to_have_attribute("style", "width: 200%; transform: translateX(-25%);")
    await tell(site, deployment, phase("create", "started", "three"))
    await expect(page.locator("#r-3")).to_be_visible()
    await expect(drawing).to_have_attribute("style", "width: 200%; transform: translateX(-25%);")
    await page.reload()
    await expect(drawing).to_have_attribute("style", "width: 200%; transform: translateX(-25%);")
    await page.get_by_role("button", name="Show all").click()
    await expect(drawing).to_have_attribute("style", "width: 100%; transform: translateX(0%);")
    await track.focus()
    await page.keyboard.press("+")
    await expect(drawing).to_have_attribute("style", "width: 200%; transform: translateX(-25%);")
    await finish(site, deployment)


async def test_order_and_axis_are_in_the_address_and_back_goes_back(site: Local, page: Page):
    deployment = await start(site, started="2026-01-31T12:00:00Z")
    await tell(
        site,
        deployment,
        phase("create", "started", "quick", time="2026-01-31T12:00:01Z"),
        phase("create", "completed", "quick", time="2026-01-31T12:00:02Z"),
        phase("create", "started", "slow", time="2026-01-31T12:00:02Z"),
        phase("create", "completed", "slow", time="2026-01-31T12:00:09Z"),
    )
    await finish(site, deployment, time="2026-01-31T12:00:09Z")
    await page.goto(f"/ui/deployments/{deployment}")
    await expect(page.locator("#r-1")).to_contain_text("quick")

    await page.get_by_role("link", name="Slowest first").click()

    await expect(page.locator("#r-1")).to_contain_text("slow")
    await expect(page).to_have_url(f"{site.url}/ui/deployments/{deployment}?order=slowest")
    await page.get_by_role("link", name="Time of day").click()
    await expect(page.locator(".axis")).to_contain_text(":00:0")
    await page.go_back()
    await page.go_back()
    await expect(page.locator("#r-1")).to_contain_text("quick")


async def test_slower_than_last_time_is_said(site: Local, page: Page):
    for day, seconds in ((1, 5), (2, 20)):
        began = datetime(2026, 3, day, tzinfo=UTC)
        ended = (began + timedelta(seconds=seconds)).isoformat()
        deployment = await start(site, project="pace", started=began.isoformat())
        await tell(
            site,
            deployment,
            phase("create", "started", "db", time=began.isoformat()),
            phase("create", "completed", "db", time=ended),
        )
        await finish(site, deployment, time=ended)

    await page.goto(f"/ui/deployments/{deployment}")

    await expect(page.locator("#resources")).to_contain_text("1 slower than last time")
    await expect(page.locator("#r-1")).to_contain_text("5.0 s last time")


async def test_a_deployment_that_is_not_there_is_an_error_page(site: Local, browser: Browser):
    async with new_tab(browser, site.url) as page:
        answer = await page.goto("/ui/deployments/nosuch")

        assert answer is not None
        assert answer.status == 404
        await expect(page.get_by_role("heading", name="Deployment not found")).to_be_visible()


async def test_markup_in_every_field_is_text(site: Local, page: Page):
    ran: list[str] = []

    async def record(dialog):
        ran.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", record)
    deployment = await start(site, **DETAILS)
    await page.goto(f"/ui/deployments/{deployment}")
    [id] = await tell(site, deployment, hostile_event())
    await tell(site, deployment, hostile_event(type="deployment.error", id=f"{MARKUP}2"))
    await expect(page.locator("#r-1")).to_contain_text(MARKUP)
    await finish(site, deployment, type="deployment.failed", message=MARKUP)

    for path in (f"deployments/{deployment}", f"events/{id}", "", "?project=%3Ci%3E"):
        await page.goto(f"/ui/{path}")
        await expect(page.locator("main img, main script, main svg[onload], main b")).to_have_count(
            0
        )
        await expect(page.locator("a[href^='javascript' i]")).to_have_count(0)
    assert ran == []


async def test_an_event_has_a_page_with_its_document(site: Local, page: Page):
    deployment = await start(site)
    [id] = await tell(site, deployment, phase("create", "started", "web", data={"hook": "x"}))
    await page.goto(f"/ui/deployments/{deployment}")

    await page.locator(f"#e-{id} a.when").click()

    await expect(page).to_have_url(f"{site.url}/ui/events/{id}")
    document = await page.get_by_role("region", name="As the API gives it").text_content()
    assert json.loads(str(document))["data"] == {"hook": "x"}
    await page.go_back()
    await expect(page.locator(f"#e-{id}")).to_be_visible()


async def test_two_deployments_at_once_do_not_mix(site: Local, page: Page):
    one, other = await start(site, stack="one"), await start(site, stack="other")
    await page.goto(f"/ui/deployments/{one}")

    await asyncio.gather(
        tell(site, one, phase("create", "started", "mine")),
        tell(site, other, phase("create", "started", "theirs")),
    )

    await expect(page.locator("#r-1")).to_contain_text("mine")
    await expect(page.locator("main")).not_to_contain_text("theirs")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    deployment = await start(site, url="https://ci.example/1", labels={"team": "web"})
    [id] = await tell(site, deployment, phase("create", "started", "web"))
    await tell(site, deployment, phase("create", "failed", "web"), {"type": "deployment.error"})
    await finish(site, deployment, type="deployment.failed", message="broken")
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        for path in (f"deployments/{deployment}", f"events/{id}"):
            await page.goto(f"/ui/{path}")

            assert await axe(page) == []
