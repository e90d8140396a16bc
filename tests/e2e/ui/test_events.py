"""*Events*: search, histogram, both directions, live, and files to save."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import axe, new_tab
from support.hostile import MARKUP, hostile_event
from support.servers import EVENTS, Local
from support.waiting import PATIENCE, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def note(number: int, **fields: object) -> dict[str, object]:
    return {"source": "test", "type": "note.made", "message": f"number {number}", **fields}


async def record(site: Local, project: str, *events: dict[str, object]) -> list[str]:
    return await site.append(events, path=f"{EVENTS}?scope=project/{project}")


def shown(page: Page):
    return page.locator("#events li")


async def test_the_box_filters_and_its_words_are_in_the_address(site: Local, page: Page):
    await record(site, "box", note(1, actor="ada"), note(2, actor="bo"), note(3, type="note.read"))
    await page.goto("/ui/events")
    box = page.get_by_role("combobox", name="Search events")

    await box.fill("scope:project/box -actor:bo type:note.made number")
    await box.press("Enter")

    await expect(shown(page)).to_have_count(1)
    await expect(shown(page)).to_contain_text("number 1")
    assert "actor%21=bo" in page.url
    await expect(page.locator("#count")).to_have_text("1")
    await page.get_by_role("link", name="-actor:bo").click()
    await expect(shown(page)).to_have_count(2)
    await page.go_back()
    await expect(shown(page)).to_have_count(1)


async def test_the_box_suggests_names_and_values(site: Local, page: Page):
    await record(site, "suggest", note(1, actor="suggested-person"))
    await page.goto("/ui/events")
    box = page.get_by_role("combobox", name="Search events")

    await box.press_sequentially("act")
    assert await page.locator("#suggestions option").evaluate_all(
        "all => all.map(each => each.value)"
    ) == ["actor:"]
    await box.press_sequentially("or:suggested")

    option = page.locator("#suggestions option[value='actor:suggested-person']")
    await expect(option).to_have_count(1)


async def test_a_facet_narrows_the_search(site: Local, page: Page):
    await record(site, "facet", *(note(n, actor=f"actor-{n % 2}") for n in range(5)))
    await page.goto("/ui/events?scope=project/facet")
    facet = page.get_by_role("complementary").get_by_role("listitem").filter(has_text="actor-0")
    await expect(facet).to_contain_text("3")

    await facet.get_by_role("link").click()

    await expect(shown(page)).to_have_count(3)


async def test_older_events_come_by_scrolling_each_once(site: Local, page: Page):
    ids = await record(site, "scroll", *(note(number) for number in range(250)))
    await page.goto("/ui/events?scope=project/scroll")

    async with asyncio.timeout(PATIENCE):
        while await shown(page).count() < 250:
            await page.keyboard.press("End")

    found = await shown(page).evaluate_all("all => all.map(each => each.id)")
    assert found == [f"e-{id}" for id in reversed(ids)]


async def test_a_link_into_the_past_goes_on_in_both_directions(site: Local, browser: Browser):
    ids = await record(site, "both", *(note(number) for number in range(210)))
    async with new_tab(browser, site.url, java_script_enabled=False) as page:
        await page.goto(f"/ui/events?scope=project/both&before={ids[105]}")
        await expect(shown(page).first).to_have_id(f"e-{ids[104]}")

        await page.get_by_role("link", name="Newer").click()
        await expect(shown(page).last).to_have_id(f"e-{ids[105]}")
        await expect(shown(page)).to_have_count(100)
        await page.get_by_role("link", name="Older").click()
        await expect(shown(page).first).to_have_id(f"e-{ids[104]}")
        await page.get_by_role("link", name="Older").click()
        await expect(shown(page)).to_have_count(5)
        await page.get_by_role("link", name="Newest", exact=True).click()
        await expect(shown(page).first).to_have_id(f"e-{ids[-1]}")


async def test_the_address_follows_the_scroll_and_back_leads_there(site: Local, page: Page):
    ids = await record(site, "place", *(note(number) for number in range(400)))
    await page.goto("/ui/events?scope=project/place")
    async with asyncio.timeout(PATIENCE):
        while await page.locator(f"#e-{ids[150]}").count() == 0:
            # Unlike a key, it leaves no scroll under way.
            await page.evaluate("scrollTo(0, document.body.scrollHeight)")

    await page.locator(f"#e-{ids[200]}").evaluate("line => line.scrollIntoView()")
    await until(lambda: leads_into_sight(page))
    await page.locator(f"#e-{ids[199]} a.when").click()
    await expect(page.locator("h1")).to_have_text("note.made")
    await page.go_back()

    line = page.locator(f"#e-{ids[199]}")
    await expect(line).to_be_in_viewport()
    place = await line.bounding_box()
    address = page.url
    for _ in range(3):
        await line.locator("a.when").click()
        await expect(page.locator("h1")).to_have_text("note.made")
        await page.go_back()
        await expect(line).to_be_in_viewport()
    again = await line.bounding_box()
    assert place is not None
    assert again is not None
    assert abs(again["y"] - place["y"]) < 2
    assert page.url == address


async def leads_into_sight(page: Page) -> bool:
    """Whether the event after the address's cursor is on the screen."""
    return bool(
        await page.evaluate(
            """() => {
              const cursor = new URLSearchParams(location.search).get("before");
              const lines = [...document.querySelectorAll("#events li")];
              const linked = lines[lines.findIndex((each) => each.id === `e-${cursor}`) + 1];
              const { bottom, top } = linked.getBoundingClientRect();
              return cursor !== null && bottom > 0 && top < innerHeight;
            }"""
        )
    )


async def test_newer_events_come_by_scrolling_up_and_then_live(site: Local, page: Page):
    ids = await record(site, "upward", *(note(number) for number in range(250)))
    await page.goto(f"/ui/events?scope=project/upward&before={ids[50]}")
    linked = page.locator(f"#e-{ids[49]}")
    await expect(page.locator(f"#e-{ids[60]}")).to_have_count(1)
    await expect(linked).to_be_in_viewport()
    await expect(page.get_by_role("button", name="Follow live")).to_be_hidden()

    async with asyncio.timeout(PATIENCE):
        while await shown(page).count() < 250:
            await page.mouse.wheel(0, -2_000)

    found = await shown(page).evaluate_all("all => all.map(each => each.id)")
    assert found == [f"e-{id}" for id in reversed(ids)]
    await page.keyboard.press("Home")
    await expect(page.get_by_role("button", name="Follow live")).to_be_visible()
    [new] = await record(site, "upward", note(250))
    await expect(page.locator(f"#e-{new}")).to_have_count(1)


async def test_what_is_far_out_of_sight_costs_nothing_and_comes_back(site: Local, page: Page):
    ids = await record(site, "far", *(note(number) for number in range(2_500)))
    await page.goto("/ui/events?scope=project/far")
    async with asyncio.timeout(4 * PATIENCE):
        while await page.locator(f"#e-{ids[0]}").count() == 0:
            # Unlike a key, it leaves no scroll under way.
            await page.evaluate("scrollTo(0, document.body.scrollHeight)")

    far = page.locator(f"#e-{ids[-150]}")
    await expect(far).to_have_count(0)
    await page.evaluate("scrollTo(0, 0)")

    await expect(far).to_contain_text("number 2350")
    await expect(far.locator("time")).not_to_contain_text("UTC")


async def test_new_events_appear_live_each_once_and_stop_when_told(site: Local, page: Page):
    [first] = await record(site, "live-events", note(0))
    await page.goto("/ui/events?scope=project/live-events")
    await expect(page.locator("#connection")).to_have_text("Live")

    ids = await record(site, "live-events", *(note(number) for number in range(1, 240)))

    await expect(page.locator(f"#e-{ids[-1]}")).to_be_visible()
    found = await shown(page).evaluate_all("all => all.map(each => each.id)")
    assert found == [f"e-{id}" for id in (*reversed(ids), first)]
    await expect(page.locator("#count")).to_have_text("240")
    await page.get_by_role("button", name="Follow live").click()
    await record(site, "live-events", note(240))
    await expect(page.locator("#count")).to_have_text("241")
    await expect(shown(page)).to_have_count(240)
    await page.get_by_role("button", name="Follow live").click()
    await expect(shown(page)).to_have_count(241)


async def test_an_empty_list_fills_live(site: Local, page: Page):
    await page.goto("/ui/events?scope=project/empty")
    await expect(page.get_by_text("No event is found.")).to_be_visible()

    await record(site, "empty", note(1))

    await expect(shown(page)).to_have_count(1)
    await expect(page.get_by_text("No event is found.")).to_have_count(0)
    await record(site, "empty", note(2))
    await expect(shown(page)).to_have_count(2)


async def test_the_histogram_chooses_a_time(site: Local, page: Page):
    day = datetime(2026, 2, 1, tzinfo=UTC)
    hours = [note(n, time=(day + timedelta(hours=n)).isoformat()) for n in range(24)]
    await record(site, "day", *hours)
    await page.goto(
        "/ui/events?scope=project/day&since=2026-02-01T00:00:00Z&until=2026-02-02T00:00:00Z"
    )
    box = await page.locator("#histogram").bounding_box()
    assert box is not None
    await expect(shown(page)).to_have_count(24)

    await page.mouse.move(box["x"] + box["width"] * 0.49, box["y"] + 10)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.76, box["y"] + 10, steps=4)
    await page.mouse.up()

    await expect(shown(page)).to_have_count(7)
    await expect(shown(page).first).to_contain_text("number 18")
    await page.go_back()
    await expect(shown(page)).to_have_count(24)


async def test_what_is_found_can_be_saved(site: Local, page: Page):
    await record(site, "save", *(note(number) for number in range(3)), note(4, type="note.read"))
    await page.goto("/ui/events?scope=project/save&type=note.made")

    async with page.expect_download() as saving:
        await page.get_by_role("link", name="NDJSON").click()
    lines = (await (await saving.value).path()).read_text().splitlines()
    async with page.expect_download() as saving:
        await page.get_by_role("link", name="CSV").click()
    table = (await (await saving.value).path()).read_text().splitlines()

    assert [json.loads(line)["message"] for line in lines] == ["number 0", "number 1", "number 2"]
    assert len(table) == 4


@pytest.mark.parametrize(
    "query", ["type=a*b", "since=soon", "nosuch=1", "project=nosuch&stack=no", "before=x", "q=%22"]
)
async def test_a_wrong_search_says_what_is_wrong(site: Local, query: str):
    answer = await site.get(f"/ui/events?{query}")

    assert answer.status == 200
    assert b'role="alert"' in answer.body


async def test_after_a_wrong_search_the_page_counts_nothing(page: Page):
    await page.goto("/ui/events?since=soon")

    await expect(page.get_by_role("alert")).to_contain_text("since")
    for text in ("0 events", "No event is found.", "These are the oldest."):
        await expect(page.get_by_text(text)).to_be_hidden()
    await expect(page.get_by_role("button", name="Follow live")).to_be_hidden()


async def test_markup_in_events_and_in_the_search_is_text(site: Local, page: Page):
    await record(site, "hostile", hostile_event())
    await page.goto("/ui/events?scope=project/hostile")
    await expect(shown(page)).to_contain_text(MARKUP)

    await page.goto("/ui/events?q=%3Cscript%3Ealert(1)%3C/script%3E&actor=%22%3E%3Cb%3E")

    await expect(page.locator("main script, main b, main img")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(site: Local, browser: Browser, scheme: str):
    await record(site, "axe-events", note(1, actor="ada"), note(2, type="deployment.error"))
    async with new_tab(browser, site.url, color_scheme=scheme) as page:
        for query in ("scope=project/axe-events", "q=nothing-like-it", "since=soon"):
            await page.goto(f"/ui/events?{query}")

            assert await axe(page) == []
