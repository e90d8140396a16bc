"""Servers: the real service, in the test's own event loop or in a process of its own."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvicorn
from yarl import URL

from deploylog.auth.sns import Fetch, fetch_from_sns
from deploylog.events.hub import Hub
from deploylog.server.app import Application, create_app
from deploylog.server.connection import Connection
from deploylog.server.connection_limits import limits_of
from deploylog.server.connections import Connections
from deploylog.server.fast_append import fast_protocol
from deploylog.server.listeners import bind
from deploylog.server.metrics import Metrics
from deploylog.server.serve import Server
from deploylog.server.settings import load_settings
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.clock import Clock
from support.forked import Forked, fork
from support.waiting import PATIENCE, until

#: Forked, or started from nothing.
Process = Forked | asyncio.subprocess.Process

BATCH = "application/cloudevents-batch+json"
ONE = "application/cloudevents+json"
LINES = "application/x-ndjson"
EVENTS = "/log/v1/events"
STREAM = "/log/v1/events/stream"
DEPLOYMENTS = "/log/v1/deployments"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.json["events"]]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a stream, up to its empty line."""

    raw: bytes
    id: str | None = None
    event: str | None = None
    data: Any = None


def parse_frame(raw: bytes) -> Frame:
    """The block's fields."""
    fields = dict(line.split(": ", 1) for line in raw.decode().splitlines() if ": " in line)
    data = fields.get("data")
    return Frame(
        raw=raw,
        id=fields.get("id"),
        event=fields.get("event"),
        data=json.loads(data) if data is not None else None,
    )


class Stream:
    """A stream as its reader sees it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        #: The id that a reader would come back with.
        self.last_id: str | None = None
        self._received = bytearray()

    async def block(self) -> Frame | None:
        """The next block, whatever it is; ``None`` at the end. Lines that need no block of their
        own, comments and ``retry``, come by themselves.
        """
        while not (raw := self._take_block()):
            async with asyncio.timeout(PATIENCE):
                chunk = await self.response.content.readany()
            if not chunk:
                assert not self._received, f"the stream ended within {bytes(self._received)!r}"
                return None
            self._received += chunk
        return parse_frame(raw)

    def _take_block(self) -> bytes:
        """The next block if it has been received, or nothing."""
        end = b"\n" if self._received.startswith((b":", b"retry:")) else b"\n\n"
        size = self._received.find(end) + len(end)
        raw = bytes(self._received[:size]) if size >= len(end) else b""
        del self._received[: len(raw)]
        return raw

    async def next(self) -> Frame:
        """The next event."""
        while (frame := await self.block()) is not None:
            if frame.data is not None:
                self.last_id = frame.id or self.last_id
                return frame
        raise AssertionError("the stream ended")

    async def take(self, number: int) -> list[str]:
        """The ids of the next events."""
        return [(await self.next()).data["id"] for _ in range(number)]


class Running:
    """A service that listens, and a client of it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def ask(self, method: str, path: str | URL, **how: Any) -> Answer:
        async with asyncio.timeout(PATIENCE), self.http.request(method, path, **how) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=headers, body=await response.read())

    async def get(self, path: str | URL, **how: Any) -> Answer:
        return await self.ask("GET", path, **how)

    async def post(
        self, body: bytes | str | object, type: str = LINES, path: str = EVENTS, **how: Any
    ) -> Answer:
        """Post ``body``, as JSON unless it is bytes or text."""
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {"Content-Type": type, **how.pop("headers", {})}
        return await self.ask("POST", path, data=data, headers=headers, **how)

    async def append(self, events: Sequence[object], path: str = EVENTS) -> list[str]:
        """Append ``events``; their ids."""
        answer = await self.post("\n".join(map(json.dumps, events)), path=path)
        assert answer.status == 201, answer.body
        return answer.ids

    async def open(self, stack: str = "web", **fields: object) -> Any:
        """Open a deployment."""
        body = {"project": "acme", "stack": stack, **fields}
        answer = await self.post(body, "application/json", DEPLOYMENTS)
        assert answer.status == 201, answer.body
        return answer.json

    @asynccontextmanager
    async def stream(
        self, query: str = "", *, headers: dict[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE)
        path = f"{STREAM}?{query}" if query else STREAM
        async with self.http.get(path, headers=headers, timeout=timeout) as response:
            assert response.status == 200, await response.read()
            yield Stream(response)


class Local(Running):
    """One in this process: its parts can be looked at."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        store: Store,
        hub: Hub,
        connections: Connections,
    ) -> None:
        super().__init__(url, http)
        self.store = store
        self.hub = hub
        self.connections = connections

    @property
    def open_connections(self) -> list[Connection]:
        return [each for each in self.connections._open if isinstance(each, Connection)]

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for the fact."""
        await until(fact)


class _Server(Server):
    """Says when it is up, stops at once, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config, application)
        self.up = asyncio.Event()
        self.stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own, which ``tests/e2e`` sees, sleeps for 0.1 s in every test.
        self._application.end_streams()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await until(lambda: not (self.server_state.connections or self.server_state.tasks))


@asynccontextmanager
async def running(
    store: Store,
    *,
    clock: Clock | None = None,
    fetch: Fetch = fetch_from_sns,
    is_fast: bool = True,
    **options: object,
) -> AsyncIterator[Local]:
    """The service over ``store``; ``options`` are settings. Deliveries go by ``clock``, ``fetch``
    asks SNS. Without ``is_fast``, all requests are answered through ASGI.
    """
    clock = clock or Clock()
    settings = load_settings({"port": 0, **options}, environ={}, config=None)
    listener = bind(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    metrics = Metrics()
    connections = Connections(limits_of(settings), metrics.turned_away)
    alive = create_app(store, settings, metrics, clock=clock.now, wait=clock.wait, fetch=fetch)
    async with alive as application, connections.watching():
        config = uvicorn.Config(
            application.asgi,
            http=fast_protocol(connections, application.append if is_fast else None),
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        server = _Server(config, application)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(PATIENCE):
                await server.up.wait()
            async with _session(url) as http:
                yield Local(url, http, store, application._hub, connections)
        finally:
            server.stop.set()
            await serving


def _session(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))


_PROGRAM = """
import json, sys
from importlib import import_module
from deploylog.server.serve import serve
from deploylog.server.settings import load_settings
from deploylog.subscriptions.delivery.dispatcher import Pacing

for name, value in json.loads(sys.argv[2]).items():
    module, _, constant = name.rpartition(".")
    assert hasattr(import_module(module), constant), name
    setattr(import_module(module), constant, value)
settings = load_settings(json.loads(sys.argv[1]), environ={}, config=None)
serve(settings, pacing=Pacing(**json.loads(sys.argv[3])))
"""


class Spawned(Running):
    """One in a process of its own."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        process: Process,
        said: str = "",
    ) -> None:
        super().__init__(url, http)
        self.process = process
        #: What it logged until it listened.
        self.said = said

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send the signal; the exit code, and what the process said from then on."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            _, said = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()


@asynccontextmanager
async def spawned(
    store_url: str,
    *,
    constants: Mapping[str, object] | None = None,
    pacing: Mapping[str, float] | None = None,
    program: Path | None = None,
    **options: object,
) -> AsyncIterator[Spawned]:
    """The service over the store at ``store_url``, in a process of its own; ``options`` are
    settings, ``constants`` what modules have there instead, by their whole names, ``pacing`` the
    fields of ``Pacing``, and ``program`` the folder to import it from, if it is another one.
    """
    chosen = {"port": 0, "store": store_url, **options}
    arguments = [json.dumps(each) for each in (chosen, constants or {}, pacing or {})]
    process = await (_start(program, arguments) if program else fork(*arguments, program=_PROGRAM))
    try:
        url, said = await _announced(process)
        async with _session(url) as http:
            yield Spawned(url, http, process, said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _start(program: Path, arguments: Sequence[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(program)},
    )  # fmt: skip


async def _announced(process: Process) -> tuple[str, str]:
    """The address that the process says it listens on, and all that it said so far."""
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stderr.readline()).decode():
            said += line
            if "listening on " in line:
                return line.partition("listening on ")[2].partition(",")[0], said
    raise AssertionError(f"the service did not start: {said}")


def line(type: str = "resource.create.started", **attributes: object) -> dict[str, object]:
    """An event as a producer sends it."""
    return {"type": type, "source": "terraform", "scopes": "project/acme", **attributes}


def event(type: str = "resource.create.started", **attributes: object) -> dict[str, object]:
    """A CloudEvent with all that structured mode asks for."""
    return line(type, **{"specversion": "1.0", "id": "1", **attributes})
