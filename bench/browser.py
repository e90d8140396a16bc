"""How the pages feel with much on them: frames while 20,000 events scroll and 2,000 resources zoom.

A frame that takes more than 50 ms is felt. ``first load`` is what a browser without any cache asks
for to show the events. The machine must be idle: the browser, the service and its store share it.
"""

import asyncio
import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from playwright.async_api import Page, async_playwright

from bench import servers

_EVENTS = 20_000
_RESOURCES = 2_000
_BATCH = 2_000
_FELT_MS = 50

_WATCH = """() => {
  window.frames_ = [];
  let last = performance.now();
  const next = (now) => { frames_.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""


async def _fill(http: aiohttp.ClientSession) -> str:
    """Record a deployment of that many resources and events; its id."""
    began = datetime.now(UTC) - timedelta(hours=1)
    asked = {"project": "bench", "stack": "pages", "started": began.isoformat()}
    async with http.post("/log/v1/deployments", json=asked) as answer:
        id = str((await answer.json())["id"])
    path = f"/log/v1/events?deployment={id}&source=bench"
    for first in range(0, _EVENTS, _BATCH):
        lines = "\n".join(_event(number, began) for number in range(first, first + _BATCH))
        kind = {"Content-Type": "application/x-ndjson"}
        async with http.post(path, data=lines, headers=kind) as answer:
            assert answer.status == 201, await answer.text()
    return id


def _event(number: int, began: datetime) -> str:
    """Each resource starts, makes progress, and completes."""
    resource, step = number % _RESOURCES, number // _RESOURCES
    phase = {0: "started", _EVENTS // _RESOURCES - 1: "completed"}.get(step, "progress")
    at = began + timedelta(seconds=resource * 0.2 + step * 3)
    return json.dumps(
        {
            "type": f"resource.create.{phase}",
            "time": at.isoformat(),
            "resourcetype": "server",
            "resourcename": f"number-{resource}",
            "message": f"server.number-{resource}: {phase}",
        }
    )


async def _scroll(page: Page) -> None:
    await page.mouse.move(500, 600)
    while await page.locator("#events li").count() < _EVENTS:
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


async def _frames(page: Page, url: str, act: Any) -> dict[str, Any]:
    await page.goto(url)
    await page.wait_for_timeout(1_500)
    await page.evaluate(_WATCH)
    started = time.monotonic()
    await act(page)
    seconds = time.monotonic() - started
    frames = sorted(await page.evaluate("frames_"))
    return {
        "seconds": round(seconds, 1),
        "frames": len(frames),
        "p99_ms": round(frames[int(len(frames) * 0.99)], 1),
        "longest_ms": round(frames[-1], 1),
        "felt": sum(each > _FELT_MS for each in frames),
    }


async def _first_load(page: Page, url: str) -> dict[str, int]:
    answers: list[Any] = []
    page.on("requestfinished", lambda request: answers.append(request))
    await page.goto(url)
    sizes = [await each.sizes() for each in answers]
    return {"requests": len(sizes), "bytes": sum(max(s["responseBodySize"], 0) for s in sizes)}


async def main() -> None:
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
        events = "/ui/events?project=bench"
        print(json.dumps({"first load": await _first_load(await context.new_page(), events)}))
        for name, url, act in (
            (f"scroll {_EVENTS} events", events, _scroll),
            (f"zoom {_RESOURCES} resources", f"/ui/deployments/{id}", _zoom),
        ):
            print(json.dumps({name: await _frames(await context.new_page(), url, act)}))
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
