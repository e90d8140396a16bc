"""*Subscriptions*: make one, see each attempt, redeliver, test, pause, delete."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from deploylog.store import open_store
from support.backends import store_url_at
from support.browser import axe, new_tab, problems_of
from support.deployments import finish, start
from support.factories import Commits
from support.hostile import MARKUP
from support.keyboard import walk_through
from support.receivers import receiving, status
from support.servers import EVENTS, Local, running
from support.subscribers import LOOPBACK, caught_up, encryption_key_file, subscribe
from support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def caller(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    """A service that may call this machine."""
    folder = tmp_path_factory.mktemp("caller")
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(folder),
        "delivery_allowed_networks": LOOPBACK,
    }
    url = store_url_at(folder / "log.db")
    async with open_store(url, observer=Commits()) as store, running(store, **options) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, caller: Local) -> AsyncIterator[Page]:
    async with new_tab(browser, caller.url) as page:
        yield page


async def tell(caller: Local, project: str, **fields: object) -> str:
    event = {"source": "test", "type": "note.made", **fields}
    [id] = await caller.append([event], path=f"{EVENTS}?scope=project/{project}")
    return id


async def test_one_is_made_by_a_form_and_its_secret_is_shown_once(caller: Local, page: Page):
    async with receiving() as receiver:
        await page.goto("/ui/")
        await page.get_by_role("link", name="Subscriptions").click()
        await page.get_by_role("link", name="New subscription").click()
        await page.get_by_role("link", name="Signed webhooks").click()
        await page.get_by_label("Name").fill("ops")
        await page.get_by_label("URL").fill(f"{receiver.url}/hidden-path")
        await page.get_by_label("Which events").fill("scope:project/made -actor:bot")
        await page.get_by_role("button", name="Make it").click()

        await expect(page.locator("#secret")).to_have_text(re.compile("^whsec_"))
        await page.get_by_role("link", name="Go to the subscription").click()
        await expect(page.get_by_role("heading", name="ops")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("scope:project/made -actor:bot")
        await tell(caller, "made", actor="ada")
        attempt = page.locator("#attempts summary")
        await expect(attempt).to_contain_text("delivered")
        await expect(attempt).to_contain_text("note.made")

        content = await page.content()
        assert "whsec_" not in content
        assert "hidden-path" not in content
        await page.get_by_role("link", name="Now", exact=True).first.click()
        await page.get_by_role("link", name="Subscriptions").click()
        await page.get_by_role("link", name="ops").click()
        await expect(page.locator("#attempts summary")).to_contain_text("note.made")
        assert problems_of(page) == []


async def test_a_form_that_is_wrong_says_where_and_keeps_what_was_typed(page: Page):
    await page.goto("/ui/subscriptions/new?kind=grafana")
    await page.get_by_label("Name").fill("board")
    await page.get_by_label("URL").fill("http://10.0.0.1/")
    await page.get_by_label("Token").fill("glsa_secret")

    await page.get_by_role("button", name="Make it").click()

    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Name")).to_have_value("board")
    await expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
    assert "glsa_secret" not in await page.content()


async def test_a_failed_event_is_redelivered(caller: Local, page: Page):
    async with receiving(status(410, body=MARKUP.encode())) as receiver:
        made = await subscribe(
            caller, receiver.url, name="<img src=x onerror=alert(1)>", scopes=["project/again"]
        )
        await tell(caller, "again")
        await page.goto(f"/ui/subscriptions/{made['id']}")
        first = page.locator("#attempts details").first
        await expect(first).to_contain_text("410")

        await first.locator("summary").click()
        await expect(first).to_contain_text(MARKUP[:20])
        await expect(page.locator("main img, main script")).to_have_count(0)
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await page.locator("#attempts summary").first.click()
        await page.locator("#attempts").get_by_role("button", name="Redeliver").first.click()

        await expect(page.locator("#attempts .status").first).to_contain_text("delivered")
        await until(lambda: len(receiver.requests) >= 2)


async def test_a_test_shows_the_answer_and_a_pause_stops(caller: Local, page: Page):
    async with receiving(status(500, body=b"<b>broken</b>")) as receiver:
        made = await subscribe(caller, receiver.url, name="tested", scopes=["project/tested"])
        await page.goto(f"/ui/subscriptions/{made['id']}")

        await page.get_by_role("button", name="Send a test").click()

        await expect(page.locator("#test")).to_contain_text("not delivered, status 500")
        await expect(page.locator("#test")).to_contain_text("<b>broken</b>")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("h1 + .status")).to_contain_text("paused")
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete it").click()
        await expect(page).to_have_url(f"{caller.url}/ui/subscriptions")
        await expect(page.locator(f"#s-{made['id']}")).to_have_count(0)


async def test_a_deployment_says_who_was_notified(caller: Local, page: Page):
    async with receiving() as receiver, receiving(*[status(500)] * 9) as broken:
        scopes = ["project/notified"]
        heard = await subscribe(
            caller, receiver.url, name="the team", scopes=scopes, order="per_deployment"
        )
        lost = await subscribe(
            caller, broken.url, name="nobody", scopes=scopes, order="per_deployment"
        )
        deployment = await start(caller, project="notified")
        await page.goto(f"/ui/deployments/{deployment}")
        await finish(caller, deployment)

        rows = page.locator("#deliveries tbody tr")
        team = rows.filter(has_text="the team")
        await expect(team).to_contain_text("2 of 2 events")
        await expect(team).to_contain_text("delivered")
        await expect(rows.filter(has_text="nobody")).to_contain_text("500")
        await team.get_by_role("link", name="the team").click()
        await expect(page).to_have_url(f"{caller.url}/ui/subscriptions/{heard['id']}")
        await page.go_back()
        await rows.filter(has_text="nobody").get_by_role("link").click()
        await expect(page).to_have_url(f"{caller.url}/ui/subscriptions/{lost['id']}")


async def test_a_form_without_the_token_does_nothing(caller: Local):
    async with receiving() as receiver:
        made = await subscribe(caller, receiver.url, name="forged", scopes=["project/forged"])
        await caught_up(caller, made["id"])

        answer = await caller.ask("POST", f"/ui/subscriptions/{made['id']}", data={"do": "delete"})

        assert answer.status == 403
        assert (await caller.get(f"/log/v1/subscriptions/{made['id']}")).status == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(caller: Local, browser: Browser, scheme: str):
    async with receiving(status(500)) as receiver:
        made = await subscribe(caller, receiver.url, name=f"axe {scheme}", scopes=["project/axe"])
        await tell(caller, "axe")
        await until(lambda: receiver.requests)
        async with new_tab(browser, caller.url, color_scheme=scheme) as page:
            for path in (
                "subscriptions",
                f"subscriptions/{made['id']}",
                "subscriptions/new?kind=template",
            ):
                await page.goto(f"/ui/{path}")

                assert await axe(page) == []
                assert await walk_through(page) == []
