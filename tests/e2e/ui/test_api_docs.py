"""The viewer of the OpenAPI document, in a real browser."""

import pytest
from playwright.async_api import Page, expect

from support.servers import Local

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_request_can_be_tried(site: Local, page: Page):
    await site.open("tried", project="docs")
    await page.goto("/docs")

    operation = page.locator("#operations-catalogue-listProjects")
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Execute").click()

    answer = operation.locator(".live-responses-table")
    await expect(answer.locator(".response-col_status").last).to_contain_text("200")
    await expect(answer).to_contain_text('"docs"')


async def test_types_required_marks_and_examples_are_shown(page: Page):
    await page.goto("/docs#/deployments/openDeployment")

    operation = page.locator("#operations-deployments-openDeployment")
    await expect(operation).to_contain_text("9f2c1e7a")
    await operation.get_by_role("tab", name="Schema").first.click()
    required = operation.locator(".json-schema-2020-12-property--required")
    await expect(required.filter(has_text="project")).to_be_visible()
    await expect(required.filter(has_text="stack")).to_be_visible()
