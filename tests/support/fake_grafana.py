"""A Grafana server, as far as its annotations: what its documentation says that it checks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

TOKEN = "glsa_good"

#: The members of an annotation in a request, and their types.
_MEMBERS: dict[str, type] = {
    "text": str, "tags": list, "time": int, "timeEnd": int, "dashboardUID": str, "panelId": int,
}  # fmt: skip


class FakeGrafana:
    """Keeps annotations; ``errors`` are the statuses of the next responses."""

    def __init__(self) -> None:
        self.url = ""
        self.annotations: dict[int, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.errors: list[int] = []
        #: Whether the next response gets lost after its request was done.
        self.loses_next = False
        self._number = 40

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/grafana/api/annotations", self._find)
        application.router.add_post("/grafana/api/annotations", self._create)
        application.router.add_patch("/grafana/api/annotations/{id}", self._patch)
        return application

    async def _find(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        wanted = set(request.query.getall("tags", []))
        found = [
            {"id": id, **each}
            for id, each in self.annotations.items()
            if wanted <= set(each["tags"])
        ]
        return web.json_response(found[: int(request.query.get("limit", "100"))])

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if refusal := self._refusal(request) or _problem(body, required=("text",)):
            return refusal
        self._number += 1
        self.annotations[self._number] = body
        if self.loses_next:
            self.loses_next = False
            return web.Response(status=502)
        return web.json_response({"message": "Annotation added", "id": self._number})

    async def _patch(self, request: web.Request) -> web.Response:
        body = await request.json()
        id = int(request.match_info["id"])
        if refusal := self._refusal(request) or _problem(body):
            return refusal
        if id not in self.annotations:
            return web.json_response({"message": "Annotation not found"}, status=404)
        self.annotations[id] |= body
        return web.json_response({"message": "Annotation patched"})

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.requests.append(request.method)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "Invalid API key"}, status=401)
        if self.errors:
            return web.json_response({"message": "no"}, status=self.errors.pop(0))
        return None


def _problem(body: Any, required: tuple[str, ...] = ()) -> web.Response | None:
    is_good = (
        isinstance(body, dict)
        and all(body.get(name) for name in required)
        and all(type(value) is _MEMBERS.get(name) for name, value in body.items())
        and body.get("timeEnd", body.get("time", 0)) >= body.get("time", 0)
        and all(isinstance(tag, str) and len(tag) <= 100 for tag in body.get("tags", ()))
    )
    return None if is_good else web.json_response({"message": "bad request data"}, status=400)


@asynccontextmanager
async def fake_grafana() -> AsyncIterator[FakeGrafana]:
    """Run a Grafana server below a path, as behind a proxy."""
    grafana = FakeGrafana()
    runner = web.AppRunner(grafana.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        grafana.url = f"http://{host}:{port}/grafana/"
        yield grafana
    finally:
        await runner.cleanup()
