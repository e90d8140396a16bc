"""A native API that does what a script says, in the test's own event loop."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

#: Answers a request in place of the server, or returns ``None`` to let the server do it.
Step = Callable[["FakeServer", web.Request], Awaitable[web.StreamResponse | None]]


class FakeServer:
    """Keeps every event once, by source and id, in the order in which they came."""

    def __init__(self) -> None:
        self.url = ""
        self.script: deque[Step] = deque()
        #: The bodies that deployments were opened with.
        self.opened: list[dict[str, object]] = []
        #: Every event, and how many came that were there already.
        self.events: list[dict[str, object]] = []
        self.repeated = 0
        #: The plans that were staged, by change set, and how often each was.
        self.staged: dict[str, bytes] = {}
        self.stagings: list[str] = []
        self.requests: list[web.Request] = []
        #: What each connection to the stream is sent before it is closed.
        self.streams: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def ids(self) -> list[object]:
        return [event["id"] for event in self.events]

    async def start(self) -> None:
        """Listen, where it listened before."""
        app = web.Application(middlewares=[self._follow_script], client_max_size=1 << 26)
        app.router.add_post("/log/v1/deployments", self._open)
        app.router.add_get("/log/v1/deployments/{id}", self._deployment)
        app.router.add_get("/log/v1/deployments/{id}/wait", self._deployment)
        app.router.add_get("/log/v1/projects", self._projects)
        app.router.add_post("/log/v1/events", self._append)
        app.router.add_get("/log/v1/events/stream", self._stream)
        app.router.add_post("/log/v1/changesets", self._stage)
        app.router.add_get("/log/v1/changesets", self._changesets)
        app.router.add_get("/log/v1/changesets/{id}", self._changeset)
        app.router.add_get("/log/v1/changesets/{id}/changes", self._changes)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        port = int(self.url.rpartition(":")[2] or 0)
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def until(self, fact: Callable[["FakeServer"], bool]) -> None:
        """Wait for the fact."""
        async with asyncio.timeout(10):
            while not fact(self):
                self._changed.clear()
                await self._changed.wait()

    @web.middleware
    async def _follow_script(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(request)
        answer = await self.script.popleft()(self, request) if self.script else None
        answer = answer if answer is not None else await handler(request)
        self._changed.set()
        return answer

    async def _projects(self, request: web.Request) -> web.Response:
        return web.json_response({"projects": ["acme"]})

    async def _open(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["id"] not in [opened["id"] for opened in self.opened]:
            self.opened.append(body)
        return web.json_response(self._state(body["id"]), status=201)

    async def _deployment(self, request: web.Request) -> web.Response:
        return web.json_response(self._state(request.match_info["id"]))

    def _state(self, id: str) -> dict[str, object]:
        ends = [e["type"] for e in self.events if str(e["type"]).startswith("deployment.")]
        ended = {"deployment.completed": "completed", "deployment.failed": "failed"}
        return {
            "id": id, "project": "acme", "stack": "web", "stack_id": "s1",
            "status": ended.get(str(ends[-1]) if ends else "", "running"),
            "started": "2026-11-21T04:12:26.944050Z", "counts": {"added": 1},
        }  # fmt: skip

    async def _stage(self, request: web.Request) -> web.Response:
        id = await self.stage(request)
        return web.json_response(self._changeset_state(id), status=202)

    async def stage(self, request: web.Request) -> str:
        id = request.query["id"]
        self.staged.setdefault(id, await request.read())
        self.stagings.append(id)
        return id

    async def _changesets(self, request: web.Request) -> web.Response:
        return web.json_response({"changesets": [self._changeset_state(id) for id in self.staged]})

    async def _changeset(self, request: web.Request) -> web.Response:
        return web.json_response(self._changeset_state(request.match_info["id"]))

    async def _changes(self, request: web.Request) -> web.Response:
        return web.json_response({"totals": {"create": 1}, "tool_version": "1.15.0"})

    def _changeset_state(self, id: str) -> dict[str, object]:
        return {
            "id": id, "project": "acme", "stack": "web", "status": "staging", "destroy": False,
            "location": "plan.json", "tool": "terraform", "created": "2026-11-21T04:12:26.944050Z",
            "totals": {"create": 1},
        }  # fmt: skip

    async def _append(self, request: web.Request) -> web.Response:
        await self.record(request)
        return web.json_response({"events": []}, status=201)

    async def record(self, request: web.Request) -> None:
        known = {(event["source"], event["id"]) for event in self.events}
        for line in (await request.read()).splitlines():
            event = json.loads(line)
            if (event["source"], event["id"]) in known:
                self.repeated += 1
            else:
                self.events.append(event)
        self._changed.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if not self.streams:
            await asyncio.Event().wait()
        await response.write(self.streams.popleft())
        return response


def refuse(status: int, detail: str = "", *, retry_after: str | None = None) -> Step:
    """Answer with a problem."""

    async def step(server: FakeServer, request: web.Request) -> web.Response:
        problem = {"type": "urn:deploylog:problem:some-problem", "detail": detail}
        headers = {"Retry-After": retry_after} if retry_after else {}
        return web.json_response(problem, status=status, headers=headers)

    return step


async def answer(server: FakeServer, request: web.Request) -> None:
    """Let the server answer as it would without a script."""


async def cut_off(server: FakeServer, request: web.Request) -> web.Response:
    """Lose the connection before anything is recorded."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def record_and_cut_off(server: FakeServer, request: web.Request) -> web.Response:
    """Record, and lose the connection before the answer is there."""
    await server.record(request)
    return await cut_off(server, request)


async def stage_and_cut_off(server: FakeServer, request: web.Request) -> web.Response:
    """Stage, and lose the connection before the answer is there."""
    await server.stage(request)
    return await cut_off(server, request)


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """A server that listens."""
    server = FakeServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
