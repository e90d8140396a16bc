"""How the pages feel with much on them: events scrolled, resources zoomed, a search over a million.

A frame that takes more than 50 ms is felt. ``wall`` is what a person sees on this machine, which
the browser, the service and its store share with everything else that runs on it. ``cpu`` is the
time that the page's own thread worked on a task: on an idle machine the two are close. ``first
load`` is what a browser without any cache asks for to show the events.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from playwright.async_api import BrowserContext, Page, async_playwright

from bench import servers

_EVENTS = 20_000
_RESOURCES = 2_000
_SEARCHED = 1_000_000
_BATCH = 2_000
_FELT_MS = 50

_TRACED = ["toplevel", "disabled-by-default-devtools.timeline"]

_WATCH = """() => {
  window.frames_ = [];
  let last = performance.now();
  const next = (now) => { frames_.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""

Act = Callable[[Page], Awaitable[None]]


async def _fill(http: aiohttp.ClientSession) -> str:
    """Record a deployment of that many resources and events; its id."""
    began = datetime.now(UTC) - timedelta(hours=1)
    asked = {"project": "bench", "stack": "pages", "started": began.isoformat()}
    async with http.post("/log/v1/deployments", json=asked) as answer:
        id = str((await answer.json())["id"])
    await _record(http, f"deployment={id}", _EVENTS, lambda number: _event(number, began))
    return id


async def _fill_for_search(http: aiohttp.ClientSession) -> None:
    """Record that many more, of which one in 10,000 says something rare."""
    began = datetime.now(UTC) - timedelta(days=7)
    await _record(http, "scope=project/search", _SEARCHED, lambda number: _note(number, began))


async def _record(
    http: aiohttp.ClientSession, place: str, events: int, render: Callable[[int], object]
) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    for first in range(0, events, _BATCH):
        lines = "\n".join(json.dumps(render(number)) for number in range(first, first + _BATCH))
        path = f"/log/v1/events?{place}&source=bench"
        async with http.post(path, data=lines, headers=headers) as answer:
            assert answer.status == 201, await answer.text()


def _event(number: int, began: datetime) -> object:
    """Each resource starts, makes progress, and completes."""
    resource, step = number % _RESOURCES, number // _RESOURCES
    phase = {0: "started", _EVENTS // _RESOURCES - 1: "completed"}.get(step, "progress")
    at = began + timedelta(seconds=resource * 0.2 + step * 3)
    return {
        "type": f"resource.create.{phase}",
        "time": at.isoformat(),
        "resourcetype": "server",
        "resourcename": f"number-{resource}",
        "message": f"server.number-{resource}: {phase}",
    }


def _note(number: int, began: datetime) -> object:
    is_rare = number % 10_000 == 0
    return {
        "type": "deployment.log",
        "time": (began + timedelta(seconds=number * 0.6)).isoformat(),
        "actor": f"actor-{number % 50}",
        "message": f"{'quota exceeded' if is_rare else 'step done'} in run {number % 977}",
    }


async def _scroll(page: Page) -> None:
    await page.mouse.move(500, 600)
    while await page.evaluate("document.getElementById('older') !== null"):
        for _ in range(6):
            await page.mouse.wheel(0, 3000)
            await page.wait_for_timeout(16)


async def _zoom(page: Page) -> None:
    await page.locator(".chart .track").focus()
    for key, times in (("+", 8), ("ArrowRight", 10), ("-", 8)):
        for _ in range(times):
            await page.keyboard.press(key)
            await page.wait_for_timeout(50)
    await page.mouse.move(700, 600)
    for _ in range(40):
        await page.mouse.wheel(0, 800)
        await page.wait_for_timeout(30)


async def _scroll_found(page: Page) -> None:
    """A look through what a search found."""
    await page.mouse.move(500, 600)
    for _ in range(100):
        await page.mouse.wheel(0, 1500)
        await page.wait_for_timeout(16)


async def _search(context: BrowserContext) -> dict[str, Any]:
    """Seconds from the return key until the results are shown, and the frames while they scroll."""
    page = await context.new_page()
    await page.goto("/ui/events?scope=project/search")
    found = {}
    for text in ("step done", '"quota exceeded"', "actor:actor-7 step", "-actor:actor-7"):
        box = page.get_by_role("combobox", name="Search events")
        await box.fill(f"scope:project/search {text}")
        started = time.monotonic()
        async with page.expect_navigation(wait_until="commit"):
            await box.press("Enter")
        await page.locator("#events li").first.wait_for()
        count = await page.locator("#count").text_content()
        found[text] = {"seconds": round(time.monotonic() - started, 2), "found": count}
    await page.close()
    return found


async def _frames(context: BrowserContext, url: str, act: Act) -> dict[str, Any]:
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_timeout(1_500)
    await page.evaluate(_WATCH)
    started = time.monotonic()
    tasks = await _main_thread(page, act)
    seconds = time.monotonic() - started
    frames = await page.evaluate("frames_")
    await page.close()
    return {"seconds": round(seconds, 1), "wall": _longest(frames), "cpu": _longest(tasks)}


def _longest(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "number": len(times),
        "p99_ms": round(times[int(len(times) * 0.99)], 1),
        "longest_ms": round(times[-1], 1),
        "felt": sum(each > _FELT_MS for each in times),
    }


async def _main_thread(page: Page, act: Act) -> list[float]:
    """Do ``act``; the ms that the page's main thread worked on each of its tasks."""
    session = await page.context.new_cdp_session(page)
    events: list[Any] = []
    complete = asyncio.Event()
    session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    session.on("Tracing.tracingComplete", lambda _: complete.set())
    await session.send("Tracing.start", {"traceConfig": {"includedCategories": _TRACED}})
    await act(page)
    await session.send("Tracing.end")
    await complete.wait()
    return _busiest(events)


def _busiest(events: list[Any]) -> list[float]:
    """The tasks of the main thread that worked most: that of the page, not of an empty tab."""
    mains = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    by_thread: dict[tuple[int, int], list[float]] = {main: [] for main in mains}
    for each in events:
        thread = (each["pid"], each["tid"])
        if thread in by_thread and each["name"] == "RunTask" and "tdur" in each:
            by_thread[thread].append(each["tdur"] / 1000)
    return max(by_thread.values(), key=sum)


async def _first_load(context: BrowserContext, url: str) -> dict[str, int]:
    page = await context.new_page()
    answers: list[Any] = []
    page.on("requestfinished", lambda request: answers.append(request))
    await page.goto(url)
    sizes = [await each.sizes() for each in answers]
    await page.close()
    return {"requests": len(sizes), "bytes": sum(max(s["responseBodySize"], 0) for s in sizes)}


async def main(parts: list[str]) -> None:
    """Measure ``parts`` of: load, scroll, zoom, search; all by default."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "needs Chromium; on Debian: apt-get install chromium"
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with (
        servers.deploylog() as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http,
        async_playwright() as playwright,
    ):
        id = await _fill(http)
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        context = await browser.new_context(
            base_url=f"http://127.0.0.1:{server.port}", viewport={"width": 1280, "height": 800}
        )
        context.set_default_timeout(60_000)

        async def measure(name: str) -> dict[str, Any]:
            if name == "load":
                return await _first_load(context, "/ui/events?scope=project/bench")
            if name == "scroll":
                return await _frames(context, "/ui/events?scope=project/bench", _scroll)
            if name == "zoom":
                return await _frames(context, f"/ui/deployments/{id}", _zoom)
            await _fill_for_search(http)
            url = "/ui/events?scope=project/search&q=step"
            return {
                **await _search(context),
                "scroll": await _frames(context, url, _scroll_found),
            }

        for name in parts or ["load", "scroll", "zoom", "search"]:
            found = await measure(name)
            busy = {"load average": round(os.getloadavg()[0], 1)}
            print(json.dumps({name: found, **busy}), flush=True)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
